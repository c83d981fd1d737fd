"""Random effects over centres against published numbers."""

from __future__ import annotations

import numpy as np
import pytest

from gcsam_med.metrics.meta import random_effects

# Log relative risks of 13 trials of BCG vaccine: Colditz et al., JAMA 271 (1994) 698; the counts are those of
# the data set dat.bcg of the R package metafor. Vaccinated: cases, others; control: cases, others.
BCG = np.array(
    [
        (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619),
        (33, 5036, 47, 5761), (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892),
        (29, 7470, 45, 7232), (17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338),
        (27, 16886, 29, 17825),
    ]
)  # fmt: skip


def bcg() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T.astype(float)
    return np.log(a / (a + b) / (c / (c + d))), np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))


def test_dersimonian_laird_and_hartung_knapp_as_published() -> None:
    """Oracle: metafor on dat.bcg, log relative risks, method DL.

    Mean -0.7141, tau2 0.3088, I2 92.1173 %: metafor's own test against Stata's metan
    (tests/testthat/test_misc_metan_vs_rma.uni_with_dat.bcg.r). With test="knha": -1.1078 to -0.3204
    (Viechtbauer, "R code corresponding to the book Introduction to Meta-Analysis by Borenstein et al.
    (2009)", wviechtb.github.io/meta_analysis_books/borenstein2009.html).
    """
    found = random_effects(*bcg())
    assert found.mean.value == pytest.approx(-0.7141, abs=5e-5)
    assert found.tau**2 == pytest.approx(0.3088, abs=5e-5)
    assert found.i2 == pytest.approx(0.921173, abs=5e-7)
    assert found.mean.ci95 == pytest.approx((-1.1078, -0.3204), abs=5e-5)


def test_prediction_interval_is_that_of_higgins() -> None:
    """Oracle: eq. 12 by hand from metafor's mean, its error 0.1787 (plain) and tau2; t(11) = 2.201.

    metafor itself takes a normal quantile there, so its printed intervals are other ones.
    """
    found = random_effects(*bcg())
    reach = 2.20099 * np.sqrt(0.3088 + 0.1787**2)
    assert found.prediction == pytest.approx((-0.7141 - reach, -0.7141 + reach), abs=2e-3)


def test_centres_of_random_sizes_as_in_statsmodels() -> None:
    """Oracle: statsmodels' DerSimonian-Laird and its interval with estimated scale (Hartung-Knapp)."""
    from statsmodels.stats.meta_analysis import combine_effects

    values, errors = bcg()
    found = random_effects(values, errors)
    wanted = combine_effects(values, errors**2, method_re="dl", use_t=True)
    assert found.mean.value == pytest.approx(wanted.mean_effect_re)
    half = found.mean.ci95[1] - found.mean.value
    assert half == pytest.approx(2.178813 * wanted.sd_eff_w_re_hksj, rel=1e-6)


def test_centres_that_agree_have_no_variance_between_them() -> None:
    """Oracle: the fixed-effect mean, by hand: equal errors, so the plain mean; normal interval at least."""
    found = random_effects([0.80, 0.81, 0.79], [0.05, 0.05, 0.05])
    assert found.tau == 0
    assert found.mean.value == pytest.approx(0.80)
    assert found.mean.ci95 == pytest.approx(
        (0.8 - 1.96 * 0.05 / 3**0.5, 0.8 + 1.96 * 0.05 / 3**0.5), abs=1e-5
    )
    assert random_effects([0.1, 0.2], [0.1, 0.1]).prediction is None


@pytest.mark.parametrize("errors", [[0.1], [0.1, 0.0], [0.1, float("nan")]])
def test_what_cannot_be_summarised_is_refused(errors: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two centres"):
        random_effects([0.5] * len(errors), errors)

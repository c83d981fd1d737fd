import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gcsam_med.config import EvaluateOptions
from gcsam_med.errors import EnvironmentFault, InputError
from gcsam_med.evaluation import segmentation
from gcsam_med.evaluation.context import open_evaluation
from gcsam_med.evaluation.segmentation import choose_measuring, measure
from gcsam_med.metrics.operating_point import THRESHOLDS, best_dice_threshold, dice_by_threshold
from gcsam_med.metrics.segmentation import MaskPair, dice
from gcsam_med.metrics.summary import measure_case, segmentation_estimates
from tests.builders import copied_run, make_prepared


@settings(max_examples=60, deadline=None)
@given(
    probability=hnp.arrays(np.float32, (9, 7), elements=st.floats(0, 1, width=32)),
    truth=hnp.arrays(bool, (9, 7)).filter(lambda t: bool(t.any())),
)
def test_dice_by_threshold_is_dice_at_each_threshold(probability, truth):
    """Oracle: metrics.segmentation.dice of the mask at each threshold."""
    # A value within rounding of a threshold may fall to either side of it.
    probability = np.where(np.abs(probability * 50 - np.round(probability * 50)) < 1e-3, 0.013, probability)
    expected = [dice(MaskPair(probability >= t, truth)) for t in THRESHOLDS]
    np.testing.assert_allclose(dice_by_threshold(probability, truth), expected, atol=1e-12)


def test_exact_thresholds_count_as_foreground():
    """Oracle: "from this threshold on", by hand: 0.58 is foreground at 0.58 and background at 0.60."""
    probability = np.array([[0.58, 0.0]], dtype=np.float32)
    truth = np.array([[True, False]])
    found = dice_by_threshold(probability, truth)
    assert found[np.isclose(THRESHOLDS, 0.58)] == 1
    assert found[np.isclose(THRESHOLDS, 0.60)] == 0


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (np.where(THRESHOLDS > 0.69, 0.8, 0.5), 0.7),
        (np.full(len(THRESHOLDS), 0.4), 0.5),
        (np.where(THRESHOLDS < 0.21, 0.9, 0.1), 0.2),
    ],
)
def test_threshold_of_highest_mean_dice_nearest_to_half(mean, expected):
    """Oracle: by hand; of equally good thresholds the one nearest to 0.5."""
    sweep = np.stack([mean + 0.05, mean - 0.05])
    assert best_dice_threshold(sweep) == pytest.approx(expected)


def test_units_are_never_mixed(tmp_path):
    """Oracle: the contract, mm only where every case's spacing is known."""
    known = make_prepared(tmp_path / "a", n=6, spacing="0.1x0.2")
    rows = np.arange(6)
    how = choose_measuring(known, rows, EvaluateOptions())
    assert (how.unit, how.tolerance, how.spacing(known, 0)) == ("mm", 1.0, (0.1, 0.2))
    known.manifest.loc[3, "pixel_spacing"] = ""
    how = choose_measuring(known, rows, EvaluateOptions())
    assert (how.unit, how.tolerance, how.spacing(known, 0)) == ("px", 2.0, (1.0, 1.0))


def test_a_perfect_mask_finds_every_lesion_in_spite_of_annotation_dust(tmp_path):
    """Oracle: the truth itself, letterboxed and brought back; a speck of one pixel is lost on the way."""
    dataset = make_prepared(tmp_path, n=6, classes=("benign",), size=24)
    for row in range(6):
        path = dataset.root / "original_masks" / f"{row:06d}.png"
        mask = np.asarray(Image.open(path)).copy()
        mask[0, 0] = True
        Image.fromarray(mask).save(path)

    def found(**options):
        how = choose_measuring(dataset, np.arange(6), EvaluateOptions(**options))
        cases = []
        for row in range(6):
            truth, geometry = dataset.original_mask(row), dataset.geometry(row)
            back = geometry.restore(geometry.place_mask(truth).astype(np.float32)) >= 0.5
            cases.append(measure_case(how.pair(back, truth, how.spacing(dataset, row))))
        return segmentation_estimates(cases, range(6), np.random.default_rng(0))["lesion_sensitivity"]

    assert found(min_lesion=0).value == 0.5  # 6 of 12 regions
    assert found(min_lesion=1e-3).value == 1.0
    with pytest.raises(InputError, match="pixel spacing"):
        found(min_lesion_mm2=4)


def test_metrics_are_the_same_with_any_number_of_processes(tmp_path):
    """Oracle: one process."""
    context = open_evaluation(copied_run(tmp_path, "segmentation"), "test", device="cpu")
    how = choose_measuring(context.dataset, context.selection.rows, EvaluateOptions())
    options = {"batch_size": 4, "min_area": 5, "extra": ("assd",)}
    alone, together = (measure(context, 0.4, how, workers=n, **options) for n in (1, 2))
    assert alone.cases == together.cases
    assert alone.options == together.options
    np.testing.assert_array_equal(alone.sweep, together.sweep)
    np.testing.assert_array_equal(alone.ceiling, together.ceiling)


def test_a_process_that_dies_ends_the_evaluation_with_advice(tmp_path, monkeypatch):
    """Oracle: the text; a process that is killed, as where memory runs out."""
    context = open_evaluation(copied_run(tmp_path, "segmentation"), "test", device="cpu")
    how = choose_measuring(context.dataset, context.selection.rows, EvaluateOptions())
    monkeypatch.setattr(segmentation, "_as_stored", lambda *_: _Killer())
    with pytest.raises(EnvironmentFault, match="memory"):
        measure(context, 0.4, how, workers=2, batch_size=None)


class _Killer:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (9,)

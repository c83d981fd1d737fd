"""Operating points against every threshold tried."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcsam_med.errors import InputError
from gcsam_med.metrics.operating_point import choose_threshold

CASES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, np.nextafter(0.5, 1), 0.9, 1.0])),
    min_size=2,
    max_size=20,
)


def reached(truth, p, threshold):
    called = p >= threshold
    return called[truth].mean(), 1 - called[~truth].mean()


@settings(max_examples=80, deadline=None)
@given(CASES, st.sampled_from([None, ("sensitivity", 0.9), ("sensitivity", 1.0), ("specificity", 0.8)]))
def test_no_threshold_does_better(pairs, wish):
    """Oracle: every score, and one above all, tried as a threshold under the rule."""
    truth, p = np.array([t for t, _ in pairs]), np.array([s for _, s in pairs])
    if truth.all() or not truth.any():
        with pytest.raises(InputError, match="both positive and negative"):
            choose_threshold(truth, p)
        return
    rule, target = wish or ("youden", None)
    point = choose_threshold(truth, p, rule, target)
    sens, spec = reached(truth, p, point.threshold)
    # What it says it reached is what its threshold does reach.
    assert (point.sensitivity, point.specificity) == pytest.approx((sens, spec))
    tried = [reached(truth, p, t) for t in (*np.unique(p), 2.0)]
    if rule == "youden":
        assert sens + spec == pytest.approx(max(a + b for a, b in tried))
    elif rule == "sensitivity":
        assert sens >= target - 1e-12
        assert spec == pytest.approx(max(b for a, b in tried if a >= target - 1e-12))
    else:
        assert spec >= target - 1e-12
        assert sens == pytest.approx(max(a for a, b in tried if b >= target - 1e-12))


def test_threshold_lies_in_the_middle_of_the_widest_gap():
    """Oracle: by hand; 0.35 separates as well as 0.2 or 0.5 do, and is the farthest from both."""
    point = choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.5, 0.9])
    assert point.threshold == pytest.approx(0.35)
    assert (point.sensitivity, point.specificity, point.target) == (1.0, 1.0, None)
    # Nothing may be called: above the highest score, halfway to 1.
    assert choose_threshold([1, 0], [0.2, 0.6], "specificity", 1.0).threshold == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("rule", "target", "what"),
    [
        ("yuden", None, "Did you mean 'youden'"),
        ("youden", 0.9, "no target"),
        ("sensitivity", None, "a target"),
        ("specificity", 1.5, "a target"),
    ],
)
def test_rules_that_do_not_hold_together_are_refused(rule, target, what):
    """Oracle: the contract."""
    with pytest.raises(InputError, match=what):
        choose_threshold([0, 1], [0.2, 0.8], rule, target)

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
@given(CASES)
def test_no_threshold_does_better(pairs):
    """Oracle: every score, and one above all, tried as a threshold."""
    truth, p = np.array([t for t, _ in pairs]), np.array([s for _, s in pairs])
    if truth.all() or not truth.any():
        with pytest.raises(InputError, match="both positive and negative"):
            choose_threshold(truth, p)
        return
    threshold = choose_threshold(truth, p)
    tried = [sum(reached(truth, p, t)) for t in (*np.unique(p), 2.0)]
    assert sum(reached(truth, p, threshold)) == pytest.approx(max(tried))


def test_threshold_lies_in_the_middle_of_the_widest_gap():
    """Oracle: by hand; 0.35 separates as well as 0.2 or 0.5 do, and is the farthest from both."""
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.5, 0.9]) == pytest.approx(0.35)

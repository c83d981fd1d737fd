"""The form of a result: what metrics.json wants, and what it must never hold."""

import json

import pytest

from gcsam_med.metrics.intervals import Estimate


def test_entry_of_metrics_json():
    """Oracle: the contract's {"value", "ci95", "n"}, with the method beside it."""
    entry = Estimate(0.8, (0.7, 0.9), 12, "Wilson").to_json()
    assert json.loads(json.dumps(entry)) == {"value": 0.8, "ci95": [0.7, 0.9], "n": 12, "method": "Wilson"}
    missing = Estimate.undefined("no positive cases", 3).to_json()
    assert missing == {
        "value": None,
        "ci95": None,
        "n": 3,
        "method": "none",
        "reason": "no positive cases",
    }


@pytest.mark.parametrize(
    ("value", "ci95", "reason"),
    [
        (float("nan"), None, "why"),
        (float("inf"), None, "why"),
        (0.5, (float("nan"), 1.0), ""),
        (0.5, (0.9, 0.1), ""),
        (None, (0.1, 0.2), "why"),
        (None, None, ""),
        (0.5, None, ""),
    ],
)
def test_what_an_estimate_refuses(value, ci95, reason):
    """Oracle: the contract; NaN is not JSON, and nothing is missing without a reason."""
    with pytest.raises(ValueError, match=r"estimate|interval"):
        Estimate(value, ci95, 1, "x", reason)

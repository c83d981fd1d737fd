import pytest

from gcsam_med.metrics.intervals import Estimate
from gcsam_med.reporting.text import count, estimate_text, interval, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.12345, "0.123"),
        (-0.5, "-0.500"),
        (12.345, "12.3"),
        (156.4, "156"),
        (-12345.6, "-12,346"),
    ],
)
def test_numbers_as_people_read_them(value, text):
    """Oracle: by hand."""
    assert number(value) == text


def test_a_metric_shows_its_interval_or_why_there_is_none():
    """Oracle: by hand."""
    assert estimate_text(Estimate(0.5, (0.4, 0.6), 9, "Wilson")) == "0.500 (95 % CI 0.400 to 0.600)"
    assert estimate_text(Estimate(0.5, None, 1, "none", "one group")) == "0.500 (no interval: one group)"
    assert estimate_text(Estimate.undefined("no cases")) == "not defined (no cases)"
    assert interval(Estimate.undefined("no cases")) == "\N{EN DASH}"
    assert [count(n, "class", "classes") for n in (0, 1, 1200)] == ["0 classes", "1 class", "1,200 classes"]

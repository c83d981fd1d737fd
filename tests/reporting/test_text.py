import pytest

from gcsam_med.metrics.intervals import Estimate
from gcsam_med.reporting.comparison import ArmMetric
from gcsam_med.reporting.text import brief, count, estimate_text, interval, number, spread, value


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.12345, "0.123"),
        (-0.5, "-0.500"),
        (12.345, "12.3"),
        (156.4, "156"),
        (0.0625, "0.063"),
        (-0.0625, "-0.063"),
        (0.2995, "0.300"),
        (1e20, "100,000,000,000,000,000,000"),
        (-12345.6, "-12,346"),
    ],
)
def test_numbers_as_people_read_them(given, text):
    """Oracle: by hand."""
    assert number(given) == text


def test_a_metric_shows_its_interval_or_why_there_is_none():
    """Oracle: by hand."""
    assert estimate_text(Estimate(0.5, (0.4, 0.6), 9, "BCa bootstrap")) == "0.500 (95 % CI 0.400 to 0.600)"
    assert estimate_text(Estimate(0.5, None, 1, "none", "one group")) == "0.500 (no interval: one group)"
    assert estimate_text(Estimate.undefined("no cases")) == "not defined (no cases)"
    assert value(Estimate(0.625, (0.3, 0.9), 16, "Wilson")) == "63 % (10/16)"
    assert interval(Estimate(11.6, (6.6, 17.9), 9, "BCa bootstrap")) == "6.6 to 17.9"
    assert interval(Estimate.undefined("no cases")) == "\N{EN DASH}"
    assert [count(n, "class", "classes") for n in (0, 1, 1200)] == ["0 classes", "1 class", "1,200 classes"]


def test_proportions_are_percentages_with_their_counts():
    """Oracle: by hand; Wilson's method is used for shares of counted cases alone."""
    share = Estimate(43 / 50, (0.738, 0.931), 50, "Wilson, 48.0 effective cases in 40 groups")
    assert estimate_text(share) == "86 % (43/50; 95 % CI 74 to 93)"
    assert value(share) == "86 % (43/50)"
    assert interval(share) == "74 to 93 %"
    assert brief(share) == "86 % (43/50; 74 to 93 %)"
    assert value(Estimate(0.8126, (0.8, 0.83), 1100, "Wilson")) == "81.3 %"
    assert (
        estimate_text(Estimate(1.0, None, 4, "Wilson", "one group")) == "100 % (4/4; no interval: one group)"
    )


def test_a_relative_error_is_a_signed_percentage():
    """Oracle: by hand."""
    error = Estimate(1.3, (-0.05, 2.0), 9, "BCa bootstrap")
    assert value(error, "relative") == "+130 %"
    assert interval(error, "relative") == "-5 to +200 %"


def test_a_distance_over_the_diagonal_is_a_percentage():
    """Oracle: by hand."""
    error = Estimate(0.0523, (0.04, 0.1), 9, "BCa bootstrap")
    assert value(error, "diagonal") == "5.2 %"
    assert interval(error, "diagonal") == "4.0 to 10.0 %"
    assert spread(ArmMetric((0.05, 0.07), 0.06, 0.0141), "diagonal") == "6.0 ± 1.4 %"
    assert spread(ArmMetric((0.5, 0.7), 0.6, 0.141)) == "0.600 ± 0.141"
    assert spread(ArmMetric((330.0, 340.0), 335.0, 7.07)) == "335 ± 7.1"

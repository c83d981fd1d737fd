import pytest

from gcsam_med.metrics.estimate import Estimate
from gcsam_med.reporting.audit import audit_parts
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


def test_a_figure_says_its_interval_or_why_there_is_none():
    """Oracle: by hand."""
    assert estimate_text(Estimate(0.5, (0.4, 0.6), 9, "Wilson")) == "0.500 (95 % CI 0.400 to 0.600)"
    assert estimate_text(Estimate(0.5, None, 1, "none", "one group")) == "0.500 (no interval: one group)"
    assert estimate_text(Estimate.undefined("no cases")) == "not defined (no cases)"
    assert interval(Estimate.undefined("no cases")) == "\N{EN DASH}"
    assert [count(n, "class", "classes") for n in (0, 1, 1200)] == ["0 classes", "1 class", "1,200 classes"]


def test_an_audit_of_any_layout_is_shown():
    """Oracle: every number of a small audit stands in the parts, long lists cut and said to be."""
    audit = {
        "schema": 1,
        "summary": {"cases": 7, "leak": 0.25},
        "conflicts": [{"first": "a", "pair": ["x", "y"]}, {"first": "b", "why": None}],
        "names": [f"n{i}" for i in range(60)],
        "note": "all well",
    }
    head, conflicts, names = audit_parts(audit)
    facts = dict(head.facts)
    assert facts["summary: cases"] == "7"
    assert facts["summary: leak"] == "0.25"
    assert facts["conflicts"] == "2"
    assert facts["note"] == "all well"
    assert [column.title for column in conflicts.table.columns] == ["first", "pair", "why"]
    assert conflicts.table.rows[0].cells[1] == "x, y"
    assert len(names.table.rows) == 50
    assert "first 50" in names.table.caption
    assert audit_parts({"schema": 1}) == []

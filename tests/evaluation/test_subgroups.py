import numpy as np
import pytest

from gcsam_med.evaluation.subgroups import _joined, _sort_key, _thirds


def test_numbers_are_cut_into_thirds():
    """Oracle: 1 to 30 in thirds, by hand."""
    values = np.array([str(i) for i in range(1, 31)] + [""])
    parts = _thirds(values)
    names, counts = np.unique(parts[parts != ""], return_counts=True)
    assert counts.tolist() == [10, 10, 10]
    assert len(names) == 3
    assert parts[-1] == ""
    assert parts[0].startswith("up to 10")


def test_texts_are_not_cut():
    """Oracle: what is no number has no thirds."""
    assert _thirds(np.array(["left", "right", "3"])) is None


@pytest.mark.parametrize(
    "ordered",
    [
        ["2", "3", "4a", "10"],
        ["small, to 1,200 px²", "medium, 1,200 to 3,000 px²", "large, from 3,000 px²"],
        ["up to 40", "40 to 60", "above 60", "not stated"],
    ],
)
def test_values_are_sorted_as_people_do(ordered):
    """Oracle: the order a person would write."""
    shuffled = ordered[1:] + ordered[:1]
    assert sorted(shuffled, key=_sort_key) == ordered


def test_rare_values_are_joined_or_left_out():
    """Oracle: counted by hand: a in 6 groups, b in 3, c in 2, so b and c go together."""
    values = np.array(["a"] * 6 + ["b"] * 3 + ["c"] * 2)
    assert _joined(values, np.arange(11)).tolist() == ["a"] * 6 + ["b or c"] * 5
    # Of one group's many cases: still few groups.
    assert _joined(values, np.array([*range(6), 6, 6, 6, 7, 7])).tolist() == [""] * 11
    both = np.array(["a"] * 6 + ["d"] * 6 + ["b"])
    assert _joined(both, np.arange(13)).tolist() == ["a"] * 6 + ["d"] * 6 + [""]

"""Association of categories, and properties that tell the class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcsam_med.preparation.shortcuts import cramers_v, is_diagnosis


def test_perfect_and_absent_association() -> None:
    """1 for a renaming; about 0 for independence; None where there is nothing to compare."""
    values = ["a", "b", "c"] * 40
    assert cramers_v(values, [v.upper() for v in values]) == pytest.approx(1, abs=0.02)
    rng = np.random.default_rng(0)
    assert cramers_v(rng.choice(list("ab"), 4000).tolist(), rng.choice(list("xyz"), 4000).tolist()) < 0.05  # type: ignore[operator]
    assert cramers_v(["a"] * 5, list("xyzxy")) is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=4, max_size=60))
def test_association_is_symmetric_and_between_0_and_1(pairs: list[tuple[str, str]]) -> None:
    """For any table."""
    one, two = [a for a, _ in pairs], [b for _, b in pairs]
    value = cramers_v(one, two)
    if value is not None:
        assert 0 <= value <= 1
        assert value == pytest.approx(cramers_v(two, one), abs=1e-6)


@pytest.mark.parametrize(
    ("column", "expected"),
    [("histology", True), ("BIRADS", True), ("birads_reader1", True), ("device", False), ("site", False)],
)
def test_columns_that_are_the_diagnosis_are_no_shortcut(column: str, expected: bool) -> None:
    assert is_diagnosis(column) == expected

"""No group is ever torn apart, classes keep their shares, given splits are honoured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gcsam_med.errors import InputError
from gcsam_med.preparation.splits import complete, connected_groups, divide, same


def members(values: np.ndarray, groups: np.ndarray) -> list[set[object]]:
    return [set(values[groups == g].tolist()) for g in np.unique(groups)]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["a", "b", "c"])), min_size=30, max_size=120),
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
)
def test_drawn_splits_keep_groups_whole(cases: list[tuple[int, str]], folds: int, seed: int) -> None:
    """Every case has one place; no group two; all folds are used; the same seed draws the same."""
    groups, labels = np.array([g for g, _ in cases]), [label for _, label in cases]
    assume(len(np.unique(groups)) >= 5 + folds)
    drawn = divide(labels, groups, folds, seed)
    assert all(len(places) == 1 for places in members(drawn.fold, groups))
    assert set(drawn.fold.tolist()) == {-1, *range(folds)}
    np.testing.assert_array_equal(drawn.split == "test", drawn.fold == -1)
    np.testing.assert_array_equal(drawn.split == "val", drawn.fold == 0)
    again = divide(labels, groups, folds, seed)
    np.testing.assert_array_equal(drawn.fold, again.fold)


def test_shares_of_classes_are_alike_everywhere() -> None:
    """500 images in 250 groups, a third malignant: within three points in each part."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(250), 2)
    labels = np.repeat(np.where(rng.random(250) < 1 / 3, "malignant", "benign"), 2)
    drawn = divide(labels.tolist(), groups, 5, 3)
    overall = (labels == "malignant").mean()
    for part in (-1, 0, 1, 2, 3, 4):
        here = labels[drawn.fold == part] == "malignant"
        assert abs(here.mean() - overall) < 0.03
        assert abs(len(here) / 500 - (0.2 if part == -1 else 0.16)) < 0.02


def test_too_few_groups_are_refused() -> None:
    """Not sklearn's error."""
    with pytest.raises(InputError, match="at least 10 independent groups of images; there are 9"):
        divide(["a"] * 18, np.repeat(np.arange(9), 2), 5, 0)


def test_a_class_rarer_than_the_folds_is_no_hindrance() -> None:
    """One case of a class, and classes all rare."""
    divide(["a"] * 40 + ["rare"], np.arange(41), 5, 0)
    divide([f"class {i // 2}" for i in range(20)], np.arange(20), 5, 0)


def test_given_train_val_test_stay() -> None:
    """val is fold 0, train is divided into the others by group."""
    given_ = ["train"] * 30 + ["val"] * 6 + ["test"] * 8
    groups = np.array([i // 2 for i in range(44)])
    drawn = complete(["a", "b"] * 22, groups, given_, [None] * 44, 5, 1)
    assert drawn.split.tolist() == given_
    assert drawn.fold[30:36].tolist() == [0] * 6
    assert set(drawn.fold[:30].tolist()) == {1, 2, 3, 4}
    assert all(len(places) == 1 for places in members(drawn.fold[:30], groups[:30]))
    assert drawn.folds == 5


def test_given_train_and_test_leave_validation_to_be_drawn() -> None:
    """As CIFAR comes."""
    given_ = ["train"] * 40 + ["test"] * 10
    drawn = complete(["a"] * 50, np.arange(50), given_, [None] * 50, 4, 0)
    assert (drawn.split[40:] == "test").all()
    assert set(drawn.fold[:40].tolist()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(drawn.split == "val", drawn.fold == 0)


def test_given_folds_stay_as_they_are() -> None:
    """Official folds, -1 for test; the number of folds is theirs."""
    folds = [i % 5 - 1 for i in range(25)]
    drawn = complete(["a"] * 25, np.arange(25), [""] * 25, folds, 9, 0)
    assert drawn.fold.tolist() == folds
    assert drawn.folds == 4
    assert (drawn.split == "val").sum() == 5


def test_two_folds_beside_a_given_validation_set() -> None:
    """One part is all that is left to draw."""
    drawn = complete(["a"] * 6, np.arange(6), ["train"] * 4 + ["val", "test"], [None] * 6, 2, 0)
    assert drawn.fold.tolist() == [1, 1, 1, 1, 0, -1]


@given(st.integers(1, 40), st.data())
def test_connected_groups_are_the_components(n: int, data: st.DataObject) -> None:
    """Oracle: repeated merging of labels."""
    pairs = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))
    expected = list(range(n))
    for _ in range(n):
        for i, j in pairs:
            expected[i] = expected[j] = min(expected[i], expected[j])
    assert connected_groups(n, pairs).tolist() == expected


def test_empty_keys_belong_to_nobody() -> None:
    """Unknown patients are not one patient."""
    assert same(["p", "", "q", "p", "", "p"]) == [(0, 3), (0, 5)]

"""Close hashes are all found, none twice, and never more than can be looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcsam_med.preparation import duplicates
from gcsam_med.preparation.duplicates import close_pairs, hash_table
from gcsam_med.preparation.scan import Fingerprint


def hashes(n: int, seed: int, prototypes: int = 5, noise: int = 6) -> np.ndarray:
    """Rows of four 64-bit hashes around a few prototypes."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2**64, (prototypes, 4), dtype=np.uint64)[rng.integers(0, prototypes, n)]
    for _ in range(noise):
        rows = rows ^ (np.uint64(1) << rng.integers(0, 64, rows.shape, dtype=np.uint64))
    return rows


def slowly(left: np.ndarray, right: np.ndarray, limit: int) -> dict[tuple[int, int], tuple[int, bool]]:
    """Oracle: Python integers, pair by pair."""
    found = {}
    for i, one in enumerate(left.tolist()):
        for j, two in enumerate(right.tolist()):
            straight = (one[0] ^ two[0]).bit_count() + (one[1] ^ two[1]).bit_count()
            mirror = (one[0] ^ two[2]).bit_count() + (one[1] ^ two[3]).bit_count()
            if min(straight, mirror) <= limit:
                found[i, j] = (min(straight, mirror), mirror < straight)
    return found


@given(st.integers(2, 60), st.integers(0, 10_000), st.integers(0, 60))
def test_all_close_pairs_within_one_set(n: int, seed: int, limit: int) -> None:
    """Against the slow search; equal hashes are chained and not listed each with each."""
    table = hashes(n, seed)
    found = close_pairs(table, limit=limit, per_image=10_000)
    expected = {k: v for k, v in slowly(table, table, limit).items() if k[0] < k[1]}
    got = {
        (int(i), int(j)): (int(d), bool(m))
        for i, j, d, m in zip(found.first, found.second, found.distance, found.mirrored, strict=True)
    }
    assert len(got) == len(found.first)
    distinct = len(np.unique(table[:, :2], axis=0)) == n
    if distinct:
        assert got == expected
    assert got.keys() <= expected.keys()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_all_close_pairs_between_two_sets(n: int, m: int, seed: int) -> None:
    """Against the slow search."""
    left, right = hashes(n, seed), hashes(m, seed + (seed % 2))
    found = close_pairs(left, right, limit=30, per_image=10_000)
    got = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    expected = slowly(left, right, 30)
    assert got <= expected.keys()
    if len(np.unique(left[:, :2], axis=0)) == n and len(np.unique(right[:, :2], axis=0)) == m:
        assert got == expected.keys()


def test_strips_and_columns_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with blocks smaller than the set."""

    table = hashes(200, 1)
    whole = close_pairs(table, per_image=10_000)
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", 7)
    monkeypatch.setattr(duplicates, "BLOCK_COLUMNS", 11)
    parts = close_pairs(table, per_image=10_000)
    np.testing.assert_array_equal(whole.first, parts.first)
    np.testing.assert_array_equal(whole.second, parts.second)


def test_too_many_close_pairs_lower_the_limit() -> None:
    """The closest are kept, and the limit that was reached is told."""
    table = hashes(1200, 0, prototypes=1, noise=10)
    found = close_pairs(table, per_image=1)
    assert len(found.first) <= 2200
    assert found.limit < 36
    assert found.distance.max() <= found.limit
    everything = slowly(table[:150], table[:150], found.limit)
    kept = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert {k for k in everything if k[0] < k[1]} <= kept


def test_a_thousand_equal_images_make_a_chain() -> None:
    """Not half a million pairs; the chain connects all of them."""
    table = np.repeat(hashes(1, 0), 1000, axis=0)
    found = close_pairs(table)
    np.testing.assert_array_equal(found.second - found.first, 1)
    assert len(found.first) == 999


def test_table_of_fingerprints() -> None:
    """Order and type."""
    table = hash_table([Fingerprint(1, 2, 3, 2**64 - 1)])
    assert table.dtype == np.uint64
    assert table.tolist() == [[1, 2, 3, 2**64 - 1]]
    assert hash_table([]).shape == (0, 4)
    assert not len(close_pairs(hash_table([])).first)

"""Which cases must stay on one side of a split: the connected groups of shared patients and duplicates."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np


def connected_groups(n: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Number the connected groups of `n` cases.

    Parameters
    ----------
    n : int
        Number of cases.
    pairs : iterable of (int, int)
        Cases that belong together.

    Returns
    -------
    ndarray of int64, shape (n,)
        For each case the smallest case number of its group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    return first[number]


def same(keys: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs that chain cases of one key together; an empty key belongs to nobody."""
    first: dict[Hashable, int] = {}
    pairs = []
    for i, key in enumerate(keys):
        if key:
            other = first.setdefault(key, i)
            if other != i:
                pairs.append((other, i))
    return pairs

"""Draws of whole groups with replacement, and the leaving out of groups one by one.

Draws are made in chunks from a seed and never stored, so 2,000 resamples of 10,000 cases need no more memory
than a few hundred do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

N_RESAMPLES = 2000
# Group weights times this many bytes per case stay within a chunk: small enough for a laptop's cache and
# memory.
_CHUNK_CELLS = 2_000_000
# The acceleration is a skewness over groups: 500 blocks of groups pin it down to 0.001.
_MAX_JACKKNIFE = 500


@dataclass(frozen=True)
class Resamples:
    """Draws of groups with replacement, the same for every statistic they are given to."""

    group: Ints  #: Group of each case, 0..G-1.
    #: Stratum of each group, 0..H-1; groups are drawn within their stratum, so its size never varies.
    stratum: Ints
    n_resamples: int  #: Number of draws, B.
    seed: int  #: All the randomness there is: two passes over the draws give the same draws.

    @property
    def n_groups(self) -> int:
        """Number of groups, G."""
        return len(self.stratum)

    @property
    def n_strata(self) -> int:
        """Number of strata, H."""
        return int(self.stratum.max()) + 1

    def weights(self) -> Iterator[Floats]:
        """Draw: yield group weights in chunks [b, G] that add up to ``n_resamples`` rows."""
        rng = np.random.default_rng(self.seed)
        members = [np.flatnonzero(self.stratum == h) for h in range(self.n_strata)]
        rows_at_once = max(1, _CHUNK_CELLS // max(len(self.group), self.n_groups))
        for start in range(0, self.n_resamples, rows_at_once):
            rows = min(rows_at_once, self.n_resamples - start)
            # A draw is a row of group numbers; counting them, each row offset by G, gives the weights.
            drawn = np.concatenate([m[rng.integers(0, len(m), (rows, len(m)))] for m in members], axis=1)
            drawn += np.arange(rows)[:, None] * self.n_groups
            counts = np.bincount(drawn.ravel(), minlength=rows * self.n_groups)
            yield counts.reshape(rows, self.n_groups).astype(np.float64)

    def jackknife(self) -> Iterator[tuple[Floats, Ints]]:
        """Leave out: yield group weights [b, G], one block of groups left out a row, and each row's stratum.

        A block is one group as long as there are no more than 500 of them. The rest of the block's stratum is
        weighted up, so that the stratum keeps its share. Strata of one block cannot do without it and are
        passed over.
        """
        blocks = [(h, block) for h in range(self.n_strata) for block in self._blocks(h)]
        size = np.bincount(self.stratum)
        rows_at_once = max(1, _CHUNK_CELLS // max(len(self.group), self.n_groups))
        for start in range(0, len(blocks), rows_at_once):
            chunk = blocks[start : start + rows_at_once]
            weights = np.ones((len(chunk), self.n_groups))
            for row, (h, block) in enumerate(chunk):
                weights[row, self.stratum == h] = size[h] / (size[h] - len(block))
                weights[row, block] = 0.0
            yield weights, np.array([h for h, _ in chunk])

    def _blocks(self, stratum: int) -> list[Ints]:
        members = np.flatnonzero(self.stratum == stratum)
        share = max(2, round(_MAX_JACKKNIFE * len(members) / self.n_groups))
        return [] if len(members) < 2 else np.array_split(members, min(share, len(members)))


def resample_groups(
    groups: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    strata: npt.ArrayLike | None = None,
    n_resamples: int = N_RESAMPLES,
) -> Resamples:
    """Prepare draws of whole groups.

    Parameters
    ----------
    groups : array_like, shape [N]
        Group of each case: patient, near-duplicate group, or the case itself. Any hashable labels.
    rng : numpy.random.Generator
        Source of the seed; one number is drawn from it.
    strata : array_like, shape [N], optional
        Stratum of each case, e.g. its label, so that every resample has as many groups of each kind as the
        data. The stratum of a group is the set of its cases' strata. Strata of a single group are pooled.
    n_resamples : int
        Number of draws; 1 or more.

    Returns
    -------
    Resamples
        To hand to `bootstrap` or `replicate`.

    Raises
    ------
    ValueError
        If there is no case, the lengths differ, or ``n_resamples`` is less than 1.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    if group.ndim != 1 or not len(group) or n_resamples < 1:
        raise ValueError(f"Need at least one case [N] and one resample, got {group.shape} and {n_resamples}.")
    n_groups = int(group.max()) + 1
    stratum = np.zeros(n_groups, dtype=np.int64)
    if strata is not None:
        _, case_stratum = np.unique(np.asarray(strata), return_inverse=True)
        if case_stratum.shape != group.shape:
            raise ValueError(f"{case_stratum.shape} strata do not fit {group.shape} cases.")
        holds = np.zeros((n_groups, int(case_stratum.max()) + 1), dtype=bool)
        holds[group, case_stratum] = True
        stratum = _pool_singletons(np.unique(holds, axis=0, return_inverse=True)[1].reshape(-1))
    seed = int(rng.integers(0, 2**63))
    return Resamples(group.astype(np.int64), stratum, n_resamples, seed)


def _pool_singletons(stratum: Ints) -> Ints:
    """Join strata of one group with each other, and a last lone one with the smallest stratum there is."""
    size = np.bincount(stratum)
    lone = size[stratum] == 1
    if lone.sum() == 1 and len(size) > 1:
        others = np.where(size == 1, np.iinfo(np.int64).max, size)
        stratum = np.where(lone, others.argmin(), stratum)
    elif lone.any():
        stratum = np.where(lone, len(size), stratum)
    return np.unique(stratum, return_inverse=True)[1]

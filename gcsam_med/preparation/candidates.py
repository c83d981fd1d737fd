"""Pairs of images whose perceptual hashes are close: who might be a near-duplicate of whom.

All pairs are compared, in blocks that fit into a processor's cache and several threads at once: with XOR and
population count on 64-bit words, five thousand million pairs take well under a minute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from gcsam_med.preparation.measurements import Fingerprint

# Differing bits of dHash plus pHash, out of 128. A border cropped by 3 % costs up to 19 (measured on breast
# ultrasound and chest X-rays); frames of one sweep of the probe up to about 36.
DISTANCE_LIMIT = 36
# What can be looked at closely. Where more pairs are close (chest X-rays resemble each other), the distance
# limit is lowered until no more than these are left, and the audit says to how much.
PER_IMAGE = 64
ROWS, COLUMNS = 32, 8192


@dataclass(frozen=True)
class Candidates:
    """Pairs of close hashes."""

    #: first, second: ndarray of int64, shape (n,): Numbers of the images.
    first: np.ndarray
    second: np.ndarray
    #: ndarray of bool, shape (n,): Whether the second resembles the first's mirror image more than the first.
    mirrored: np.ndarray
    distance: np.ndarray  #: ndarray of int64, shape (n,): Differing bits out of 128.
    limit: int  #: Largest distance looked for after all.


def hash_table(fingerprints: Sequence[Fingerprint]) -> np.ndarray:
    """Hashes as uint64, shape (n, 4): dHash and pHash of the image, then of its mirror image."""
    rows = [(f.dhash, f.phash, f.dhash_mirrored, f.phash_mirrored) for f in fingerprints]
    return np.array(rows, dtype=np.uint64).reshape(-1, 4)


def close_pairs(
    hashes: np.ndarray,
    others: np.ndarray | None = None,
    *,
    limit: int = DISTANCE_LIMIT,
    per_image: int = PER_IMAGE,
) -> Candidates:
    """Find the pairs whose hashes differ in at most `limit` of 128 bits.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n, 4)
        See `hash_table`.
    others : ndarray of uint64, shape (m, 4), optional
        Compare with these instead of within `hashes`.
    limit : int
        Largest distance.
    per_image : int
        Pairs that are kept for each image on average at the most.

    Returns
    -------
    Candidates
        Images of equal hashes are chained one to the next instead of each with each, so that ten thousand
        black images make ten thousand pairs and not fifty million.
    """
    within = others is None
    left, left_rows, chain = _unique(hashes)
    right, right_rows, _ = (left, left_rows, chain) if others is None else _unique(others)
    budget = per_image * max(len(hashes), 1) + 1000
    kept: list[np.ndarray] = []
    count = 0
    for found in _blocks(left, right, limit, within=within):
        kept.append(found[found[:, 3] <= limit])
        count += len(kept[-1])
        while count > budget and limit > 0:
            limit -= 1
            kept = [block[block[:, 3] <= limit] for block in kept]
            count = sum(map(len, kept))
    pairs = np.concatenate(kept) if kept else np.empty((0, 4), dtype=np.int32)
    pairs = pairs.astype(np.int64)
    pairs[:, 0], pairs[:, 1] = left_rows[pairs[:, 0]], right_rows[pairs[:, 1]]
    if within:
        extra = np.zeros((len(chain), 4), dtype=np.int64)
        extra[:, :2] = chain
        pairs = np.concatenate([extra, pairs])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    return Candidates(pairs[:, 0], pairs[:, 1], pairs[:, 2].astype(bool), pairs[:, 3], limit)


def _unique(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct hash rows, the first image of each, and the chain pairs of images with equal rows."""
    _, first, inverse = np.unique(hashes[:, :2], axis=0, return_index=True, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    neighbours = np.stack([order[:-1], order[1:]], axis=1)
    chain = neighbours[inverse.ravel()[order[:-1]] == inverse.ravel()[order[1:]]]
    rows = np.sort(first)
    return hashes[rows], rows, chain


def _blocks(left: np.ndarray, right: np.ndarray, limit: int, *, within: bool) -> Iterator[np.ndarray]:
    """Close pairs of each strip of rows: (row, row, mirrored, distance)."""
    strips = range(0, len(left), ROWS)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(lambda start: _strip(left, right, start, limit, within), strips)


def _strip(left: np.ndarray, right: np.ndarray, start: int, limit: int, within: bool) -> np.ndarray:
    rows = np.ascontiguousarray(left[start : start + ROWS, :2].T)[:, :, None]
    found = []
    for begin in range(start if within else 0, len(right), COLUMNS):
        columns = np.ascontiguousarray(right[begin : begin + COLUMNS].T)
        straight = np.bitwise_count(rows[0] ^ columns[0]) + np.bitwise_count(rows[1] ^ columns[1])
        mirror = np.bitwise_count(rows[0] ^ columns[2]) + np.bitwise_count(rows[1] ^ columns[3])
        best = np.minimum(straight, mirror)
        i, j = np.nonzero(best <= limit)
        if within:
            later = i + start < j + begin
            i, j = i[later], j[later]
        if len(i):
            mirrored = mirror[i, j] < straight[i, j]
            rows_found = np.stack([i + start, j + begin, mirrored, best[i, j]], axis=1)
            found.append(rows_found.astype(np.int32))
    return np.concatenate(found) if found else np.empty((0, 4), dtype=np.int32)

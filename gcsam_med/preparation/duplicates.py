"""Which images are the same picture: exact copies by their pixels, near-duplicates by registration.

Three sieves, each looking closer at what the former left: perceptual hashes within a distance
(`candidates`), correlation of small descriptors over several crops, and registration (`register`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from gcsam_med.datasets.case import Modality
from gcsam_med.preparation.candidates import Candidates, close_pairs, hash_table
from gcsam_med.preparation.groups import same
from gcsam_med.preparation.measurements import Fingerprint
from gcsam_med.preparation.register import Layers, agreement, descriptor_agreement, descriptors, layers
from gcsam_med.progress import Track, silent

# From these agreements on two images count as near-duplicates. Ultrasound of different people never came near
# 0.3, and what lies above 0.4 shows one lesion in one session, which must not be split. Chest X-rays of
# different people reach 0.67 and true copies stay above 0.93.
AGREEMENT: dict[Modality, float] = {"ultrasound": 0.4, "xray": 0.75, "photo": 0.75}
DESCRIPTOR_FLOOR: dict[Modality, float] = {"ultrasound": 0.45, "xray": 0.78, "photo": 0.6}
# Kept small so that memory does not depend on the number of images; pairs come in order of their first image.
CHUNK = 256  # pairs whose descriptors are in memory at once
DESCRIPTORS_KEPT = 1024  # images, 20 kB each
LAYERS_KEPT = 64  # images, 180 kB each

Thumbs = Callable[[np.ndarray], np.ndarray]  # row numbers -> uint8 (n, 128, 128)


@dataclass(frozen=True)
class Pair:
    """Two images that show the same picture."""

    #: first, second: Row numbers; for two data sets, of the first and of the second.
    first: int
    second: int
    #: {"exact", "near"}: Equal pixels, or the same picture after registration.
    kind: Literal["exact", "near"]
    agreement: float = 1.0  #: 1 for exact copies, else the correlation found.
    mirrored: bool = False  #: Whether the second is the first's mirror image.
    distance: int = 0  #: Differing bits of dHash plus pHash.


@dataclass(frozen=True)
class Search:
    """What was found and how far was looked."""

    pairs: tuple[Pair, ...]  #: Exact ones first.
    limit: int  #: Hash distance up to which pairs were looked at.
    candidates: int  #: Pairs within that distance.


def find_duplicates(
    pixel_hashes: Sequence[str],
    fingerprints: Sequence[Fingerprint],
    thumbs: Thumbs,
    modality: Modality,
    track: Track = silent,
) -> Search:
    """Find the pairs of one data set; copies of one picture are chained, not listed each with each.

    Parameters
    ----------
    pixel_hashes : sequence of str, length n
        Equal for equal pixels.
    fingerprints : sequence of Fingerprint, length n
        Perceptual hashes.
    thumbs : callable
        Gives thumbnails by row numbers.
    modality : {"ultrasound", "xray", "photo"}
        Chooses thresholds.
    track : Track
        Shows progress.

    Returns
    -------
    Search
        Pairs with first < second.
    """
    exact = same(list(pixel_hashes))
    found = [Pair(i, j, "exact") for i, j in exact]
    # One image of each set of exact copies stands for all of them.
    representative = np.arange(len(pixel_hashes))
    for i, j in exact:
        representative[j] = i
    rows = np.flatnonzero(representative == np.arange(len(pixel_hashes)))
    candidates = close_pairs(hash_table([fingerprints[int(r)] for r in rows]))
    first, second = rows[candidates.first], rows[candidates.second]
    found += _verified(candidates, first, second, thumbs, thumbs, modality, track)
    return Search(tuple(found), candidates.limit, len(first))


def find_overlap(
    pixel_hashes: tuple[Sequence[str], Sequence[str]],
    fingerprints: tuple[Sequence[Fingerprint], Sequence[Fingerprint]],
    thumbs: tuple[Thumbs, Thumbs],
    modality: Modality,
    track: Track = silent,
) -> Search:
    """Find the pictures that two data sets share; see `find_duplicates`."""
    by_hash: dict[str, list[int]] = {}
    for row, digest in enumerate(pixel_hashes[1]):
        by_hash.setdefault(digest, []).append(row)
    found = [Pair(i, j, "exact") for i, h in enumerate(pixel_hashes[0]) for j in by_hash.get(h, ())]
    exact = {(p.first, p.second) for p in found}
    candidates = close_pairs(hash_table(fingerprints[0]), hash_table(fingerprints[1]))
    near = _verified(candidates, candidates.first, candidates.second, *thumbs, modality, track)
    found += [p for p in near if (p.first, p.second) not in exact]
    return Search(tuple(found), candidates.limit, len(candidates.first))


def _verified(
    candidates: Candidates,
    first: np.ndarray,
    second: np.ndarray,
    left: Thumbs,
    right: Thumbs,
    modality: Modality,
    track: Track,
) -> list[Pair]:
    """Those candidates that are the same picture."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # The matrices are tiny: threads of a linear algebra library would only wait for one another.
    with threadpool_limits(1):
        plausible = _plausible(candidates.mirrored, first, second, left, right, DESCRIPTOR_FLOOR[modality])
        look = lru_cache(LAYERS_KEPT)(lambda side, row: layers((left, right)[side](np.array([row]))[0]))
        mirror = lru_cache(LAYERS_KEPT)(lambda row: look(1, row).mirrored())
        pairs = []
        for k in track(plausible, "Comparing pairs", len(plausible)):
            i, j, flipped = int(first[k]), int(second[k]), bool(candidates.mirrored[k])
            other: Layers = mirror(j) if flipped else look(1, j)
            value = agreement(look(0, i), other)
            if value >= AGREEMENT[modality]:
                pairs.append(Pair(i, j, "near", round(value, 4), flipped, int(candidates.distance[k])))
        return pairs


def _plausible(
    mirrored: np.ndarray, first: np.ndarray, second: np.ndarray, left: Thumbs, right: Thumbs, floor: float
) -> list[int]:
    """Numbers of the candidates whose descriptors agree at least by `floor`."""
    describe = lru_cache(DESCRIPTORS_KEPT)(
        lambda side, row: descriptors((left, right)[side](np.array([row]))[0])
    )
    kept: list[int] = []
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        one = np.stack([describe(0, int(i)) for i in first[part]])
        two = np.stack([describe(1, int(j)) for j in second[part]])
        agree = descriptor_agreement(one, two, mirrored[part])
        kept += (start + np.flatnonzero(agree >= floor)).tolist()
    return kept

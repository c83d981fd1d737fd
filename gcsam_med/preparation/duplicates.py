"""Which images are the same picture: exact copies by their pixels, near-duplicates by registration.

Three sieves, each looking closer at what the one before left:

1. perceptual hashes within a distance. All pairs are compared, in blocks that fit into a processor's cache
   and several threads at once: with XOR and population count on 64-bit words, five thousand million pairs
   take well under a minute;
2. correlation of small descriptors over several crops;
3. registration of thumbnails (scale and shift along both axes, by Gauss-Newton, coarse to fine), then the
   normalized cross-correlation of fine detail. Local mean and contrast are divided out before, so that
   brightness, contrast and gain do not matter. Chest X-rays all look alike from afar: only this decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from gcsam_med.datasets.case import Modality
from gcsam_med.devices import usable_cores
from gcsam_med.preparation.scan import THUMB, Fingerprint
from gcsam_med.preparation.splits import same
from gcsam_med.progress import Track, silent

COARSE = THUMB // 2
# Where even coarse structure does not agree after registration, fine detail is not looked at.
COARSE_FLOOR = 0.3
SCALES, SHIFT = (0.85, 1.18), 0.2  # limits of the registration; shift in half widths
STEP_DONE = 0.002

# Border crops under which descriptors are compared before anything is registered.
CROPS = (0.0, 0.015, 0.03, 0.045, 0.06)
DESCRIPTOR = 32


@dataclass(frozen=True)
class Layers:
    """A thumbnail with local mean and contrast divided out."""

    #: tuple of ndarray of float32, shape (64, 64): Blurred by 2 and by 1 pixel, and not.
    coarse: tuple[np.ndarray, np.ndarray, np.ndarray]
    #: tuple of ndarray of float32, shape (128, 128): Blurred by 1 pixel, and not.
    fine: tuple[np.ndarray, np.ndarray]

    def mirrored(self) -> Layers:
        """The same of the mirror image."""
        flip = [np.ascontiguousarray(layer[:, ::-1]) for layer in (*self.coarse, *self.fine)]
        return Layers((flip[0], flip[1], flip[2]), (flip[3], flip[4]))


def layers(thumb: np.ndarray) -> Layers:
    """Prepare a thumbnail, uint8 (128, 128), for `agreement`."""
    from scipy.ndimage import gaussian_filter

    full = thumb.astype(np.float32)
    half = _flat(full.reshape(COARSE, 2, COARSE, 2).mean(axis=(1, 3)), 5)
    fine = _flat(gaussian_filter(full, 0.7), 3)
    return Layers(
        (gaussian_filter(half, 2), gaussian_filter(half, 1), half), (gaussian_filter(fine, 1), fine)
    )


def agreement(first: Layers, second: Layers) -> float:
    """Correlation of fine detail after registration: 1 for the same picture, about 0.1 for unrelated ones.

    Measured on breast ultrasound: the same frame in two exports 0.96 to 0.99, neighbouring frames of one
    lesion 0.3 to 0.9, unrelated images below 0.2; on chest X-rays of different people up to 0.67, and at
    least 0.93 after flipping, cropping 3 %, JPEG at quality 60, contrast changed by 20 %, or resizing to 0.7.
    """
    warp = np.array([1.0, 0.0, 1.0, 0.0])  # scale and shift down, scale and shift across
    warp = _register(first.coarse[0], second.coarse[0], warp, 8)
    warp = _register(first.coarse[1], second.coarse[1], warp, 6)
    if _correlation(first.coarse[2], second.coarse[2], warp) < COARSE_FLOOR:
        return 0.0
    warp = _register(first.fine[0], second.fine[0], warp, 4)
    return _correlation(first.fine[1], second.fine[1], warp)


def descriptors(thumb: np.ndarray) -> np.ndarray:
    """Unit vectors of a thumbnail cropped by each of `CROPS`: float32, shape (5, 1024)."""
    from PIL import Image

    image = Image.fromarray(thumb)
    rows = []
    for crop in CROPS:
        box = (crop * THUMB, crop * THUMB, (1 - crop) * THUMB, (1 - crop) * THUMB)
        small = image.resize((DESCRIPTOR, DESCRIPTOR), Image.Resampling.BOX, box=box)
        flat = _flat(np.asarray(small, dtype=np.float32), 3)
        flat -= flat.mean()
        rows.append((flat / (np.linalg.norm(flat) + 1e-6)).ravel())
    return np.stack(rows)


def descriptor_agreement(first: np.ndarray, second: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Best correlation over crops of one side, for n pairs of `descriptors`: shape (n,), -1 to 1.

    `mirrored` tells of each pair whether to compare with the second's mirror image.
    """
    n = len(first)
    square = second.reshape(n, len(CROPS), DESCRIPTOR, DESCRIPTOR)
    flipped = np.where(mirrored[:, None, None, None], square[..., ::-1], square).reshape(second.shape)
    one = np.einsum("nd,nkd->nk", first[:, 0], flipped).max(axis=1)
    other = np.einsum("nkd,nd->nk", first, flipped[:, 0]).max(axis=1)
    return np.maximum(one, other)


def _flat(image: np.ndarray, sigma: float) -> np.ndarray:
    """Divide out local mean and contrast; the constant keeps noise in empty areas small."""
    from scipy.ndimage import gaussian_filter

    detail = image - gaussian_filter(image, sigma)
    return detail / (np.sqrt(gaussian_filter(detail * detail, sigma)) + 3)


def _places(n: int, warp: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where each of `n` rows and columns falls in the other image, and which fall inside it."""
    centre = (n - 1) / 2
    axis = (np.arange(n) - centre) / centre
    rows = (axis * warp[0] + warp[1]) * centre + centre
    columns = (axis * warp[2] + warp[3]) * centre + centre
    return rows, columns, (rows >= 0) & (rows <= n - 1), (columns >= 0) & (columns <= n - 1)


def _sample(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values on a grid; scale and shift are separable, so two matrix products do."""
    return _weights(rows, image.shape[0]) @ image @ _weights(columns, image.shape[1]).T


def _weights(places: np.ndarray, n: int) -> np.ndarray:
    below = np.clip(places.astype(np.int64), 0, n - 2)
    part = (places - below).astype(np.float32)
    matrix = np.zeros((len(places), n), dtype=np.float32)
    index = np.arange(len(places))
    matrix[index, below] = 1 - part
    matrix[index, below + 1] = part
    return matrix


def _register(fixed: np.ndarray, moving: np.ndarray, warp: np.ndarray, steps: int) -> np.ndarray:
    """Improve `warp` by Gauss-Newton steps on the squared difference, with a free gain."""
    n = fixed.shape[0]
    centre = (n - 1) / 2
    down, across = np.gradient(moving)
    axis = ((np.arange(n) - centre) / centre).astype(np.float32)
    for _ in range(steps):
        rows, columns, inside_rows, inside_columns = _places(n, warp)
        rows, columns = rows[inside_rows], columns[inside_columns]
        there = fixed[np.ix_(inside_rows, inside_columns)]
        values = _sample(moving, rows, columns)
        slope_down = _sample(down, rows, columns) * centre
        slope_across = _sample(across, rows, columns) * centre
        gain = max(float((values * there).sum() / ((values * values).sum() + 1e-9)), 0.2)
        vertical, horizontal = axis[inside_rows][:, None], axis[inside_columns][None, :]
        parts = (slope_down * vertical, slope_down, slope_across * horizontal, slope_across)
        jacobian = np.stack([part.ravel() for part in parts], axis=1) * gain
        residual = (there - gain * values).ravel()
        step = np.linalg.solve(jacobian.T @ jacobian + 1e-3 * np.eye(4), jacobian.T @ residual)
        warp = warp + step
        warp[[0, 2]] = np.clip(warp[[0, 2]], *SCALES)
        warp[[1, 3]] = np.clip(warp[[1, 3]], -SHIFT, SHIFT)
        if np.abs(step).max() < STEP_DONE:
            break
    return warp


def _correlation(fixed: np.ndarray, moving: np.ndarray, warp: np.ndarray) -> float:
    rows, columns, inside_rows, inside_columns = _places(fixed.shape[0], warp)
    one = fixed[np.ix_(inside_rows, inside_columns)]
    two = _sample(moving, rows[inside_rows], columns[inside_columns])
    one, two = one - one.mean(), two - two.mean()
    return float((one * two).sum() / np.sqrt((one * one).sum() * (two * two).sum() + 1e-9))


# Differing bits of dHash plus pHash, out of 128. A border cropped by 3 % costs up to 19 (measured on breast
# ultrasound and chest X-rays); frames of one sweep of the probe up to about 36.
DISTANCE_LIMIT = 36
# What can be looked at closely. Where more pairs are close (chest X-rays resemble each other), the distance
# limit is lowered until no more than these are left, and the audit says to how much.
PER_IMAGE = 64
BLOCK_ROWS, BLOCK_COLUMNS = 32, 8192


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
    """Find the pairs whose hashes differ in at most `limit` of 128 bits, within `hashes` or with `others`.

    `per_image` is how many pairs are kept for each image on average at the most. Images of equal hashes are
    chained one to the next instead of each with each, so that ten thousand black images make ten thousand
    pairs and not fifty million.
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
    strips = range(0, len(left), BLOCK_ROWS)
    with ThreadPoolExecutor(usable_cores()) as pool:
        yield from pool.map(lambda start: _strip(left, right, start, limit, within), strips)


def _strip(left: np.ndarray, right: np.ndarray, start: int, limit: int, within: bool) -> np.ndarray:
    rows = np.ascontiguousarray(left[start : start + BLOCK_ROWS, :2].T)[:, :, None]
    found = []
    for begin in range(start if within else 0, len(right), BLOCK_COLUMNS):
        columns = np.ascontiguousarray(right[begin : begin + BLOCK_COLUMNS].T)
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


# From these agreements on two images count as near-duplicates. Ultrasound of different people never came near
# 0.3, and what lies above 0.4 shows one lesion in one session, which must not be split. Chest X-rays of
# different people reach 0.67 and true copies stay above 0.93.
AGREEMENT: dict[Modality, float] = {"ultrasound": 0.4, "xray": 0.75, "photo": 0.75}
DESCRIPTOR_FLOOR: dict[Modality, float] = {"ultrasound": 0.45, "xray": 0.78, "photo": 0.6}
# Bounds of memory, whatever the number of images. Pairs come in order of their first image; the second may be
# any, and computing its descriptors again for each pair would take most of the time.
CHUNK = 256  # pairs whose descriptors are in memory at once
DESCRIPTORS_KEPT = 60_000  # images, 10 kB each
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
    """Find the pairs of one data set, first < second.

    Copies of one picture are chained, not listed each with each. `pixel_hashes` are equal for equal pixels,
    `thumbs` gives thumbnails by row numbers, `modality` chooses thresholds.
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
        lambda side, row: descriptors((left, right)[side](np.array([row]))[0]).astype(np.float16)
    )
    kept: list[int] = []
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        # Within one set both sides are the same images.
        one = np.stack([describe(0, int(i)) for i in first[part]]).astype(np.float32)
        two = np.stack([describe(int(left is not right), int(j)) for j in second[part]]).astype(np.float32)
        agree = descriptor_agreement(one, two, mirrored[part])
        kept += (start + np.flatnonzero(agree >= floor)).tolist()
    return kept

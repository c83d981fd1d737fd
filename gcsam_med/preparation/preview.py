"""A contact sheet of what training will see: images, their masks, and random transforms of both."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np

from gcsam_med.datasets.prepared import PreparedDataset, Split
from gcsam_med.datasets.selection import select_cases
from gcsam_med.errors import InputError
from gcsam_med.files import write_named
from gcsam_med.reading import open_image, open_plain
from gcsam_med.reporting.drawing import TRUTH, draw_outlines, to_rgb

MIN_TILE = 160  # pixels; smaller images are enlarged so that one can see something
GAP = 4
MARK = ("Software", "gcsam-med preview")  # text in the PNG, by which a later one knows it


def preview(
    dataset: PreparedDataset,
    path: Path,
    *,
    cases: int = 6,
    variants: int = 5,
    split: Split = "train",
    seed: int = 0,
) -> Path:
    """Write a PNG with a row for each case: the stored image, then `variants` of it, masks outlined.

    `cases`, of those that take part in training, are drawn from `split` by `seed`, which also determines
    the transforms.
    """
    import torch
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from gcsam_med.transforms.augmentation import training_transform
    from gcsam_med.transforms.preprocessing import Preprocessing

    torch.set_num_threads(1)
    info = dataset.info
    augment = training_transform(info.modality, "segmentation" if info.has_masks else "classification")
    preprocessing = Preprocessing(info.size, info.channels, (0.0,) * info.channels, (1.0,) * info.channels)
    task = "segmentation" if info.has_masks else "classification"
    rows = select_cases(dataset, dataset.rows(split), task, healthy=False).rows
    if not len(rows):
        raise InputError(
            f"No {split} case of '{info.name}' takes part in training.", "Choose another --split."
        )
    drawn = np.sort(np.random.default_rng(seed).choice(rows, min(cases, len(rows)), replace=False))
    lines = []
    for row in drawn:
        stored = dataset.images([row])
        mask = dataset.masks([row])[0] if info.has_masks else None
        tiles = [_tile(stored[0], mask)]
        planes = preprocessing.planes(stored)
        outlines = None if mask is None else torch.from_numpy(mask).float()[None, None]
        for epoch in range(variants):
            images, moved = augment(planes, outlines, seed, epoch, [int(row)])
            pixels = (images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            shown = pixels[..., 0] if info.channels == 1 else pixels
            tiles.append(_tile(shown, None if moved is None else moved[0, 0].numpy()))
        lines.append(_joined(tiles, axis=1))
    sheet = _joined(lines, axis=0)
    data, mark = io.BytesIO(), PngInfo()
    mark.add_text(*MARK)
    Image.fromarray(sheet).save(data, format="PNG", pnginfo=mark)
    write_named(path, data.getvalue(), lambda there: there.parent == dataset.root or _is_preview(there))
    return path


def _is_preview(path: Path) -> bool:
    with suppress(OSError, ValueError), open_plain(path) as file:
        return open_image(file).info.get(MARK[0]) == MARK[1]
    return False


def _tile(pixels: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    factor = max(1, -(-MIN_TILE // pixels.shape[0]))
    large = np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    if mask is None:
        return to_rgb(large)
    return draw_outlines(
        large, [(mask.repeat(factor, axis=0).repeat(factor, axis=1) > 0.5, TRUTH, False)], width=1
    )


def _joined(parts: list[np.ndarray], axis: int) -> np.ndarray:
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, dtype=np.uint8)
    return np.concatenate([x for part in parts for x in (part, gap)][:-1], axis=axis)

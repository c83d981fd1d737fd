"""From a file to what the network sees of it, and in which way it is unlike the training images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gcsam_med.images import Frames, ImageFault, Picture, decode_frames
from gcsam_med.images.picture import to_grey
from gcsam_med.inference.ensemble import Ensemble
from gcsam_med.inference.inputs import Input, with_frame
from gcsam_med.runs.intensity_reference import image_features
from gcsam_med.transforms.letterbox import Letterbox

# Grey images hold a few coloured pixels of overlays and marks; above this share an image is flagged.
COLOURED = 0.2


@dataclass(frozen=True)
class Ready:
    """A decoded image on its way through the network."""

    item: Input  #: Where it comes from.
    pixels: np.ndarray  #: ndarray of uint8, shape (H, W) or (H, W, 3): The original.
    square: np.ndarray  #: ndarray of uint8, shape (size, size) or (size, size, 3): What the network sees.
    geometry: Letterbox  #: How the one lies in the other.
    spacing: tuple[float, float] | None  #: Row and column in mm.
    notes: tuple[str, ...] = ()  #: How it was read.
    flags: tuple[str, ...] = ()  #: In which way it is unlike the training images.
    unlikeness: float | None = None  #: Distance from the training images over the limit; above 1 is flagged.


def decode(item: Input, ensemble: Ensemble, frames: Frames = "first") -> Iterator[Ready | ImageFault]:
    """Read one file, and yield its frames ready for the network.

    A fault is yielded, not raised, and ends the file; a fault in a later frame leaves the earlier ones.
    """
    try:
        for picture in decode_frames(item.load(), Path(item.label).name, frames):
            several = frames == "all" and picture.n_frames > 1
            named = with_frame(item, picture.frame, picture.n_frames) if several else item
            yield make_ready(named, picture, ensemble)
    except ImageFault as fault:
        yield fault


def make_ready(item: Input, picture: Picture, ensemble: Ensemble) -> Ready:
    """Place a picture in the network's square and compare it with the training images."""
    colour = ensemble.card.modality == "photo"
    pixels = picture.pixels if colour else to_grey(picture.pixels)
    if colour and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    geometry = ensemble.card.preprocessing.letterbox(*pixels.shape[:2])
    square = geometry.place_image(pixels)
    flags, unlikeness = _compare(picture.pixels, square, geometry, ensemble)
    return Ready(
        item, picture.pixels, square, geometry, picture.spacing, picture.notes, tuple(flags), unlikeness
    )


def _compare(
    pixels: np.ndarray, square: np.ndarray, geometry: Letterbox, ensemble: Ensemble
) -> tuple[list[str], float | None]:
    coloured = ensemble.card.modality != "photo" and _coloured_share(pixels) > COLOURED
    flags = ["coloured"] if coloured else []
    reference = ensemble.reference
    if reference is None:
        return flags, None
    distance = float(reference.distance(image_features(square, geometry)[None])[0]) / reference.limit
    return [*flags, *(["unlike the training images"] if distance > 1 else [])], round(distance, 4)


def _coloured_share(pixels: np.ndarray) -> float:
    """Share of clearly coloured pixels (channels more than 24 of 255 apart), on a sample."""
    if pixels.ndim == 2:
        return 0.0
    sample = pixels[::4, ::4].astype(np.int16)
    return float((np.ptp(sample, axis=2) > 24).mean())

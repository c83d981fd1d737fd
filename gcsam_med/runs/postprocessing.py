"""From a probability map to a mask: the threshold, and what may be done to the regions afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcsam_med.metrics.regions import bounding_box, components


@dataclass(frozen=True)
class Postprocessing:
    """What is done to a mask after the threshold; nothing by default."""

    #: Keep only the largest region (8-connected). Drops second lesions where there are several.
    largest_component: bool = False
    fill_holes: bool = False  #: Fill holes inside regions.
    min_area: int = 0  #: Drop regions of fewer pixels, at the original resolution.

    @property
    def name(self) -> str:
        """In words; ``"none"`` if nothing is done."""
        parts = ["largest component"] if self.largest_component else []
        parts += ["holes filled"] if self.fill_holes else []
        parts += [f"regions under {self.min_area} pixels dropped"] if self.min_area else []
        return ", ".join(parts) or "none"


NONE = Postprocessing()


def to_mask(probability: np.ndarray, threshold: float, steps: Postprocessing = NONE) -> np.ndarray:
    """Threshold a probability map (H, W) at the original resolution, and apply post-processing.

    Foreground is what is at or above the threshold. Then, in this order: fill holes, drop small regions, keep
    the largest.
    """
    mask = probability >= threshold
    if steps == NONE or not mask.any():
        return mask
    if steps.fill_holes:
        mask = _filled(mask)
    if steps.min_area or steps.largest_component:
        labels, count = components(mask)
        area = np.bincount(labels.ravel(), minlength=count + 1)
        area[0] = 0
        keep = area >= max(steps.min_area, 1)
        if steps.largest_component:
            # A region lost to min_area cannot be the largest that is kept.
            keep &= np.arange(count + 1) == area.argmax()
        mask = keep[labels]
    return mask


def _filled(mask: np.ndarray) -> np.ndarray:
    """Fill what is enclosed; as `scipy.ndimage.binary_fill_holes`, several times as fast."""
    from scipy import ndimage

    box = bounding_box(mask)
    # Outside is what is connected (4 neighbours) to a frame around the regions' box.
    outside, _ = ndimage.label(np.pad(~mask[box], 1, constant_values=True))
    filled = mask.copy()
    filled[box] = (outside != outside[0, 0])[1:-1, 1:-1]
    return filled

"""The size of a region as a person would measure it."""

from __future__ import annotations

import numpy as np


def diameters(mask: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float]:
    """Measure the long and the short axis of a region.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        At least one pixel; of several regions the largest (8-connected) is measured.
    spacing : tuple of float
        Height and width of a pixel.

    Returns
    -------
    long_axis : float
        Largest distance between two of its points (the largest Feret diameter), in the unit of `spacing`.
        Pixels have an area: one alone is as long as its diagonal.
    short_axis : float
        Its extent perpendicular to that.

    Raises
    ------
    ValueError
        If no pixel is set.
    """
    from scipy import ndimage
    from scipy.spatial import ConvexHull, distance

    if not mask.any():
        raise ValueError("an empty mask has no diameters")
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3), dtype=bool))
    area = np.bincount(labels.ravel())
    area[0] = 0
    region = labels == area.argmax()
    # Only a row's first and last pixel can be on the hull.
    rows = np.flatnonzero(region.any(axis=1))
    first = region[rows].argmax(axis=1)
    last = region.shape[1] - region[rows][:, ::-1].argmax(axis=1)
    corners = np.concatenate([np.stack([rows + d, x], axis=1) for d in (0, 1) for x in (first, last)])
    points = corners * np.asarray(spacing)
    hull = points[ConvexHull(points).vertices]
    between = distance.cdist(hull, hull)
    a, b = np.unravel_index(between.argmax(), between.shape)
    along = (hull[b] - hull[a]) / between[a, b]
    across = hull @ np.array([-along[1], along[0]])
    return float(between[a, b]), float(np.ptp(across))

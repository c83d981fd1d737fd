"""From stored DICOM grey values to 8-bit display levels (PS3.3 C.11.1 modality LUT, C.11.2 VOI LUT).

Integer frames are mapped through a table over the values they can hold: the arithmetic is then done once a
value instead of once a pixel, and no floating-point copy of a large radiograph is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset


def grey_levels(raw: np.ndarray, dataset: Dataset, frame: int = 0) -> np.ndarray:
    """Display levels of one frame.

    Parameters
    ----------
    raw : ndarray of integer or float, shape (H, W)
        Stored values.
    dataset : pydicom.Dataset
        Its header.
    frame : int
        Number of the frame, for enhanced multi-frame headers.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        0 is black.
    """
    if raw.dtype.kind == "f" or raw.dtype.itemsize > 2:
        return _levels(raw.astype(np.float64), raw, dataset, frame)
    low, high = int(raw.min()), int(raw.max())
    table = _levels(np.arange(low, high + 1, dtype=raw.dtype), raw, dataset, frame)
    return table[raw.astype(np.int32) - low]


def _levels(values: np.ndarray, raw: np.ndarray, dataset: Dataset, frame: int) -> np.ndarray:
    """Levels of `values`, where `raw` is the frame they come from."""
    from pydicom.pixels import apply_modality_lut, apply_voi

    header = _functional_group(dataset, frame)
    modality = np.asarray(apply_modality_lut(values, header))
    if "VOILUTSequence" in header and modality.dtype.kind in "iu":
        looked_up = np.asarray(apply_voi(modality, header))
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        level = looked_up.astype(np.float64) * (255.0 / (2**bits - 1))
    elif header.get("WindowWidth") is not None and header.get("WindowCenter") is not None:
        level = 255.0 * _window(modality.astype(np.float64), header)
    elif raw.dtype == np.uint8 and modality.dtype == np.uint8:
        level = modality.astype(np.float64)
    else:
        level = 255.0 * _own_range(modality.astype(np.float64), values, raw, header)
    if str(dataset.get("PhotometricInterpretation")) == "MONOCHROME1":
        level = 255.0 - level
    return np.rint(np.clip(level, 0, 255)).astype(np.uint8)


def _window(x: np.ndarray, header: Dataset) -> np.ndarray:
    """Window to 0..1 by the three functions of PS3.3 C.11.2.1.2 and C.11.2.1.3; the first window counts."""
    center, width = _first(header.WindowCenter), _first(header.WindowWidth)
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (x - center) / max(width, 1e-9)))
    if function == "LINEAR_EXACT":
        return np.clip((x - center) / max(width, 1e-9) + 0.5, 0, 1)
    return np.clip((x - (center - 0.5)) / max(width - 1, 1e-9) + 0.5, 0, 1)


def _own_range(x: np.ndarray, values: np.ndarray, raw: np.ndarray, header: Dataset) -> np.ndarray:
    """Map the frame's own range, padding left out, to 0..1."""
    present = x if x.shape == raw.shape else x[np.isin(values, raw)]
    padding = header.get("PixelPaddingValue")
    if padding is not None and x.shape != raw.shape:
        kept = present[values[np.isin(values, raw)] != padding]
        present = kept if kept.size else present
    low, high = float(present.min()), float(present.max())
    return np.clip((x - low) / max(high - low, 1e-9), 0, 1)


def _functional_group(dataset: Dataset, frame: int) -> Dataset:
    """The header with a frame's own rescale and window, which enhanced objects keep in functional groups."""
    import copy

    from pydicom import Dataset as NewDataset

    header = NewDataset()
    header.set_original_encoding(*dataset.original_encoding, "")  # byte order of lookup tables
    keywords = (
        "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "WindowCenter",
        "WindowWidth", "VOILUTFunction", "PixelPaddingValue", "PixelRepresentation", "BitsStored",
    )  # fmt: skip
    sources = [dataset]
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for group in [*shared[:1], *own[frame : frame + 1]]:
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            sources += list(group.get(name) or [])[:1]
    for source in sources:
        for keyword in keywords:
            if keyword in source:
                header[keyword] = copy.copy(source[keyword])
    return header


def _first(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except TypeError:
        return float(value[0])  # type: ignore[index]

"""DICOM images through pydicom: one frame at a time, technical tags by allow-list, never an identity.

Grey values become 8-bit display levels by PS3.3 C.11.1 (modality LUT) and C.11.2 (VOI LUT). Integer frames
are mapped through a table over the values they can hold: the arithmetic is then done once a value instead of
once a pixel, and no floating-point copy of a large radiograph is made.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from gcsam_med.config import Frames
from gcsam_med.images.picture import (
    BIT_DEPTHS,
    MAX_FILE_BYTES,
    ImageFault,
    Picture,
    check_size,
    chosen_frames,
    grey_if_grey,
)

if TYPE_CHECKING:
    from pydicom import Dataset


# Everything else in a file's header stays there.
ALLOWED_TAGS = (
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "PhotometricInterpretation",
    "BitsStored",
    "BodyPartExamined",
    "ViewPosition",
    "ImageLaterality",
    "Laterality",
    "BurnedInAnnotation",
)
DEFLATED = "1.2.840.10008.1.2.1.99"
# Transfer Syntax UID (0002,0010) with that value, in whichever way its type and length are written.
_DEFLATED_ELEMENT = re.compile(rb"\x02\x00\x10\x00.{4,8}" + re.escape(DEFLATED.encode()), re.DOTALL)
MOST_READS = 200_000
"""Of a header, two or three an element. Each element takes some 300 bytes of memory, however short it is."""
MOST_TEXT = 2**16
"""Bytes of an element of text or numbers; only implicit headers could have more."""
TEXT_VRS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI"})
END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
CENTIMETRE = 3  # unit code of ultrasound region calibration, PS3.3 C.8.5.5.1.15


def is_dicom(data: bytes, name: str) -> bool:
    """Tell DICOM by its preamble, or by its name where the preamble was cut off."""
    return data[128:132] == b"DICM" or name.lower().endswith((".dcm", ".dicom"))


def decode_dicom(
    data: bytes, name: str, frames: Frames = "first", identify: Callable[[str], str] | None = None
) -> Iterator[Picture]:
    """Decode frames of a DICOM file to 8-bit grey or colour.

    Grey: modality LUT or rescale, then VOI LUT or window, then inversion of MONOCHROME1 (PS3.3 C.11.1,
    C.11.2). Where neither VOI LUT nor window is given, 8-bit values stay and deeper ones are mapped from the
    frame's own minimum .. maximum to 0 .. 255. Colour: palettes are applied, YBR becomes RGB.

    Raises
    ------
    ImageFault
        If the file cannot be used. Reasons besides those of other images: ``not-dicom``, ``no-pixels``,
        ``missing-codec``, ``no-such-frame``, ``too-many-frames``.
    """
    with _quietly(name):
        dataset = _header(data, name)
        n_frames = int(dataset.get("NumberOfFrames") or 1)
        notes = _notes(dataset) + (("multi-frame",) if n_frames > 1 and frames != "all" else ())
        spacing, tags = pixel_spacing(dataset), _tags(dataset)
        person = str(dataset.get("PatientID") or "").strip()
        patient = identify(person) if identify is not None and person else ""
        if identify is not None and person and not patient:
            notes += ("placeholder-patient",)
    for frame in chosen_frames(frames, n_frames, name):
        with _quietly(name):
            pixels = _frame(dataset, frame, name)
        yield Picture(
            pixels=pixels,
            kind="dicom",
            spacing=spacing,
            notes=notes,
            tags=tags,
            patient=patient,
            frame=frame,
            n_frames=n_frames,
        )


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from printing values of tags that it finds odd."""
    logger = logging.getLogger("pydicom")
    former, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = former


@contextmanager
def _quietly(name: str) -> Iterator[None]:
    """Turn every failure into an `ImageFault`, and keep pydicom from printing values of tags."""
    try:
        with quiet_pydicom():
            yield
    except ImageFault:
        raise
    except MemoryError:
        raise ImageFault("too-large", name, "the image would not fit into memory.") from None
    except Exception as error:
        # Codecs and parsers raise nearly anything on damaged data, and their texts may quote tags.
        raise _fault(error, name) from None


def _fault(error: Exception, name: str) -> ImageFault:
    text, kind = str(error).lower(), type(error).__name__
    if "missing dependencies" in text or "no available" in text or "plugins are missing" in text:
        return ImageFault(
            "missing-codec",
            name,
            "its compression needs a decoder that is not installed.",
            'Install the decoders with: pip install "gcsam-med[dicom]"',
        )
    if "less than expected" in text or "truncated" in text or "unexpected end" in text or kind == "EOFError":
        return ImageFault("truncated", name, f"the file ends early ({kind}).", "Copy it again.")
    if kind == "TooManyElements":
        return ImageFault("corrupt", name, "its header is larger than that of an image can be.")
    if kind == "InvalidDicomError":
        return ImageFault("not-dicom", name, "the file is named or marked as DICOM but is none.")
    return ImageFault("corrupt", name, f"the DICOM data are damaged ({kind}).", "Export the file again.")


class TooManyElements(ValueError):
    """A header is larger than that of an image can be."""


class _Bounded(io.BytesIO):
    """Bytes that can be read from `MOST_READS` times.

    pydicom reads each element on its own, at whatever depth of sequences, so that this bounds their number.
    """

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MOST_READS:
            raise TooManyElements
        return super().read(size)


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence, empty without one.

    A sequence of defined length is bytes until it is asked for; pydicom would parse it without a bound.
    """
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataelem import RawDataElement
    from pydicom.filereader import read_sequence

    if keyword not in dataset:
        return []
    raw = dataset.get_item(tag_for_keyword(keyword) or 0)
    if isinstance(raw, RawDataElement) and raw.value is not None:
        stream = _Bounded(raw.value)
        read_sequence(stream, raw.is_implicit_VR, raw.is_little_endian, len(raw.value), "iso8859")
    return list(dataset.get(keyword) or [])


def _header(data: bytes, name: str) -> Dataset:
    """Parse the file and check what its numbers promise before any pixel is decoded."""
    from pydicom.filereader import read_partial

    data = _inflated(data, name)
    preamble = data[128:132] == b"DICM"
    dataset = read_partial(_Bounded(data), force=not preamble)
    _refuse_long_texts(dataset)
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not preamble and not rows:
        raise ImageFault("not-dicom", name, "the file is named as DICOM but is none.")
    if not any(k in dataset for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")) or not rows:
        raise ImageFault("no-pixels", name, "the DICOM file holds no image (a report or a directory?).")
    check_size(columns, rows, name)
    _fill_in(dataset, name)
    if "TransferSyntaxUID" not in dataset.file_meta:
        _guess_transfer_syntax(dataset, name)
    return dataset


def _fill_in(dataset: Dataset, name: str) -> None:
    """Add what a header leaves out and viewers take for granted; refuse what cannot be known.

    Raises
    ------
    ImageFault
        Reason ``incomplete``, naming the element; ``high-bit`` where values do not fill the lowest bits.
    """
    for keyword in ("PhotometricInterpretation", "BitsAllocated"):
        if keyword not in dataset:
            raise ImageFault("incomplete", name, f"its header lacks {keyword}.", "Export the file again.")
    grey = str(dataset.PhotometricInterpretation).startswith(("MONOCHROME", "PALETTE"))
    usual = {
        "SamplesPerPixel": 1 if grey else 3,
        "BitsStored": dataset.BitsAllocated if dataset.get("HighBit") is None else dataset.HighBit + 1,
        "PixelRepresentation": 0,
        "PlanarConfiguration": 0,
    }
    for keyword, value in usual.items():
        if dataset.get(keyword) is None and "PixelData" in dataset:
            setattr(dataset, keyword, value)
    high, stored = dataset.get("HighBit"), dataset.get("BitsStored")
    if high is not None and stored is not None and high != stored - 1:
        said = f"its {stored} bits a pixel end at bit {high}, not at bit {stored - 1}."
        raise ImageFault("high-bit", name, said, "Export the file again.")


def _refuse_long_texts(dataset: Dataset) -> None:
    """Refuse texts of megabytes, which pydicom would split into a number or name for each few bytes."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    for raw in map(dataset.get_item, dataset.keys()):  # as bytes: iterating over the elements parses them
        value: object = raw.value
        kind = dictionary_VR(raw.tag) if dictionary_has_tag(raw.tag) else ""
        if isinstance(value, bytes) and len(value) > MOST_TEXT and kind in TEXT_VRS:
            raise TooManyElements


def _guess_transfer_syntax(dataset: Dataset, name: str) -> None:
    """Take pixels of the right number of bytes for uncompressed, in the encoding that the header has."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    values = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel") or 1)
    bits = values * int(dataset.get("NumberOfFrames") or 1) * int(dataset.get("BitsAllocated") or 0)
    if len(dataset.get("PixelData") or b"") not in (-(-bits // 8), 2 * -(-bits // 16)):
        raise ImageFault(
            "no-transfer-syntax",
            name,
            "the file does not say how its pixels are encoded.",
            "Export it again.",
        )
    implicit, little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little is not False else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _inflated(data: bytes, name: str) -> bytes:
    """Undo the deflated transfer syntax with a limit, since pydicom inflates without one."""
    if DEFLATED.encode() not in data:
        return data
    if data[128:132] != b"DICM":
        if _DEFLATED_ELEMENT.search(data):
            raise ImageFault("unsupported", name, "it is deflated, but has no DICOM preamble.")
        return data
    # The file meta information opens with its own length (PS3.10 7.1) and is never deflated.
    group, element, vr, _, length = struct.unpack("<HH2sHI", data[132:144])
    if (group, element, vr) != (2, 0, b"UL"):
        raise ImageFault("corrupt", name, "the file meta information is damaged.")
    start = 144 + length
    if DEFLATED.encode() not in data[132:start]:
        # pydicom reads on, whatever the length says, and would inflate without a limit.
        if data[start : start + 2] == b"\2\0" or _DEFLATED_ELEMENT.search(data, start):
            raise ImageFault("corrupt", name, "the file meta information is longer than it says.")
        return data
    meta = data[132:start].replace(DEFLATED.encode(), b"1.2.840.10008.1.2.1\0\0\0")
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    parts, total, rest = [data[:132], meta], 0, data[start:]
    while rest and not engine.eof:
        parts.append(engine.decompress(rest, 2**20))
        rest = engine.unconsumed_tail
        total += len(parts[-1])
        if total > MAX_FILE_BYTES:
            limit = MAX_FILE_BYTES // 2**20
            raise ImageFault("too-large", name, f"the file inflates to more than {limit} MiB.")
    return b"".join(parts)


def _frame(dataset: Dataset, frame: int, name: str) -> np.ndarray:
    """One frame as uint8 (H, W) or (H, W, 3)."""
    from pydicom.pixels import apply_color_lut, pixel_array

    _check_codestream(dataset, frame, name)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    raw = pixel_array(dataset, index=frame)
    if photometric in ("MONOCHROME1", "MONOCHROME2") and raw.ndim == 2:
        return grey_levels(raw, dataset, frame)
    if photometric == "PALETTE COLOR":
        coloured = apply_color_lut(raw, dataset)[..., :3]
        # Some writers put 8-bit entries into 16-bit words (PS3.3 C.7.6.3.1.5, note).
        shift = 0 if coloured.dtype.itemsize == 1 or _palette_top(dataset) < 256 else 8
        return grey_if_grey((coloured >> shift).astype(np.uint8))
    if raw.ndim == 3 and raw.shape[2] == 3:
        return grey_if_grey((raw >> (_colour_bits(raw, dataset) - 8)).astype(np.uint8))
    raise ImageFault("unsupported", name, "its photometric interpretation is not grey, palette or colour.")


def _colour_bits(raw: np.ndarray, dataset: Dataset) -> int:
    """How many bits of each colour are used: what the header says, unless that is the whole word."""
    if raw.dtype == np.uint8:
        return 8
    said, held = int(dataset.get("BitsStored") or 0), int(raw.max()).bit_length()
    if max(8, held) <= said < 8 * raw.dtype.itemsize:
        return said
    return next(bits for bits in (*BIT_DEPTHS, 32) if held <= bits)


def _palette_top(dataset: Dataset) -> int:
    """Largest entry of the 16-bit palettes."""
    kind = np.dtype("<u2" if dataset.original_encoding[1] is not False else ">u2")
    tables = (dataset.get(f"{c}PaletteColorLookupTableData") for c in ("Red", "Green", "Blue"))
    return max((int(np.frombuffer(table, kind).max()) for table in tables if table), default=2**16)


def _check_codestream(dataset: Dataset, frame: int, name: str) -> None:
    """Refuse a compressed frame that is cut off, or whose own size is not the header's.

    Decoders allocate what the frame asks for.
    """
    from pydicom.encaps import get_frame

    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated or "PixelData" not in dataset:
        return
    count = int(dataset.get("NumberOfFrames") or 1)
    stream = get_frame(_Bounded(dataset.PixelData), frame, number_of_frames=count)
    found = codestream_size(stream)
    if found is not None and not stream.rstrip(b"\0\xff").endswith(END_OF_IMAGE):
        # Decoders fill what is missing with grey and say nothing.
        raise ImageFault("truncated", name, "the compressed image ends early.", "Export the file again.")
    expected = int(dataset.Columns), int(dataset.Rows)
    if found is not None and found != expected:
        said, held = (f"{width} x {height}" for width, height in (expected, found))
        raise ImageFault("corrupt", name, f"the header says {said} pixels, the compressed image {held}.")


def _notes(dataset: Dataset) -> tuple[str, ...]:
    notes = []
    burned = str(dataset.get("BurnedInAnnotation", "")).upper()
    if burned == "YES":
        notes.append("burned-in-annotation")
    elif not burned and str(dataset.get("Modality", "")) == "US":
        # Ultrasound machines write name and date into the picture unless told not to.
        notes.append("burned-in-annotation-unknown")
    if "PixelSpacing" not in dataset and "ImagerPixelSpacing" in dataset:
        notes.append("spacing-at-detector")
    return tuple(notes)


def _tags(dataset: Dataset) -> dict[str, str]:
    found = {k: str(dataset.get(k, "")).strip() for k in ALLOWED_TAGS}
    return {k: "".join(c for c in v if c.isprintable())[:64] for k, v in found.items() if v}


def pixel_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Millimetres (row, column) from the spacing tags or the largest calibrated ultrasound region."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        value = dataset.get(keyword)
        if value is not None and len(value) == 2:
            return _plausible(float(value[0]), float(value[1]))
    regions: list[Any] = [
        r
        for r in _items(dataset, "SequenceOfUltrasoundRegions")
        if r.get("PhysicalUnitsXDirection") == CENTIMETRE and r.get("PhysicalUnitsYDirection") == CENTIMETRE
    ]
    if not regions:
        return None
    main = max(regions, key=_area)
    down, across = main.get("PhysicalDeltaY"), main.get("PhysicalDeltaX")
    return None if down is None or across is None else _plausible(10 * abs(down), 10 * abs(across))


def _area(region: Any) -> int:
    wide = int(region.get("RegionLocationMaxX1") or 0) - int(region.get("RegionLocationMinX0") or 0)
    high = int(region.get("RegionLocationMaxY1") or 0) - int(region.get("RegionLocationMinY0") or 0)
    return wide * high


def _plausible(down: float, across: float) -> tuple[float, float] | None:
    """None for the zeros and wild numbers that some exporters write."""
    return (down, across) if 1e-3 < down < 50 and 1e-3 < across < 50 else None


def grey_levels(raw: np.ndarray, dataset: Dataset, frame: int = 0) -> np.ndarray:
    """Display levels of one frame's stored values (H, W): uint8, 0 is black.

    `frame` is its number, for enhanced multi-frame headers.
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
    elif header.get("WindowCenter") is not None and _first(header.get("WindowWidth") or 0) > 0:
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
    shared = _items(dataset, "SharedFunctionalGroupsSequence")
    own = _items(dataset, "PerFrameFunctionalGroupsSequence")
    for group in [*shared[:1], *own[frame : frame + 1]]:
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            sources += _items(group, name)[:1]
    for source in sources:
        for keyword in keywords:
            if keyword in source:
                if keyword.endswith("Sequence"):
                    _items(source, keyword)  # within its bound
                header[keyword] = copy.copy(source[keyword])
    return header


def _first(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except TypeError:
        return float(value[0])  # type: ignore[index]


JPEG2000_START = b"\xff\x4f\xff\x51"  # SOC and SIZ, ISO/IEC 15444-1 A.4
# Start-of-frame markers of ISO/IEC 10918-1 B.1.1.3 and of JPEG-LS (ISO/IEC 14495-1 C.1.1).
JPEG_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """(Width, height) that a compressed frame claims (JPEG, JPEG-LS, JPEG 2000); None where it shows none."""
    start = data[:4096].find(JPEG2000_START)
    if start >= 0 and len(data) >= start + 24:
        right, bottom, left, top = struct.unpack(">IIII", data[start + 8 : start + 24])
        return right - left, bottom - top
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + (0 if marker == 0xFF else int.from_bytes(data[at + 2 : at + 4], "big"))
    return None

"""Malformed files of many kinds, made by our own code: name -> (content, reasons that fit)."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

Zoo = dict[str, tuple[bytes, frozenset[str]]]

BROKEN = frozenset({"truncated", "corrupt"})
UNREAD = frozenset({"unsupported", "format"})
NO_IMAGE = frozenset({"not-an-image"})
TOO_LARGE = frozenset({"too-large"})


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth noise, uint8 (H, W)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8, width // 8), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height)))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int, data: bytes = b"", *, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(data)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def dicom(
    pixels: bytes,
    *,
    rows: int = 48,
    columns: int = 64,
    syntax: str = ExplicitVRLittleEndian,
    **tags: object,
) -> bytes:
    """A DICOM file's bytes: 8-bit MONOCHROME2 unless tags say otherwise."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = syntax
    dataset = Dataset()
    dataset.file_meta = meta
    values = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "US",
        "PatientName": "Secret^Name",
        "PatientID": "4711",
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        **tags,
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    if pixels:
        dataset.PixelData = pixels
        dataset["PixelData"].VR = "OW" if values["BitsAllocated"] != 8 else "OB"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def nested_sequences(file: bytes, depth: int) -> bytes:
    """A DICOM file with sequences of undefined length one in the other, left open at the innermost."""
    at = file.index(b"\x10\x00\x10\x00PN")
    begin = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return file[:at] + (begin + item) * depth + file[at:]


def sequence(tag: tuple[int, int], inside: bytes, *, told: bool) -> bytes:
    """A DICOM sequence of one item, whose lengths are told, or ended by delimiters."""
    unknown = 0xFFFFFFFF
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inside) if told else unknown) + inside
    item += b"" if told else struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    whole = struct.pack("<HH2sHI", *tag, b"SQ", 0, len(item) if told else unknown) + item
    return whole if told else whole + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def end_of_meta(file: bytes) -> int:
    """Where the file meta information of a DICOM file ends."""
    start = file.index(b"DICM") + 4
    length: int = struct.unpack("<I", file[start + 8 : start + 12])[0]
    return start + 12 + length


def flipped(data: bytes, at: int, count: int = 1) -> bytes:
    """The same with some bytes inverted."""
    changed = bytearray(data)
    for i in range(at, at + count):
        changed[i] ^= 0xFF
    return bytes(changed)


def zoo() -> Zoo:
    """All files."""
    return _not_images() | _rasters() | _dicoms()


def _not_images() -> Zoo:
    return {
        "empty.png": (b"", frozenset({"empty"})),
        "empty.dcm": (b"", frozenset({"empty"})),
        "text.png": (b"This is not an image.\n" * 20, NO_IMAGE),
        "text.jpg": (b"Nor is this.\n" * 20, NO_IMAGE),
        "zeros.tif": (bytes(4096), NO_IMAGE),
        "random.bmp": (np.random.default_rng(0).bytes(4096), NO_IMAGE),
        "html.png": (b"<!doctype html><title>404</title>" + b" " * 300, NO_IMAGE),
        "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", NO_IMAGE),
        "portable.png": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n" * 10, NO_IMAGE),
        "icon.png": (encoded(Image.fromarray(picture()), "ICO"), NO_IMAGE),
        "vector.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>' * 5, NO_IMAGE),
        "script.png": (b"#!/bin/sh\nexit 1\n" * 10, NO_IMAGE),
        "yaml.png": (b"!!python/object/apply:os.system ['true']\n" * 4, NO_IMAGE),
        "archive.png": (b"PK\x03\x04" + bytes(200), NO_IMAGE),
        "text.dcm": (b"DICOM? No." * 40, frozenset({"not-dicom", "corrupt"})),
        "html.dcm": (b"<html></html>" * 40, frozenset({"not-dicom", "corrupt"})),
        "preamble.dcm": (bytes(128) + b"DICM", frozenset({"no-pixels", "corrupt", "truncated"})),
        "signature.png": (b"\x89PNG\r\n\x1a\n", NO_IMAGE | BROKEN),
        "signature.jpg": (b"\xff\xd8\xff\xe0", NO_IMAGE | BROKEN),
        "signature.bmp": (b"BM" + bytes(10), NO_IMAGE | BROKEN),
        "signature.tif": (b"II*\x00\x08\x00\x00\x00", NO_IMAGE | BROKEN),
    }


def _rasters() -> Zoo:
    image = Image.fromarray(picture(96, 128))
    png, jpeg, bmp = encoded(image, "PNG"), encoded(image, "JPEG"), encoded(image, "BMP")
    tiff, lzw = encoded(image, "TIFF"), encoded(image, "TIFF", compression="tiff_lzw")
    middle = len(png) // 2
    bomb = b"compressed text\0\0" + zlib.compress(bytes(8 * 2**20))
    text_bomb = png[:33] + png_chunk(b"zTXt", bomb) + png[33:]
    profile_bomb = png[:33] + png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(8 * 2**20))) + png[33:]
    deep = np.full((40, 40), 7, dtype=np.int32) * -1
    return {
        "half.png": (png[:middle], BROKEN),
        "nearly.png": (png[:-20], BROKEN),
        "half.jpg": (jpeg[: len(jpeg) // 2], BROKEN),
        "header-only.jpg": (jpeg[:200], BROKEN | NO_IMAGE),
        "half.bmp": (bmp[: len(bmp) // 2], BROKEN),
        "half.tif": (tiff[: len(tiff) // 2], BROKEN | NO_IMAGE),
        "half-lzw.tif": (lzw[: len(lzw) // 2], BROKEN | NO_IMAGE),
        "flipped-data.png": (flipped(png, middle), BROKEN),
        "flipped-length.png": (flipped(png, 33, 4), BROKEN),
        "flipped-header.png": (flipped(png, 17, 2), BROKEN | NO_IMAGE | TOO_LARGE),
        "flipped-checksum.png": (flipped(png, len(png) - 14, 2), BROKEN),
        "swapped-rows.png": (png[: middle + 40] + png[middle : middle + 40] + png[middle + 80 :], BROKEN),
        "bomb-900-megapixels.png": (png_claiming(30_000, 30_000), TOO_LARGE),
        "bomb-wide.png": (png_claiming(2_000_000_000, 8), TOO_LARGE),
        "bomb-text.png": (text_bomb, BROKEN | TOO_LARGE),
        "bomb-profile.png": (profile_bomb, BROKEN | TOO_LARGE),
        "bomb.bmp": (flipped(bmp, 20, 1)[:18] + struct.pack("<ii", 40_000, 40_000) + bmp[26:], TOO_LARGE),
        "no-pixels.png": (png_claiming(64, 48), BROKEN),
        "zero-wide.png": (png_claiming(0, 48), BROKEN | NO_IMAGE | frozenset({"too-small"})),
        "bad-depth.png": (png_claiming(64, 48, bytes(65 * 48), depth=3), BROKEN | NO_IMAGE),
        "bad-colour.png": (png_claiming(64, 48, bytes(65 * 48), colour=9), BROKEN | NO_IMAGE),
        "one-pixel.png": (encoded(Image.new("L", (1, 1)), "PNG"), frozenset({"too-small"})),
        "sliver.png": (encoded(Image.new("L", (600, 2)), "PNG"), frozenset({"too-small"})),
        "float.tif": (
            encoded(Image.fromarray(np.ones((40, 40), dtype=np.float32)), "TIFF"),
            frozenset({"float-pixels"}),
        ),
        "negative.tif": (encoded(Image.fromarray(deep), "TIFF"), frozenset({"range"})),
        "jpeg-huge-claim.jpg": (
            jpeg.replace(b"\xff\xc0\x00\x0b\x08\x00\x60\x00\x80", b"\xff\xc0\x00\x0b\x08\xff\xff\xff\xff"),
            TOO_LARGE,
        ),
    }


def _dicoms() -> Zoo:
    grey = picture()
    raw = grey.tobytes()
    good = dicom(raw)
    jpeg = encoded(Image.fromarray(grey), "JPEG")
    jpeg2000 = encoded(Image.fromarray(picture(96, 128)), "JPEG2000", no_jp2=True)
    meta_end = end_of_meta(good)
    deflated = dicom(raw, syntax=DeflatedExplicitVRLittleEndian)
    deflated_meta = deflated[: end_of_meta(deflated)]
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflate_bomb = b"".join(squeeze.compress(bytes(2**24)) for _ in range(17)) + squeeze.flush()
    # The syntax stands behind 2 KiB of private information, which the length at the start tells or not.
    padding = struct.pack("<HH2sHI", 2, 0x102, b"OB", 0, 2048) + bytes(2048)
    syntax = deflated_meta.index(struct.pack("<HH", 2, 0x10))
    late_meta = deflated_meta[:syntax] + padding + deflated_meta[syntax:]
    told = bytearray(late_meta)
    told[140:144] = struct.pack("<I", len(late_meta) - 144)
    tiny = b"".join(struct.pack("<HH2sH", 9, i, b"LO", 0) for i in range(2**16)) * 4
    implicit = dicom(raw, syntax=ImplicitVRLittleEndian)
    implicit_end = end_of_meta(implicit)
    claims = struct.pack(">II", 60_000, 60_000)
    at = jpeg2000.index(b"\xff\x51") + 6
    huge2000 = jpeg2000[:at] + claims + jpeg2000[at + 8 :]
    many = frozenset({"truncated", "corrupt", "no-frames", "too-many-frames"})
    return {
        "half.dcm": (good[: len(good) // 2], BROKEN | {"no-pixels"}),
        "short-pixels.dcm": (dicom(raw[:100]), BROKEN),
        "no-pixels.dcm": (dicom(b""), frozenset({"no-pixels"})),
        "no-rows.dcm": (dicom(raw, rows=0), frozenset({"no-pixels", "corrupt"})),
        "giant.dcm": (dicom(raw, rows=60_000, columns=60_000), TOO_LARGE),
        "hundred-thousand-frames.dcm": (dicom(raw, NumberOfFrames=100_000), many),
        "minus-frames.dcm": (dicom(raw, NumberOfFrames=-3), many),
        "bad-bits.dcm": (dicom(raw, BitsAllocated=13, BitsStored=99), BROKEN | {"high-bit"}),
        "odd-samples.dcm": (dicom(raw, SamplesPerPixel=7), BROKEN | {"unsupported"}),
        "unknown-colour.dcm": (dicom(raw, PhotometricInterpretation="NONSENSE"), BROKEN | {"unsupported"}),
        "palette-without.dcm": (dicom(raw, PhotometricInterpretation="PALETTE COLOR"), BROKEN),
        "deep-sequence.dcm": (nested_sequences(good, 400), BROKEN),
        "very-deep-sequence.dcm": (nested_sequences(good, 50_000), BROKEN),
        "deflate-bomb.dcm": (deflated_meta + deflate_bomb, TOO_LARGE),
        "late-deflate-bomb.dcm": (bytes(told) + deflate_bomb, TOO_LARGE | BROKEN),
        "late-untold-deflate-bomb.dcm": (late_meta + deflate_bomb, BROKEN),
        "deflate-bomb-without-preamble.dcm": (
            deflated_meta[132:] + deflate_bomb,
            BROKEN | {"unsupported", "format"},
        ),
        "tiny-elements.dcm": (good[:meta_end] + tiny + good[meta_end:], BROKEN),
        "tiny-elements-at-the-end.dcm": (good + tiny, BROKEN),
        "tiny-nested-elements.dcm": (
            good[:meta_end] + sequence((0x8, 0x1140), tiny, told=False) + good[meta_end:],
            BROKEN,
        ),
        "tiny-elements-of-regions.dcm": (
            good[:meta_end] + sequence((0x18, 0x6011), tiny, told=True) + good[meta_end:],
            BROKEN,
        ),
        "tiny-fragments.dcm": (
            dicom(encapsulate([bytes(2)] * 150_000, has_bot=False), syntax=JPEGBaseline8Bit),
            BROKEN,
        ),
        "long-spacing.dcm": (
            implicit[:implicit_end]
            + struct.pack("<HHI", 0x28, 0x30, 2**23)
            + b"1\\" * 2**22
            + implicit[implicit_end:],
            BROKEN,
        ),
        "deflate-garbage.dcm": (deflated_meta + bytes(range(256)) * 8, BROKEN | {"no-pixels"}),
        "unknown-syntax.dcm": (
            good.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.7\0"),
            BROKEN | {"missing-codec"},
        ),
        "rle-garbage.dcm": (
            dicom(encapsulate([np.random.default_rng(1).bytes(600)]), syntax=RLELossless),
            BROKEN,
        ),
        "jpeg-garbage.dcm": (dicom(encapsulate([bytes(600)]), syntax=JPEGBaseline8Bit), BROKEN),
        "jpeg-half.dcm": (dicom(encapsulate([jpeg[: len(jpeg) // 2]]), syntax=JPEGBaseline8Bit), BROKEN),
        "jpeg2000-other-size.dcm": (dicom(encapsulate([jpeg2000]), syntax=JPEG2000Lossless), BROKEN),
        "jpeg2000-bomb.dcm": (dicom(encapsulate([huge2000]), syntax=JPEG2000Lossless), BROKEN),
        "flipped-lengths.dcm": (flipped(good, meta_end + 6, 2), BROKEN | {"no-pixels"}),
    }

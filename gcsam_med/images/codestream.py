"""The size that a compressed image claims in its own header, read without decoding it."""

from __future__ import annotations

import struct

JPEG2000_START = b"\xff\x4f\xff\x51"  # SOC and SIZ, ISO/IEC 15444-1 A.4
# Start-of-frame markers of ISO/IEC 10918-1 B.1.1.3 and of JPEG-LS (ISO/IEC 14495-1 C.1.1).
JPEG_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG, JPEG-LS or JPEG 2000 stream claims; None where it shows none.

    Parameters
    ----------
    data : bytes
        One compressed frame.

    Returns
    -------
    tuple of int or None
        (width, height) in pixels.
    """
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

"""Reading pictures and DICOM files that nobody has checked, and masks.

Every fault of a file is an `ImageFault` with a short reason; no library's error leaves this package.
"""

from gcsam_med.config import Frames
from gcsam_med.images.picture import ImageFault, Picture
from gcsam_med.images.raster import MaskRule, orientation, raw_picture
from gcsam_med.images.read import (
    IMAGE_SUFFIXES,
    decode_frames,
    decode_mask,
    find_images,
    has_two_values,
    read_bytes,
    read_frames,
    read_image,
    read_mask,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "Frames",
    "ImageFault",
    "MaskRule",
    "Picture",
    "decode_frames",
    "decode_mask",
    "find_images",
    "has_two_values",
    "orientation",
    "raw_picture",
    "read_bytes",
    "read_frames",
    "read_image",
    "read_mask",
]

"""Reading image files that nobody has checked: PNG, JPEG, TIFF, BMP and DICOM, and masks.

Every fault of a file is an `ImageFault` with a short reason; no library's error leaves this package.
"""

from gcsam_med.images.picture import ImageFault, Picture
from gcsam_med.images.read import decode_image, decode_mask, read_image, read_mask

__all__ = ["ImageFault", "Picture", "decode_image", "decode_mask", "read_image", "read_mask"]

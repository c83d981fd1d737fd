"""DICOM: display levels as the standard says, every compression, frames, spacing, and nobody's name."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_voi_lut, apply_windowing, compress
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from gcsam_med.images import ImageFault, Picture, decode_frames, read_image
from gcsam_med.images.dicom import codestream_size
from tests.images.malformed import dicom, encoded, picture

GREY = picture()
DEEP = (picture(seed=3).astype(np.uint16) * 13) + 100
SIXTEEN = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}


def read(data: bytes, frames: object = "first") -> Picture:
    return next(decode_frames(data, "test.dcm", frames))  # type: ignore[arg-type]


def to_levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def dataset_of(data: bytes) -> Dataset:
    import io

    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, None])
def test_eight_bits_without_a_window_stay_as_they_are(syntax: str | None) -> None:
    """Oracle: the bytes that were written."""
    data = dicom(GREY.tobytes(), **({"syntax": syntax} if syntax else {}))
    np.testing.assert_array_equal(read(data).pixels, GREY)


def test_monochrome1_is_inverted_last() -> None:
    """After the window, not before: the window is meant for stored values."""
    data = dicom(GREY.tobytes(), PhotometricInterpretation="MONOCHROME1", WindowCenter=100, WindowWidth=81)
    windowed = to_levels(GREY.astype(float), 99.5 - 40, 99.5 + 40)
    np.testing.assert_array_equal(read(data).pixels, 255 - windowed)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(function: str) -> None:
    """Oracle: pydicom's apply_windowing, whose output range is the stored range after rescale."""
    tags = {"WindowCenter": 1500, "WindowWidth": 1200, "VOILUTFunction": function}
    data = dicom(DEEP.tobytes(), RescaleSlope=2, RescaleIntercept=-100, **tags, **SIXTEEN)
    dataset = dataset_of(data)
    expected = apply_windowing(DEEP * 2.0 - 100, dataset)
    low, high = -100, 4095 * 2 - 100
    got = read(data).pixels.astype(int)
    assert np.abs(got - to_levels(expected, low, high)).max() <= 1


def test_a_voi_table_is_looked_up() -> None:
    """Oracle: pydicom's apply_voi_lut on the whole image."""
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.add_new("LUTData", "OW", (np.linspace(0, 1, 4096) ** 0.5 * 65535).astype("<u2").tobytes())
    table["LUTDescriptor"].VR = "US"
    data = dicom(DEEP.tobytes(), VOILUTSequence=Sequence([table]), **SIXTEEN)
    expected = apply_voi_lut(DEEP, dataset_of(data))
    np.testing.assert_array_equal(read(data).pixels, to_levels(expected.astype(float), 0, 65535))


def test_deep_values_without_a_window_use_the_frames_own_range_without_padding() -> None:
    """The padding value does not count as black."""
    padded = DEEP.copy()
    padded[:8] = 0
    data = dicom(padded.tobytes(), PixelPaddingValue=0, **SIXTEEN)
    dataset = dataset_of(data)
    dataset["PixelPaddingValue"].VR = "US"
    inside = padded[8:]
    got = read(data).pixels
    np.testing.assert_array_equal(got[8:], to_levels(inside.astype(float), inside.min(), inside.max()))
    assert not got[:8].any()


def test_signed_values() -> None:
    """Oracle: the frame's own range by hand."""
    signed = DEEP.astype(np.int16) - 1500
    data = dicom(signed.tobytes(), PixelRepresentation=1, **SIXTEEN)
    np.testing.assert_array_equal(
        read(data).pixels, to_levels(signed.astype(float), signed.min(), signed.max())
    )


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("deep", [False, True])
def test_lossless_compressions_give_the_same_as_none(syntax: str, deep: bool) -> None:
    """Oracle: the uncompressed twin."""
    plain = dicom(DEEP.tobytes(), **SIXTEEN) if deep else dicom(GREY.tobytes())
    dataset = dataset_of(plain)
    compress(dataset, syntax)
    packed = _bytes(dataset)
    np.testing.assert_array_equal(read(packed).pixels, read(plain).pixels)


def test_jpeg_baseline_is_what_pillow_decodes() -> None:
    """Oracle: Pillow on the same codestream."""
    jpeg = encoded(Image.fromarray(GREY), "JPEG", quality=90)
    data = dicom(encapsulate([jpeg]), syntax=JPEGBaseline8Bit)
    expected = next(decode_frames(jpeg, "x.jpg")).pixels
    assert np.abs(read(data).pixels.astype(int) - expected).max() <= 1


def test_big_endian() -> None:
    """The retired syntax is still about."""
    data = dicom(DEEP.astype(">u2").tobytes(), syntax=ExplicitVRBigEndian, **SIXTEEN)
    expected = to_levels(DEEP.astype(float), DEEP.min(), DEEP.max())
    np.testing.assert_array_equal(read(data).pixels, expected)


def test_colour_and_palette() -> None:
    """RGB stays; a palette of 16-bit entries is applied; grey RGB becomes one channel."""
    rgb = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    np.testing.assert_array_equal(read(dicom(rgb.tobytes(), **tags)).pixels, rgb)
    same = np.repeat(GREY[..., None], 3, axis=2)
    assert read(dicom(same.tobytes(), **tags)).pixels.shape == GREY.shape
    ramp = np.arange(256, dtype=np.uint16)
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in (("Red", ramp), ("Green", 255 - ramp), ("Blue", ramp // 2)):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]  # type: ignore[assignment]
        palette[f"{name}PaletteColorLookupTableData"] = (values << 8).tobytes()  # type: ignore[assignment]
    expected = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)
    np.testing.assert_array_equal(read(dicom(GREY.tobytes(), **palette)).pixels, expected)


def test_frames_of_a_sequence() -> None:
    """First, middle, number, all; each is its own picture."""
    frames = np.stack([picture(seed=i) for i in range(5)])
    data = dicom(frames.tobytes(), NumberOfFrames=5)
    for choice, number in (("first", 0), ("middle", 2), (3, 3)):
        got = read(data, choice)
        np.testing.assert_array_equal(got.pixels, frames[number])
        assert got.n_frames == 5
        assert "multi-frame" in got.notes
    every = list(decode_frames(data, "test.dcm", "all"))
    np.testing.assert_array_equal(np.stack([p.pixels for p in every]), frames)
    with pytest.raises(ImageFault) as caught:
        read(data, 5)
    assert caught.value.reason == "no-such-frame"


def test_windows_of_single_frames_in_enhanced_files() -> None:
    """Functional groups: the shared rescale, and each frame's own window."""
    frames = np.stack([DEEP, DEEP])
    shared, own = Dataset(), [Dataset(), Dataset()]
    rescale = Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, 0
    shared.PixelValueTransformationSequence = Sequence([rescale])
    for group, center in zip(own, (1000, 3000), strict=True):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = center, 1001
        group.FrameVOILUTSequence = Sequence([window])
    data = dicom(
        frames.tobytes(),
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(own),
        **SIXTEEN,
    )
    for number, center in enumerate((1000, 3000)):
        expected = to_levels(DEEP * 2.0, center - 0.5 - 500, center - 0.5 + 500)
        np.testing.assert_array_equal(read(data, number).pixels, expected)


def test_spacing_from_tags_and_from_the_largest_ultrasound_region() -> None:
    """Row spacing first; regions are in centimetres; zeros and wild numbers are no spacing."""
    assert read(dicom(GREY.tobytes(), PixelSpacing=[0.2, 0.1])).spacing == (0.2, 0.1)
    detector = read(dicom(GREY.tobytes(), ImagerPixelSpacing=[0.15, 0.15]))
    assert detector.spacing == (0.15, 0.15)
    assert "spacing-at-detector" in detector.notes
    regions = []
    for side, delta in ((10, 0.5), (40, 0.02)):
        region = Dataset()
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
        region.RegionLocationMaxX1 = region.RegionLocationMaxY1 = side
        region.PhysicalDeltaX, region.PhysicalDeltaY = delta, delta / 2
        regions.append(region)
    assert read(dicom(GREY.tobytes(), SequenceOfUltrasoundRegions=Sequence(regions))).spacing == (0.1, 0.2)
    assert read(dicom(GREY.tobytes(), PixelSpacing=[0, 0])).spacing is None
    assert read(dicom(GREY.tobytes())).spacing is None


def test_no_name_leaves_the_header(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Tags by allow-list; warnings and logs that quote values are caught."""
    data = dicom(
        GREY.tobytes(),
        Manufacturer="Maker",
        ManufacturerModelName="Model 1",
        InstitutionName="Secret Hospital",
        OperatorsName="Secret^Operator",
    )
    odd = data.replace(b"4711", b"47\xff1")
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        seen = read(odd)
    assert seen.tags["Manufacturer"] == "Maker"
    assert set(seen.tags) <= {
        "Modality", "Manufacturer", "ManufacturerModelName", "PhotometricInterpretation", "BitsStored"
    }  # fmt: skip
    everything = repr(seen) + caplog.text + "".join(capfd.readouterr()) + "".join(map(str, caught))
    assert "Secret" not in everything
    assert "47" not in repr(seen.tags) + seen.patient


def test_patient_id_is_handed_to_the_caller_only_as_the_caller_wants_it() -> None:
    """Without `identify` it is not read; with it, only its answer is kept."""
    data = dicom(GREY.tobytes())
    assert read(data).patient == ""
    asked: list[str] = []

    def identify(name: str) -> str:
        asked.append(name)
        return "p-1"

    picture_ = next(decode_frames(data, "test.dcm", "first", identify))
    assert (asked, picture_.patient) == (["4711"], "p-1")


@pytest.mark.parametrize(
    ("declared", "note"),
    [("YES", "burned-in-annotation"), ("NO", None), ("", "burned-in-annotation-unknown")],
)
def test_burned_in_annotation_is_told(declared: str, note: str | None) -> None:
    """Declared, denied, or not said by an ultrasound machine."""
    tags = {"BurnedInAnnotation": declared} if declared else {}
    assert read(dicom(GREY.tobytes(), **tags)).notes == ((note,) if note else ())


def test_a_missing_codec_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the dicom extra were not installed."""
    from pydicom.pixels.decoders import JPEG2000LosslessDecoder

    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {})
    dataset = dataset_of(dicom(GREY.tobytes()))
    compress(dataset, JPEG2000Lossless)
    with pytest.raises(ImageFault) as caught:
        read(_bytes(dataset))
    assert caught.value.reason == "missing-codec"
    assert 'pip install "gcsam-med[dicom]"' in caught.value.advice


def test_without_preamble_a_dcm_file_is_still_read(tmp_path: Path) -> None:
    """Some exports cut the first 132 bytes off."""
    path = tmp_path / "bare.dcm"
    path.write_bytes(dicom(GREY.tobytes())[132:])
    np.testing.assert_array_equal(read_image(path).pixels, GREY)


def test_codestream_sizes() -> None:
    """Oracle: the size that was encoded."""
    image = Image.fromarray(picture(40, 72))
    assert codestream_size(encoded(image, "JPEG")) == (72, 40)
    assert codestream_size(encoded(image, "JPEG", progressive=True)) == (72, 40)
    assert codestream_size(encoded(image, "JPEG2000", no_jp2=True)) == (72, 40)
    assert codestream_size(bytes(100)) is None


def _bytes(dataset: Dataset) -> bytes:
    import io

    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_eight_bit_palettes_in_sixteen_bit_words_are_not_black() -> None:
    """PS3.3 C.7.6.3.1.5, note; oracle: the palette, looked up by hand."""
    entries = np.arange(21, 21 + 256, dtype="<u2").clip(max=180)
    tags = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")}
    dataset = dataset_of(dicom(GREY.tobytes(), PhotometricInterpretation="PALETTE COLOR", **tags))
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableData", entries.tobytes())
        dataset[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
    np.testing.assert_array_equal(read(_bytes(dataset)).pixels, entries[GREY].astype(np.uint8))


@pytest.mark.parametrize("padding", [b"\xff" * 3, b"\0" * 3, b"\xff\0\xff"])
def test_a_frame_padded_after_its_end_is_whole(padding: bytes) -> None:
    """Oracle: the same frame without padding."""
    jpeg = encoded(Image.fromarray(GREY), "JPEG", quality=90)
    plain, padded = (dicom(encapsulate([x]), syntax=JPEGBaseline8Bit) for x in (jpeg, jpeg + padding))
    np.testing.assert_array_equal(read(padded).pixels, read(plain).pixels)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_missing_transfer_syntax_is_that_of_the_header(implicit: bool) -> None:
    """Without the tag, or without any file meta information; oracle: the file that has it."""
    data = dicom(DEEP.tobytes(), **SIXTEEN)
    dataset = dataset_of(data)
    expected = read(data).pixels
    meta = dataset.file_meta
    del meta.TransferSyntaxUID
    stream = io.BytesIO()
    if implicit:
        del dataset.file_meta
    dataset.save_as(stream, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    np.testing.assert_array_equal(read(stream.getvalue()).pixels, expected)


def test_what_a_header_leaves_out_is_filled_in_or_named() -> None:
    """Oracle: the same file with the element; bits at another place than the lowest are refused."""

    def without(keyword: str, value: object = None) -> bytes:
        dataset = dataset_of(dicom(DEEP.tobytes(), **SIXTEEN))
        delattr(dataset, keyword)
        if value is not None:
            setattr(dataset, keyword, value)
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()

    expected = read(dicom(DEEP.tobytes(), **SIXTEEN)).pixels
    for keyword in ("SamplesPerPixel", "BitsStored", "HighBit", "PixelRepresentation"):
        np.testing.assert_array_equal(read(without(keyword)).pixels, expected)
    for keyword in ("PhotometricInterpretation", "BitsAllocated"):
        with pytest.raises(ImageFault, match=f"lacks {keyword}"):
            read(without(keyword))
    with pytest.raises(ImageFault, match="end at bit 14"):
        read(without("HighBit", 14))


def test_compressed_pixels_without_a_transfer_syntax_are_refused() -> None:
    dataset = dataset_of(dicom(encapsulate([b"\xff\xd8\xff\xd9"]), syntax=JPEGBaseline8Bit))
    del dataset.file_meta.TransferSyntaxUID
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(ImageFault, match="does not say how its pixels are encoded"):
        read(stream.getvalue())


def test_a_window_without_width_is_none() -> None:
    """Oracle: the same file without a window."""
    plain = dicom(DEEP.tobytes(), **SIXTEEN)
    flat = dicom(DEEP.tobytes(), WindowCenter=1000, WindowWidth=0, **SIXTEEN)
    np.testing.assert_array_equal(read(flat).pixels, read(plain).pixels)


def test_tiny_images_and_twelve_bits_of_colour_in_sixteen() -> None:
    """3 x 3 pixels; colour is brought to 8 bits from the depth that the header tells, or that it uses."""
    colour = np.arange(27, dtype="<u2").reshape(3, 3, 3) * 150
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    data = dicom(colour.tobytes(), Rows=3, Columns=3, **tags, **SIXTEEN)
    np.testing.assert_array_equal(read(data).pixels, (colour >> 4).astype(np.uint8))
    data = dicom((colour // 8).tobytes(), Rows=3, Columns=3, **tags, **SIXTEEN)  # dark: 9 bits would hold it
    np.testing.assert_array_equal(read(data).pixels, (colour // 8 >> 4).astype(np.uint8))


def installed_files() -> list[Path]:
    """pydicom's own test files, and those of the package pydicom-data if it is there."""
    more = importlib.util.find_spec("data_store")
    folders = [Path(pydicom.__file__).parent / "data", *(more.submodule_search_locations if more else ())]
    return sorted(path for folder in folders for path in Path(folder).rglob("*.dcm"))


def test_every_file_that_pydicom_decodes_is_read_with_the_same_values() -> None:
    """Oracle: pydicom's pixel array. Grey is a rising function of it (falling for MONOCHROME1), equal values
    are equal greys, and 8-bit values without a window are themselves, as is colour."""
    compared = 0
    for path in installed_files():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(path, force=True)
                stored = pydicom.pixels.pixel_array(dataset, index=0)
        except (AttributeError, KeyError, NotImplementedError, RuntimeError, ValueError):
            continue  # no image, damaged on purpose, or of a codec that is not installed
        compared += 1
        shown = read(path.read_bytes()).pixels
        kind = dataset.PhotometricInterpretation
        assert shown.shape[:2] == stored.shape[:2], path.name
        if stored.ndim == 3:
            expected = (stored >> 8 * (stored.dtype.itemsize - 1)).astype(np.uint8)
            both = np.broadcast_arrays(shown[..., None] if shown.ndim == 2 else shown, expected)
            np.testing.assert_array_equal(*both, err_msg=path.name)
        elif kind != "PALETTE COLOR":
            order = np.argsort(stored, axis=None)
            rising = shown.ravel()[order].astype(int) * (-1 if kind == "MONOCHROME1" else 1)
            steps = np.diff(rising)
            assert (steps >= 0).all(), path.name
            assert (steps[np.diff(stored.ravel()[order]) == 0] == 0).all(), path.name
            assert steps.any() or stored.min() == stored.max(), path.name
            if stored.dtype == np.uint8 and kind == "MONOCHROME2" and "WindowWidth" not in dataset:
                np.testing.assert_array_equal(shown, stored, err_msg=path.name)
    assert compared > 40

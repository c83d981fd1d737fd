"""DICOM objects: right way round, of the right patient, valid, and no more about the patient than needed."""

import io
import shutil
import subprocess
import sys

import highdicom as hd
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from gcsam_med.cli import run as cli
from gcsam_med.config import PredictOptions
from gcsam_med.errors import InputError
from gcsam_med.inference import predict
from gcsam_med.inference.dicom import codes
from gcsam_med.inference.dicom.codes import Maker
from gcsam_med.inference.dicom.seg import segmentation
from gcsam_med.inference.dicom.sr import measurements_report
from gcsam_med.inference.dicom.write import read_source
from gcsam_med.inference.inputs import contradiction
from gcsam_med.runs.model import load_card
from tests.builders import picture, trained_runs

CR, US, US_CLIP = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
SECRETS = {
    "PatientAge": "62 years",  # not even a sound value: it should be 062Y
    "PatientWeight": "81.5",
    "PatientAddress": "Hidden Lane 7",
    "OtherPatientIDs": "SECRET-ID",
    "PatientComments": "likes tea",
    "AdditionalPatientHistory": "told in confidence",
    "OperatorsName": "Operator^Olga",
    "InstitutionName": "Saint Elsewhere",
    "StationName": "ROOM-9",
    "StudyDescription": "follow-up of a secret",
    "DeviceSerialNumber": "SN-1234",
}


def image_file(pixels, kind=US, **tags):
    """A DICOM file of grey pixels, (H, W) or (frames, H, W)."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = kind
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.StudyInstanceUID, header.SeriesInstanceUID = generate_uid(), generate_uid()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName, header.PatientID, header.PatientSex = "Müller^Ana", "P-17", "F"
    header.PatientBirthDate, header.StudyDate, header.StudyTime = "19600102", "20240203", "101500"
    header.ReferringPhysicianName, header.StudyID, header.AccessionNumber = "Ref^Erring", "S1", "A-1"
    header.Modality = "CR" if kind == CR else "US"
    header.Rows, header.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        header.NumberOfFrames = len(pixels)
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    header.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    with pydicom.config.disable_value_validation():
        for keyword, value in tags.items():
            setattr(header, keyword, value)
        data = io.BytesIO()
        header.save_as(data, enforce_file_format=True)
    return data.getvalue()


def maker():
    card = load_card(trained_runs()["segmentation"] / "model")
    return Maker(card, (card.weights_sha256,), 0.5, "none")


def source_of(data):
    return read_source(data, "x.dcm")


def letter(height=37, width=53):
    """A shape that is another one mirrored or turned: an F."""
    mask = np.zeros((height, width), dtype=bool)
    mask[4:30, 6:9] = mask[4:7, 6:25] = mask[14:17, 6:18] = True
    return mask


def read_back(dataset):
    data = io.BytesIO()
    dataset.save_as(data)
    data.seek(0)
    return data


@pytest.mark.parametrize("kind", [CR, US])
def test_the_mask_lies_on_the_image_as_it_is(kind):
    """Oracle: pydicom and highdicom read the same letter F; mirrored or turned it is another."""
    mask = letter()
    source = source_of(image_file(np.zeros(mask.shape, np.uint8), kind, PatientOrientation=["L", "F"]))
    made = segmentation(source, mask[None], [0], maker(), codes.terms(maker().card, ""))
    plain = pydicom.dcmread(read_back(made))
    found = hd.seg.segread(read_back(made))
    np.testing.assert_array_equal(plain.pixel_array, mask)
    by_source = found.get_pixels_by_source_instance([source.header.SOPInstanceUID])
    np.testing.assert_array_equal(by_source[0, ..., 0], mask)
    for other in (mask[:, ::-1], mask[::-1], mask[::-1, ::-1]):
        assert not np.array_equal(plain.pixel_array, other)
    assert plain.PatientOrientation == ["L", "F"]
    group = plain.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert group.SpatialLocationsPreserved == "YES"
    assert (group.ReferencedSOPClassUID, group.ReferencedSOPInstanceUID) == (
        kind,
        source.header.SOPInstanceUID,
    )


def test_what_is_outlined_and_by_what_is_coded():
    """Oracle: SNOMED CT's numbers for lesion, breast and lung, and DICOM's for artificial intelligence."""
    source = source_of(image_file(np.zeros((37, 53), np.uint8), BodyPartExamined="BREAST"))
    made = segmentation(source, letter()[None], [0], maker(), codes.terms(maker().card, source.body_part))
    segment = made.SegmentSequence[0]

    def code(sequence):
        return sequence[0].CodeValue, sequence[0].CodingSchemeDesignator

    assert code(segment.SegmentedPropertyTypeCodeSequence) == ("52988006", "SCT")
    assert code(segment.SegmentedPropertyCategoryCodeSequence) == ("49755003", "SCT")
    assert code(segment.AnatomicRegionSequence) == ("76752008", "SCT")
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert code(algorithm.AlgorithmFamilyCodeSequence) == ("123110", "DCM")
    assert maker().card.weights_sha256 in algorithm.AlgorithmParameters
    assert "Synthetic" in made.SeriesDescription
    card = maker().card
    lung = codes.terms(card.model_copy(update={"classes": ["lung"], "modality": "xray"}), "")
    assert (lung.kind.value, lung.site) == ("39607008", None)
    # Nobody said that these are breasts.
    assert codes.terms(card, "").site is None
    assert codes.terms(card.model_copy(update={"dataset": "busi"}), "").site.value == "76752008"
    nodule = codes.terms(card.model_copy(update={"classes": ["thyroid nodule"]}), "").kind
    assert (nodule.value, nodule.scheme_designator) == ("thyroid-nodule", codes.SCHEME)


def test_only_the_identity_is_copied(capfd):
    """Oracle: a file full of secrets. The identity is that of the image, letter for letter; else nothing."""
    data = image_file(np.zeros((37, 53), np.uint8), **SECRETS, PatientName="Müller")
    source = source_of(data)
    terms = codes.terms(maker().card, "")
    made = segmentation(source, letter()[None], [0], maker(), terms)
    report = measurements_report(source, letter()[None], [0], made, maker(), terms)
    for dataset in (made, report):
        written = read_back(dataset)
        for secret in SECRETS.values():
            assert secret.encode() not in written.getvalue(), secret
        found = pydicom.dcmread(written)
        assert {e.keyword for e in found if e.tag.group == 0x0010} == {
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
        }
        assert (found.PatientName, found.PatientID) == ("Müller", "P-17")
        assert found.StudyInstanceUID == source.header.StudyInstanceUID
        assert found.SeriesInstanceUID != source.header.SeriesInstanceUID
    said = capfd.readouterr()
    assert "Müller" not in said.out + said.err


@pytest.mark.parametrize("tags", [{}, {"ImagerPixelSpacing": [0.2, 0.2]}, {"PixelSpacing": [0.2, 0.3]}])
def test_sizes_are_those_of_the_mask(tags):
    """Oracle: pixels counted; mm only where they are the patient's, not the detector's."""
    source = source_of(image_file(np.zeros((37, 53), np.uint8), CR, **tags))
    terms = codes.terms(maker().card, "")
    mask = letter()
    made = segmentation(source, mask[None], [0], maker(), terms)
    report = measurements_report(source, mask[None], [0], made, maker(), terms)
    found = hd.sr.srread(read_back(report))
    (group,) = found.content.get_planar_roi_measurement_groups()
    values = {m.name.meaning: (m.value, m.unit.value) for m in group.get_measurements()}
    mm = "PixelSpacing" in tags
    assert values["Area"] == (
        pytest.approx(mask.sum() * (0.06 if mm else 1), rel=1e-5),
        "mm2" if mm else "{pixels}",
    )
    # From the lower left corner of the F to the right end of its upper bar.
    down, across = (0.2, 0.3) if mm else (1, 1)
    assert values["Long axis"][0] == pytest.approx(np.hypot(26 * down, 19 * across), rel=1e-5)
    assert values["Short axis"][0] < values["Long axis"][0]
    frame = group.referenced_segmentation_frame
    assert frame.referenced_sop_instance_uid == made.SOPInstanceUID
    assert frame.referenced_frame_numbers == [1]
    assert found.VerificationFlag == "UNVERIFIED"


def clip(n=5):
    rng = np.random.default_rng(1)
    return np.stack([picture("malignant", 40, 56, rng)[0] for _ in range(n)])


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.dcm").write_bytes(data)
    return folder


def png(path):
    with Image.open(path) as image:
        return np.asarray(image) > 0


def test_frames_are_those_of_the_clip(tmp_path):
    """Oracle: the PNG masks; highdicom finds each by the number of its frame in the clip."""
    folder = write(tmp_path / "in", clip=image_file(clip(), US_CLIP))
    every = PredictOptions(device="cpu", threshold=0.3, frames="all", dicom_seg=True, dicom_sr=True)
    done = predict([trained_runs()["segmentation"]], [folder], tmp_path / "all", every)
    assert {row["dicom_seg"] for row in done.rows} == {"dicom_seg/clip.dcm"}
    found = hd.seg.segread(tmp_path / "all/dicom_seg/clip.dcm")
    uid = pydicom.dcmread(folder / "clip.dcm").SOPInstanceUID
    masks = found.get_pixels_by_source_frame(uid, [1, 2, 3, 4, 5])[..., 0]
    for mask, row in zip(masks, done.rows, strict=True):
        np.testing.assert_array_equal(mask, png(tmp_path / "all" / row["mask"]))
    report = hd.sr.srread(tmp_path / "all/dicom_sr/clip.dcm")
    groups = report.content.get_planar_roi_measurement_groups()
    empty = report.content.get_image_measurement_groups()
    assert len(groups) + len(empty) == 5
    assert len(groups) == sum(row["area_px"] > 0 for row in done.rows)
    third = PredictOptions(device="cpu", threshold=0.3, frames=2, dicom_seg=True)
    done = predict([trained_runs()["segmentation"]], [folder], tmp_path / "one", third)
    found = hd.seg.segread(tmp_path / "one/dicom_seg/clip.dcm")
    np.testing.assert_array_equal(found.get_pixels_by_source_frame(uid, [3])[0, ..., 0], masks[2])
    assert found.NumberOfFrames == 1


@pytest.fixture
def folder(tmp_path):
    """What an archive sends: images of several kinds, with and without a lesion, and things that are none."""
    rng = np.random.default_rng(2)
    lesion = picture("malignant", 41, 63, rng)[0]
    folder = write(
        tmp_path / "in",
        cr=image_file(lesion, CR, PixelSpacing=[0.1, 0.1], Modality="OT"),
        us=image_file(lesion, US),
        clip=image_file(clip(), US_CLIP),
        nobody=image_file(lesion, US, PatientID="", PatientName="", StudyID=""),
        blank=image_file(np.zeros((30, 50), np.uint8), US),
    )
    Image.fromarray(lesion).save(folder / "plain.png")
    return folder


def test_masks_and_objects_of_a_folder_agree(folder, tmp_path):
    """Oracle: the PNG masks; a PNG and a file without a study have none, and say why."""
    stray = pydicom.dcmread(folder / "us.dcm")
    del stray.StudyInstanceUID
    stray.save_as(folder / "stray.dcm")
    options = PredictOptions(device="cpu", dicom_seg=True)
    run = trained_runs()["segmentation"]
    done = predict([run], [folder], tmp_path / "out", options)
    rows = {row["name"]: row for row in done.rows}
    assert not done.faults
    assert "not DICOM" in rows["plain"]["notes"]
    assert "no StudyInstanceUID" in rows["stray"]["notes"]
    for name in ("cr", "us", "clip", "nobody", "blank"):
        found = pydicom.dcmread(tmp_path / "out" / rows[name]["dicom_seg"])
        np.testing.assert_array_equal(found.pixel_array, png(tmp_path / "out" / rows[name]["mask"]))
    assert len(list((tmp_path / "out/dicom_seg").iterdir())) == 5
    assert not (tmp_path / "out/dicom_sr").exists()
    (tmp_path / "out" / rows["us"]["dicom_seg"]).unlink()
    assert predict([run], [folder], tmp_path / "out", options).resumed == 6
    assert (tmp_path / "out" / rows["us"]["dicom_seg"]).is_file()


def test_probabilities_are_those_of_the_table(folder, tmp_path):
    """Oracle: predictions.csv."""
    run = trained_runs()["binary"]
    options = PredictOptions(device="cpu", dicom_sr=True)
    done = predict([run], [folder / "cr.dcm"], tmp_path / "out", options)
    report = hd.sr.srread(tmp_path / "out" / done.rows[0]["dicom_sr"])
    (group,) = report.content.get_image_measurement_groups()
    values = {m.name.meaning: m.value for m in group.get_measurements()}
    for name in ("benign", "malignant"):
        assert values[f"Probability of class {name}"] == pytest.approx(done.rows[0][f"prob_{name}"])
    (called,) = group.get_qualitative_evaluations(name=codes.PREDICTED)
    assert called.value.meaning.lower() == done.rows[0]["predicted"]
    with pytest.raises(InputError, match="this run classifies"):
        predict([run], [folder], tmp_path / "x", PredictOptions(device="cpu", dicom_seg=True))


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed"
)
def test_a_validator_finds_no_error(folder, tmp_path):
    """Oracle: dciodvfy of dicom3tools, on every kind of object."""
    options = PredictOptions(device="cpu", threshold=0.3, frames="all", dicom_seg=True, dicom_sr=True)
    predict([trained_runs()["segmentation"]], [folder], tmp_path / "seg", options)
    predict(
        [trained_runs()["classes"]], [folder], tmp_path / "cls", PredictOptions(device="cpu", dicom_sr=True)
    )
    files = sorted(tmp_path.glob("*/dicom_s*/*.dcm"))
    assert len(files) == 15
    for file in files:
        done = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert errors == [], file.name
        assert "Segmentation" in done.stderr or "ComprehensiveSR" in done.stderr


def test_a_missing_extra_is_exit_3(folder, tmp_path, capsys, monkeypatch):
    """Oracle: the contract's exit codes."""
    for name in [name for name in sys.modules if name.startswith("gcsam_med.inference.dicom.")]:
        if name.rsplit(".", 1)[1] in ("equipment", "codes", "seg", "sr"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    arguments = [str(trained_runs()["segmentation"]), str(folder), "-o", str(tmp_path / "out"), "--dicom-seg"]
    assert cli(["predict", *arguments]) == 3
    assert 'pip install "gcsam-med[dicom]"' in capsys.readouterr().err


def test_a_chest_x_ray_gets_no_report_of_a_breast(tmp_path):
    """Oracle: the issue's own case: another modality, or another body part, is refused with code 2."""
    rng = np.random.default_rng(0)
    pixels = picture("benign", 60, 80, rng)[0]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "us.dcm").write_bytes(image_file(pixels))
    (folder / "chest.dcm").write_bytes(image_file(pixels, CR, BodyPartExamined="CHEST"))
    run = str(trained_runs()["segmentation"])
    options = ["predict", run, str(folder), "--dicom-sr", "--device", "cpu", "--json"]
    assert cli([*options, "--output", str(tmp_path / "out")]) == 2
    assert (tmp_path / "out" / "dicom_sr" / "us.dcm").is_file()
    assert not (tmp_path / "out" / "dicom_sr" / "chest.dcm").exists()
    assert "other-anatomy: its header says modality CR" in (tmp_path / "out" / "predictions.csv").read_text()
    assert cli([*options, "--force", "--output", str(tmp_path / "forced")]) == 0
    assert (tmp_path / "forced" / "dicom_sr" / "chest.dcm").is_file()
    assert "another modality or body part" in (tmp_path / "forced" / "predictions.csv").read_text()


@pytest.mark.parametrize(
    ("modality", "part", "refused"),
    [("US", "", False), ("US", "BREAST", False), ("", "", False), ("OT", "", False), ("US", "ABDOMEN", True),
     ("MG", "BREAST", True), ("CT", "", True)],
)  # fmt: skip
def test_what_contradicts_a_model_of_breast_ultrasound(modality, part, refused):
    card = load_card(trained_runs()["segmentation"] / "model").model_copy(update={"dataset": "busi"})
    found = contradiction({"Modality": modality, "BodyPartExamined": part}, card)
    assert bool(found) == refused
    if refused:
        assert "ultrasound images of the breast" in found

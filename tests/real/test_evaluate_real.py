"""Evaluation and prediction of real ultrasound images and DICOM files, from end to end."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from gcsam_med.config import PredictOptions, PrepareOptions
from gcsam_med.evaluation import evaluate_run, evaluation_folder
from gcsam_med.inference import predict
from gcsam_med.preparation import prepare
from gcsam_med.reporting.write import write_report
from tests.builders import make_run

pytestmark = [pytest.mark.figures, pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(real_data, tmp_path_factory):
    """A run on every seventh lesion and a few normal images of BUSI, its network trained for a moment."""
    folder = tmp_path_factory.mktemp("busi")
    source = folder / "Dataset_BUSI_with_GT"
    for label, step in (("benign", 4), ("malignant", 4), ("normal", 5)):
        (source / label).mkdir(parents=True)
        for path in (real_data / "Dataset_BUSI_with_GT" / label).glob("*.png"):
            if int(path.name.split("(")[1].split(")")[0]) % step == 0:
                shutil.copyfile(path, source / label / path.name)
    outcome = prepare("busi", source, folder / "data", options=PrepareOptions(size=64), workers=0)
    return make_run(folder / "runs", outcome.dataset, "segmentation", steps=5)


def test_a_report_of_real_images(run, tmp_path):
    """Oracle: the contract's files; no stamp of synthetic data; every lesion image counted, none dropped."""
    report = evaluate_run(run, resamples=200, device="cpu")
    write_report(report, tmp_path)
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["synthetic"] is False
    assert "synthetic" not in {notice["key"] for notice in content["notices"]}
    with (tmp_path / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    lesions = [row for row in rows if row["label"] != "normal"]
    assert content["metrics"]["dice"]["n"] == len(lesions) == sum(row["dice"] != "" for row in rows)
    assert all(float(row["area_truth"]) > 0 for row in lesions)
    assert evaluation_folder(report, run).name == "test"


def test_masks_of_real_files_have_their_size(run, real_data, tmp_path):
    """Oracle: the files' own headers; a damaged DICOM is said and left out."""
    folder = real_data / "Dataset_BUSI_with_GT" / "benign"
    names = ["benign (1).png", "benign (2).png", "benign (4).png"]
    dicom = sorted((real_data / "dicom").glob("*.dcm"))
    options = PredictOptions(device="cpu")
    done = predict([run], [*(folder / n for n in names), *dicom], tmp_path / "out", options)
    assert {f.path.rsplit("/", 1)[1] for f in done.faults} >= {"MR_truncated.dcm"}
    by_input = {row["input"]: row for row in done.rows if row["status"] == "ok"}
    assert len(by_input) >= len(names) + 4
    for name, row in by_input.items():
        if name.endswith(".dcm"):
            header = dcmread(name, stop_before_pixels=True)
            expected = (header.Rows, header.Columns)
        else:
            with Image.open(name) as image:
                expected = image.size[::-1]
        with Image.open(tmp_path / "out" / row["mask"]) as mask:
            pixels = np.asarray(mask)
        assert pixels.shape == expected, name
        assert set(np.unique(pixels)) <= {0, 255}


def test_no_patient_appears_in_what_is_written(run, real_data, tmp_path):
    """Oracle: the DICOM headers' own names and ids, searched for in every text that was written."""
    dicom = sorted((real_data / "dicom").glob("*.dcm"))
    predict([run], dicom, tmp_path / "out", PredictOptions(device="cpu"))
    written = "".join(p.read_text() for p in (tmp_path / "out").iterdir() if p.is_file())
    for path in dicom:
        header = dcmread(path, stop_before_pixels=True, force=True)
        for tag in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
            value = str(header.get(tag, "")).strip()
            if len(value) >= 4 and value not in path.name:
                assert value not in written, tag


@pytest.mark.parametrize(
    ("case", "dataset", "positive"),
    [
        ("covid-positive-class", "covid-radiography", "COVID"),
        ("normal-with-black-mask", "folder", "Malignant"),
    ],
)
def test_the_finding_is_the_positive_class(case, dataset, positive, real_data, tmp_path):
    """Oracle: what a clinician calls the finding; normal is negative, whatever its spelling."""
    source = real_data.parent / "cases" / case / "src"
    if not source.is_dir():
        pytest.skip("the cases are not here")
    info = prepare(dataset, source, tmp_path, PrepareOptions(size=64), workers=0).dataset.info
    assert (info.positive_class, info.negative_classes) == (positive, ["Normal"])
    # Lungs are outlined in normal radiographs as well; a lesion is not.
    assert info.empty_mask_classes == ([] if dataset == "covid-radiography" else ["Normal"])

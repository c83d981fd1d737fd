"""Real DICOM files in, DICOM objects out."""

import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest
from PIL import Image

from gcsam_med.config import PredictOptions
from gcsam_med.inference import predict
from tests.builders import trained_runs


@pytest.mark.real
def test_objects_of_real_files_are_valid_and_hold_the_masks(real_data, tmp_path):
    """Oracle: the PNG masks, read by pydicom and highdicom; dciodvfy where it is installed."""
    options = PredictOptions(
        device="cpu", threshold=0.3, frames="all", overlays=False, dicom_seg=True, dicom_sr=True, force=True
    )
    done = predict([trained_runs()["segmentation"]], [real_data / "dicom"], tmp_path, options)
    good = [row for row in done.rows if row["status"] == "ok"]
    assert len(good) == 36
    for name in {row["dicom_seg"] for row in good}:
        masks = [
            np.asarray(Image.open(tmp_path / row["mask"])) > 0 for row in good if row["dicom_seg"] == name
        ]
        plain = pydicom.dcmread(tmp_path / name).pixel_array
        np.testing.assert_array_equal(plain.reshape(-1, *plain.shape[-2:]), np.stack(masks))
        assert hd.seg.segread(tmp_path / name).number_of_segments == 1
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian: dicom3tools) is not installed")
    for file in tmp_path.glob("dicom_s*/*.dcm"):
        said = subprocess.run(
            ["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False
        ).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == [], file.name

import pytest

from gcsam_med.errors import CheckpointError
from gcsam_med.runs.calibration import CALIBRATION, CalibrationFile, load_calibration, save_calibration


def test_it_belongs_to_its_weights(tmp_path):
    """Oracle: what was written comes back, and only for the weights it was chosen with."""
    fitted = CalibrationFile(
        threshold=0.3,
        chosen=True,
        temperature=1.5,
        rule="r",
        n=12,
        weights_sha256="w",
        dataset_sha256="d",
        positive_class="x",
    )
    assert load_calibration(tmp_path, "w") is None
    save_calibration(tmp_path, fitted)
    assert load_calibration(tmp_path, "w") == fitted
    assert load_calibration(tmp_path, "others", finished=False) is None
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        load_calibration(tmp_path, "others")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"threshold": 2}', '{"threshold": 0.5, "weights_sha256": "w"}']
)
def test_a_damaged_file_is_said(tmp_path, text):
    """Oracle: exit code 4, and what to do."""
    (tmp_path / CALIBRATION).write_text(text)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_calibration(tmp_path, "w")
    assert "gcsam-med calibrate" in caught.value.advice

import pytest

from gcsam_med.errors import CheckpointError
from gcsam_med.runs.calibration import OPERATING, OperatingFile, load_operating, save_operating


def test_it_belongs_to_its_weights(tmp_path):
    """Oracle: what was written comes back, and only for the weights it was chosen with."""
    point = OperatingFile(
        threshold=0.3,
        temperature=1.5,
        rule="r",
        n=12,
        weights_sha256="w",
        dataset_sha256="d",
        positive_class="x",
    )
    assert load_operating(tmp_path, "w") is None
    save_operating(tmp_path, point)
    assert load_operating(tmp_path, "w") == point
    assert load_operating(tmp_path, "others") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"threshold": 2}', '{"threshold": 0.5, "weights_sha256": "w"}']
)
def test_a_damaged_file_is_said(tmp_path, text):
    """Oracle: exit code 4, and what to do."""
    (tmp_path / OPERATING).write_text(text)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_operating(tmp_path, "w")
    assert "evaluate" in caught.value.advice

import json
import sys

import pytest

from gcsam_med.cli import run
from tests.builders import trained_runs


def test_export_tells_what_it_wrote(tmp_path, capsys):
    """Oracle: the files themselves."""
    out = tmp_path / "out"
    arguments = ["export", str(trained_runs()["binary"]), "--format", "safetensors", "-o", str(out), "--json"]
    assert run(arguments) == 0
    printed, err = capsys.readouterr()
    content = json.loads(printed)
    assert content["files"] == sorted(p.name for p in out.iterdir())
    assert content["largest_difference"] is None
    assert "trained or evaluated on synthetic images" in err


def test_a_missing_extra_is_exit_3_and_says_what_to_install(tmp_path, capsys, monkeypatch):
    """Oracle: the contract's exit codes."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    arguments = ["export", str(trained_runs()["binary"]), "--format", "onnx", "-o", str(tmp_path / "out")]
    assert run(arguments) == 3
    assert 'pip install "gcsam-med[export]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("form", "code", "message"),
    [("onxx", 2, "Did you mean 'onnx'"), ("monai-bundle", 2, "no run folder")],
)
def test_mistakes(tmp_path, capsys, form, code, message):
    """Oracle: the contract's exit codes, and the message."""
    root = trained_runs()["binary"] if form == "onxx" else tmp_path / "nowhere"
    assert run(["export", str(root), "--format", form]) == code
    assert message in capsys.readouterr().err

"""`make demo` runs the main job, says the figures, and makes nothing twice."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "demo.py"
    spec = importlib.util.spec_from_file_location("demo_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_demo_runs_through_and_a_second_run_makes_nothing(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the files that the contract names, and their times of change."""
    arguments = ["--cases", "30", "--epochs", "1", "--size", "32"]
    arguments += ["--data-root", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    arguments += ["--output", str(tmp_path / "out")]
    assert script.main(arguments) == 0
    said = capsys.readouterr().out
    for command in ("run", "predict", "doctor"):
        assert f"$ gcsam-med {command}" in said
    report = tmp_path / "runs" / "demo" / "evaluation" / "test" / "report.html"
    assert f"Report:      {report}" in said
    assert re.search(r"Dice +0\.\d{3} \(0\.\d{3} to 0\.\d{3}\) +0\.\d{3} \(", said)
    assert "synthetic" in report.read_text(encoding="utf-8").lower()
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) > 3

    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert script.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == made
    again = capsys.readouterr().out
    assert "$ gcsam-med predict" not in again
    assert said.split("interval:")[-1] == again.split("interval:")[-1]


def test_the_demo_ends_with_the_exit_code_of_what_failed(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(SystemExit) as stop:
        script.main(["--data-root", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")])
    assert stop.value.code in (2, 3)

"""Studies in one file: what they plan, what they take of a GPU, and runs within a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gcsam_med.cli import run
from gcsam_med.compare import execute
from gcsam_med.compare.plan import StudyPlan, make_study_plan
from gcsam_med.compare.study import H200, estimate, read_study
from gcsam_med.config import CompareOptions
from gcsam_med.errors import InputError
from tests.builders import make_prepared

STUDIES = sorted((Path(__file__).resolve().parents[2] / "configs/studies").glob("*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_studies_of_the_project_hold(file: Path) -> None:
    """Oracle: every option and setting is known, every arm is one, and each part takes some of a GPU."""
    head = file.read_text(encoding="utf-8").partition("parts:")[0]
    assert all(f"# {word}:" in head for word in ("Purpose", "Data", "Command", "Run time", "Expected"))
    for part in read_study(file, {}):
        found = estimate(part)
        assert found.runs >= 3
        assert found.minutes > 1


def write_study(folder: Path, **compare: Any) -> Path:
    path = folder / "study.yaml"
    settings = "{dataset: toy, model: resnet50, task: classification, epochs: 10, batch_size: 32}"
    path.write_text(
        "parts:\n  one:\n    train_images: 320\n    val_images: 96\n"
        f"    compare: {compare}\n    settings: {settings}\n"
    )
    return path


def test_gpu_minutes_by_hand(tmp_path: Path) -> None:
    """Oracle: 10 epochs of 320 images, Adam once and SAM twice, and a third of a pass for each of 96."""
    (part,) = read_study(write_study(tmp_path, optimizers=["adam", "sam"], seeds="0-2"), {})
    images = 3 * 10 * (320 + 640 + 2 * 96 / 3)
    found = estimate(part)
    assert found.runs == 6
    assert found.minutes == pytest.approx(images / H200["resnet50"][32] / 60)


def test_a_dry_run_names_the_runs_that_take_too_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: by hand, 100 epochs take 13.5 s of an H200 and 10 a tenth of it; 6 s are given."""
    file = write_study(tmp_path, optimizers=["adam"], arm={"long": {"epochs": 100}}, seeds="0")
    assert run(["compare", "--study", str(file), "--dry-run", "--minutes", "0.1", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["parts"][0]["each"]["resnet50 long"] == pytest.approx(13.5 / 60, rel=0.01)
    warned = " ".join(said.err.split())
    assert "one: resnet50 long (about 14 s)" in warned
    assert "resnet50 adam (" not in warned


def test_a_study_with_an_unknown_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="optimisers"):
        read_study(write_study(tmp_path, optimisers=["adam"]), {})


@pytest.fixture
def plan(tmp_path: Path) -> StudyPlan:
    make_prepared(tmp_path / "data", n=30)
    settings = {"dataset": "toy", "data_root": tmp_path / "data", "epochs": 1}
    options = CompareOptions(optimizers=("adam", "sam"), seeds=(0, 1, 2))
    return make_study_plan(options, settings, tmp_path / "study")


def test_no_run_is_begun_that_would_not_end_in_time(plan: StudyPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: runs of 0.5 s and a deadline after 1 s: one of each arm begins, and not all six can."""
    begun: list[str] = []

    def start(plan: StudyPlan, run: Any, *_: object) -> subprocess.Popen[bytes]:
        begun.append(run.name)
        command = [sys.executable, "-S", "-c", "import time; time.sleep(0.5)"]
        return subprocess.Popen(command, stdin=subprocess.PIPE)

    monkeypatch.setattr(execute, "_start", start)
    started = time.monotonic()
    failures = execute.run_in_processes(
        plan, ["cpu", "cpu"], sharpness=False, tell=lambda _: None, deadline=started + 1.0
    )
    assert failures == []
    assert time.monotonic() - started < 5
    assert begun[:2] == ["unet-adam-seed0", "unet-sam-seed0"]
    assert len(begun) < 6


def test_a_slim_run_keeps_what_a_comparison_reads(plan: StudyPlan) -> None:
    """Oracle: the files that `compare` reads are there as they were, and the large ones are not."""
    run = plan.runs[0]
    folder = plan.folder_of(run)
    kept = ["config.yaml", "result.json", "model/model.json", "evaluation/test/cases.csv"]
    gone = ["model/weights.safetensors", "checkpoints/a.pt", "evaluation/test/report.html", "curves.png"]
    for name in (*kept, *gone, "evaluation/test/figures/roc.png"):
        path = folder.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    execute.slim_down(plan, run)
    execute.slim_down(plan, run)
    there = {p.relative_to(folder.root).as_posix() for p in folder.root.rglob("*") if p.is_file()}
    assert there == {*kept, execute.SLIM}

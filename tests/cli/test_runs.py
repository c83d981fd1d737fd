"""`runs`: every run with its results, sorted and filtered; two runs side by side; help for a lost user."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gcsam_med.cli import run
from tests.builders import copied_run, make_prepared


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs under ``runs/``, which differ in their seed; the second is not finished."""
    monkeypatch.chdir(tmp_path)
    first = copied_run(tmp_path, "binary")
    second = Path(shutil.copytree(first, first.with_name("other")))
    config = second / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: 7"))
    (second / "result.json").unlink(missing_ok=True)
    return tmp_path


def _listed(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert run(["runs", "--json", *options]) == 0
    return [Path(row["run"]).name for row in json.loads(capsys.readouterr().out)["runs"]]


def test_runs_are_listed_sorted_and_filtered(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the folders, and which of them holds a result.json."""
    assert set(_listed(capsys)) == {"binary", "other"}
    assert _listed(capsys, "--sort", "run") == ["binary", "other"]
    assert _listed(capsys, "--filter", "finished=False") == ["other"]
    assert _listed(capsys, "--filter", "data=nothing") == []
    assert run(["runs", "--sort", "modle"]) == 2
    assert "Did you mean 'model'" in capsys.readouterr().err
    assert run(["runs"]) == 0
    assert "binary" in capsys.readouterr().out


def test_two_runs_are_compared_by_their_settings(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the one setting that was changed by hand."""
    assert run(["runs", "binary", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"] == {"seed": [0, 7]}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train"], "prepared are: toy"),
        (["train", "--dataset", "toi"], "Did you mean 'toy'"),
        (["train", "--dataset", "toy", "--size", "64"], "chosen when they are prepared"),
        (["evaluate"], "no finished run under runs/"),
    ],
)
def test_a_lost_user_is_told_where_to_go(
    command: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_prepared(tmp_path / "data", n=12)
    assert run(command) == 2
    assert said in capsys.readouterr().err


def test_the_same_run_is_made_once_and_more_time_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: result.json; a run that ran out of time is trained to its last epoch once it is given more."""
    monkeypatch.chdir(tmp_path)
    make_prepared(tmp_path / "data", n=36, size=32)
    command = ["train", "--dataset", "toy", "--model", "basic-unet", "--device", "cpu", "--epochs", "2"]
    assert run([*command, "--max-minutes", "1e-6", "-q"]) == 0
    folder = next(Path("runs").iterdir())
    cut = json.loads((folder / "result.json").read_text())
    assert (cut["stopped_by"], cut["steps"]) == ("max_minutes", 1)
    capsys.readouterr()
    assert run([*command, "-q"]) == 2
    assert "finished run of the same settings" in capsys.readouterr().err
    assert run(["train", "--resume", folder.name, "--max-minutes", "60", "-q"]) == 0
    whole = json.loads((folder / "result.json").read_text())
    assert whole["stopped_by"] == "epochs"
    assert whole["steps"] > 1
    assert run(["train", "--resume", folder.name, "--device", "cpu"]) == 0
    assert "--extend --epochs N" in capsys.readouterr().err

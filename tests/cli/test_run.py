"""`gcsam-med run`: settings that suit machine and data, and the same command goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gcsam_med.cli import live, run
from gcsam_med.config import RunConfig, load_config
from gcsam_med.training import Start, cost, make_plan
from gcsam_med.training.callbacks import Progress
from tests.builders import make_prepared

TINY = ["run", "--dataset", "busi", "--demo", "--demo-cases", "30", "--name", "tiny", "--size", "32"]


@pytest.mark.parametrize(
    ("second", "size", "epochs"),
    [(0.0001, 256, 100), (0.5, 128, 100), (2.0, 128, 70), (60.0, 128, 30)],
    ids=["fast", "slow", "slower", "hopeless"],
)
def test_a_slow_machine_gets_small_images_then_fewer_epochs(
    second: float, size: int, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: by hand. 400 cases are 50 steps of 2 passes and 5 thirds; a pass at 128 takes a quarter."""
    monkeypatch.setattr(cost, "seconds_per_pass", lambda _, side, **__: second * (side / 256) ** 2)
    config = RunConfig(dataset="d", task="segmentation", model="unet", device="cpu")
    advice = cost.advise(config, set(), 400, 40)
    assert (advice.values["size"], advice.values["epochs"]) == (size, epochs)
    assert advice.values["batch_size"] == 8
    passes = epochs * (50 * 2 + 5 / 3)
    assert advice.seconds == pytest.approx(passes * second * (size / 256) ** 2, rel=0.02)
    assert advice.reasons.keys() == advice.values.keys()


def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "seconds_per_pass", lambda *_, **__: 60.0)
    config = RunConfig(dataset="d", task="segmentation", model="unet", device="cpu", epochs=500, batch_size=2)
    advice = cost.advise(config, {"epochs", "batch_size"}, 400, 40, size=512)
    assert [advice.values[name] for name in ("size", "epochs", "batch_size")] == [512, 500, 2]
    assert advice.reasons["epochs"] == "as you chose"


def test_timing_works_for_both_tasks() -> None:
    for task, model in (("segmentation", "unet"), ("classification", "resnet18")):
        config = RunConfig(dataset="d", task=task, model=model, device="cpu", batch_size=2)  # type: ignore[arg-type]
        assert 0 < cost.seconds_per_pass(config, 32) < 60


@pytest.mark.slow
def test_one_command_prepares_trains_evaluates_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the files of the contract; the second time nothing is made, and other settings are refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cost, "seconds_per_pass", lambda *_, **__: 0.01)
    assert run([*TINY, "--epochs", "1", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 1
    assert not Path("runs").exists()

    assert run([*TINY, "--epochs", "1"]) == 0
    report = Path("runs/tiny-unet-gcsam-seed0/evaluation/test/report.html")
    assert report.is_file()
    said = capsys.readouterr()
    assert f"Report: {report}" in said.out
    assert "Training takes about" in said.err
    assert "a perfect answer would score Dice 0." in said.err

    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run(TINY) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == made
    assert run([*TINY, "--epochs", "2"]) == 2
    assert "--epochs is 1 there" in capsys.readouterr().err

    Path("runs/tiny-unet-gcsam-seed0/result.json").unlink()  # as if it had been interrupted
    report.unlink()
    assert run(TINY) == 0
    assert report.is_file()


@pytest.mark.slow
def test_settings_come_from_a_file_and_the_command_goes_on_after_its_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the file's settings in config.yaml; steps of result.json, which grow with every call."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cost, "seconds_per_pass", lambda *_, **__: 0.01)
    Path("mine.yaml").write_text("dataset: other\nmodel: unet\noptimizer: adam\nepochs: 2\nlr: 0.002\n")
    command = [*TINY, "--config", "mine.yaml", "--set", "warmup_epochs=0", "--max-minutes", "0.0001"]
    folder = Path("runs/tiny-unet-adam-seed0")
    steps = []
    for _ in range(2):
        assert run(command) == 0
        assert "the same command goes on" in capsys.readouterr().err
        steps.append(json.loads((folder / "result.json").read_text())["steps"])
    assert run([word for word in command if word not in ("--max-minutes", "0.0001")]) == 0
    result = json.loads((folder / "result.json").read_text())
    assert 0 < steps[0] < steps[1] < result["steps"]
    assert (result["stopped_by"], result["epochs"]) == ("epochs", 2)
    made = load_config(folder / "config.yaml", {})
    assert (made.dataset, made.lr, made.warmup_epochs) == ("tiny", 0.002, 0)
    assert run([*command, "--lr", "0.1"]) == 2
    assert "--lr is 0.002 there" in capsys.readouterr().err


def test_the_dice_ceiling_falls_with_the_size_and_is_one_at_the_images_own(tmp_path: Path) -> None:
    """Oracle: a mask that keeps its pixels comes back whole, and smaller images blur more of the outline."""
    dataset = make_prepared(tmp_path, 12, 64)
    own = int(max(dataset.manifest["height"].max(), dataset.manifest["width"].max()))
    found = [cost.dice_ceiling(dataset, size) for size in (own, 32, 16)]
    assert found[0] is not None
    assert found[0] > 0.99
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("rate", "device", "warned"), [(0.01, "cpu", True), (50, "cpu", False), (0.01, "cuda:0", False)]
)
def test_a_long_run_without_a_gpu_says_early_what_takes_less_time(
    rate: float, device: str, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Oracle: by hand. 10 epochs at 0.01 images/s; in an hour 36 images are trained."""
    monkeypatch.setattr(cost, "SMALL", 32)
    plan = make_plan(
        RunConfig(dataset="toy", data_root=tmp_path, device="cpu", epochs=10), make_prepared(tmp_path, 30, 64)
    )
    n = len(plan.train_rows)
    live.console.voice.reset()
    view = live.LiveView()
    view.start(Start(plan, tmp_path / "run", device, 1, 5, 0, "random start"))
    view.progress(Progress(1, 3, 5, 1.0, 1e-3, rate, 1.0))
    view.progress(Progress(1, 4, 5, 1.0, 1e-3, rate, 1.0))  # once is enough
    said = capsys.readouterr().err
    assert said.count("No GPU") == int(warned)
    if warned:
        assert f"--epochs {36 // n} fits in an hour" in said
        assert "--size 32 makes it" in said
        assert "Dice 0." in said


def test_a_sparkline_spans_its_values() -> None:
    assert live.sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert live.sparkline([0.3, 0.3]) == "▁▁"
    assert len(live.sparkline(list(range(100)))) == 40

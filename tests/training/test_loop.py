"""A whole run on tiny images: its files, its determinism, its ends."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.errors import InputError
from gcsam_med.losses import LOSSES
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.runs import RunFolder, load_model
from gcsam_med.training import Callback, EpochEnd, Start, make_plan, resume, train
from gcsam_med.training.state import TrainingState
from tests.builders import make_prepared, reseal


def settings(data_root: Path, **changes: object) -> RunConfig:
    values: dict[str, object] = {
        "dataset": "toy",
        "data_root": data_root,
        "epochs": 2,
        "batch_size": 6,
        "device": "cpu",
        "task": "segmentation",
    }
    return RunConfig.model_validate(values | changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "weights.safetensors")


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


class Recorder(Callback):
    def __init__(self) -> None:
        self.started: Start | None = None
        self.epochs: list[EpochEnd] = []
        self.notes: list[str] = []

    def start(self, event: Start) -> None:
        self.started = event

    def epoch_end(self, event: EpochEnd) -> None:
        self.epochs.append(event)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_run_leaves_the_contract_s_files(data_root: Path, tmp_path: Path) -> None:
    """Oracle: the contract's list of files and columns."""
    recorder = Recorder()
    result = train(settings(data_root), tmp_path / "run", recorder)
    run = RunFolder.open(tmp_path / "run")
    names = {p.name for p in run.root.iterdir()} - {".lock"}
    assert names == {
        "config.yaml", "history.csv", "checkpoints", "environment.json", "log.txt", "model", "curves.png",
        "val_predictions.png", "result.json",
    }  # fmt: skip
    with run.history_file.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"train_loss", "val_loss", "val_dice", "lr", "seconds", "images_per_second"} <= rows[0].keys()
    assert run.config().task == "segmentation"
    assert run.config().model == "unet"
    facts = json.loads(run.environment_file.read_text())
    assert facts["dataset"]["synthetic"] is True
    assert result.steps == 2 * recorder.started.steps_per_epoch
    assert result.best == max(float(e.row["val_dice"]) for e in recorder.epochs)
    card = load_model(run.model).card
    assert card.epoch == result.best_epoch
    assert card.synthetic
    assert "synthetic" in run.log_file.read_text()


def test_the_configuration_of_a_run_replays_it(data_root: Path, tmp_path: Path) -> None:
    """Oracle: the first run's weights, bit for bit; the second is started from its config.yaml."""
    train(settings(data_root, dropout=0.2, ema=0.9), tmp_path / "a")
    config = RunFolder(tmp_path / "a").config()
    train(config, tmp_path / "b")
    assert_same_bits(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_seeds_differ(data_root: Path, tmp_path: Path) -> None:
    """The control of the test above: another seed gives other weights."""
    train(settings(data_root, epochs=1), tmp_path / "a")
    train(settings(data_root, epochs=1, seed=1), tmp_path / "b")
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_lowers_the_loss(optimizer: str, data_root: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    config = settings(data_root, model="tiny", optimizer=optimizer, epochs=4, augment=False, lr=3e-3)
    train(config, tmp_path / "r", recorder)
    losses = [float(e.row["train_loss"]) for e in recorder.epochs]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_trains_its_task(loss: str, data_root: Path, tmp_path: Path) -> None:
    task = LOSSES[loss].task
    model = "tiny" if task == "segmentation" else None
    recorder = Recorder()
    config = settings(
        data_root, task=task, model=model, loss=loss, epochs=3, augment=False, optimizer="adam", lr=1e-3
    )
    train(config, tmp_path / "r", recorder)
    losses = [float(e.row["train_loss"]) for e in recorder.epochs]
    assert losses[-1] < losses[0]


def test_bfloat16_and_accumulation_run(data_root: Path, tmp_path: Path) -> None:
    result = train(settings(data_root, precision="bf16", accumulate=2, batch_size=3), tmp_path / "r")
    assert result.skipped == 0
    assert result.best > 0


def test_accumulation_equals_the_whole_batch(data_root: Path, tmp_path: Path) -> None:
    """Oracle: one pass over the whole batch; instance norm makes the cases independent, so float rounding is
    all that may differ (plain SGD, since Adam blows rounding up where gradients are near zero)."""
    common = {"optimizer": "sgd", "momentum": 0.0, "lr": 1e-2, "epochs": 1, "clip_norm": 0}
    train(settings(data_root, **common, batch_size=6), tmp_path / "whole")
    train(settings(data_root, **common, batch_size=2, accumulate=3), tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=0, atol=2e-5)


def test_validation_of_one_class_chooses_by_loss_and_says_so(tmp_path: Path) -> None:
    """Oracle: the history's own lowest validation loss; an AUC of one class does not exist."""
    dataset = make_prepared(tmp_path, n=36, size=32, classes=("benign", "malignant"))
    manifest = dataset.manifest.copy()
    moved = (manifest["split"] == "val") & (manifest["label"] == "benign")
    manifest.loc[moved, "split"] = "train"
    manifest.to_csv(dataset.root / "manifest.csv", index=False)
    reseal(dataset.root)
    recorder = Recorder()
    result = train(settings(tmp_path, task="classification", epochs=4, lr=1e-2), tmp_path / "run", recorder)
    rows = [event.row for event in recorder.epochs]
    losses = [float(row["val_loss"]) for row in rows]
    assert result.metric == "loss"
    assert result.best == min(losses)
    assert result.best_epoch == losses.index(min(losses)) + 1
    assert not any("val_auc" in row for row in rows)
    assert any("no case of benign" in text and "loss" in text for text in recorder.started.plan.warnings)
    assert "lowest validation loss" in (tmp_path / "run" / "log.txt").read_text()


def test_validation_without_a_lesion_chooses_by_loss(tmp_path: Path) -> None:
    dataset = make_prepared(tmp_path, n=36, size=32)
    manifest = dataset.manifest.copy()
    moved = (manifest["split"] == "val") & (manifest["label"] != "normal")
    manifest.loc[moved, "split"] = "train"
    manifest.to_csv(dataset.root / "manifest.csv", index=False)
    reseal(dataset.root)
    config = settings(tmp_path, classes=["benign", "malignant", "normal"])
    plan = make_plan(config, PreparedDataset(dataset.root))
    assert plan.metric == "loss"
    assert any("no image with a lesion" in text for text in plan.warnings)


def test_patience_stops(data_root: Path, tmp_path: Path) -> None:
    """A learning rate too small to change anything gives no better epoch after the first."""
    recorder = Recorder()
    result = train(
        settings(data_root, optimizer="sgd", momentum=0.0, lr=1e-30, epochs=9, patience=2),
        tmp_path / "r",
        recorder,
    )
    assert (result.reason, result.best_epoch, result.epochs) == ("patience", 1, 3)
    assert [e.patience_left for e in recorder.epochs] == [2, 1, 0]


def test_time_limit_ends_in_mid_epoch_with_a_model(data_root: Path, tmp_path: Path) -> None:
    result = train(settings(data_root, epochs=1000, max_minutes=1e-4), tmp_path / "r")
    assert result.reason == "max_minutes"
    assert load_model(tmp_path / "r" / "model").card.epoch == 1


def test_an_epoch_that_was_cut_by_time_has_one_row_once_it_is_whole(data_root: Path, tmp_path: Path) -> None:
    """Oracle: the history of a run that was never cut, timings aside."""
    train(settings(data_root, epochs=2), tmp_path / "whole")
    train(settings(data_root, epochs=2, max_minutes=1e-6), tmp_path / "cut")
    assert len(_history(tmp_path / "cut")) == 1
    resume(tmp_path / "cut", max_minutes=60)
    assert _history(tmp_path / "cut") == _history(tmp_path / "whole")


def _history(folder: Path) -> list[dict[str, str]]:
    """Rows of a run's history without its timings."""
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def test_a_finished_run_is_not_overwritten(data_root: Path, tmp_path: Path) -> None:
    train(settings(data_root, epochs=1), tmp_path / "r")
    before = weights(tmp_path / "r")
    with pytest.raises(InputError, match="finished run"):
        train(settings(data_root, epochs=1, seed=3), tmp_path / "r")
    assert_same_bits(before, weights(tmp_path / "r"))


def test_a_default_folder_is_named_by_its_settings_and_numbered(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = train(settings(data_root, epochs=1, fold=1))
    second = train(settings(data_root, epochs=1, fold=1), again=True)
    assert first.folder == Path("runs/toy-unet-gcsam-seed0-fold1")
    assert second.folder == Path("runs/toy-unet-gcsam-seed0-fold1-2")


def test_time_that_was_up_with_the_last_step_leaves_nothing_to_do() -> None:
    """Oracle: the rule; a run of two epochs with three steps each, stopped by its time after six and five."""
    for step, reason in ((6, "epochs"), (5, "")):
        state = TrainingState(step=step, reason="max_minutes", history=[{"epoch": 1}, {"epoch": 2}])
        state.reopen(3, 2)
        assert state.reason == reason
        assert len(state.history) == (2 if reason else 1)

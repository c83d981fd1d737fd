"""A run that is stopped anywhere and resumed is the run that was never stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from gcsam_med.config import RunConfig
from gcsam_med.errors import CheckpointError, ConfigError, EnvironmentFault, InputError, Interrupted
from gcsam_med.runs import RunFolder
from gcsam_med.training import Progress, resume, train
from gcsam_med.training import checkpoint as checkpoint_module
from gcsam_med.training.checkpoint import load_checkpoint, save_checkpoint
from tests.builders import make_prepared
from tests.training import test_loop
from tests.training.test_loop import Recorder, assert_same_bits, weights


def settings(data_root: Path, **changes: object) -> RunConfig:
    """A small network with everything that has a state: dropout, batch norm, instance norm."""
    return test_loop.settings(data_root, model="tiny", **changes)


class StopAfter(Recorder):
    """Sends this process a signal when a step is done."""

    def __init__(self, step: int, name: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self.step, self.name = step, name

    def progress(self, event: Progress) -> None:
        if (event.epoch - 1) * event.steps + event.place == self.step:
            os.kill(os.getpid(), self.name)


@pytest.fixture(autouse=True)
def _look_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcsam_med.training.loop._PROGRESS_SECONDS", -1.0)


HISTORY = ("epoch", "train_loss", "val_loss", "val_dice", "lr")


def history(folder: Path) -> list[list[str]]:
    lines = [line.split(",") for line in RunFolder(folder).history_file.read_text().splitlines()]
    places = [lines[0].index(name) for name in HISTORY]
    return [[line[i] for i in places] for line in lines]


DENSE = {"swa": 0.7, "swa_every": "step"}


@pytest.mark.parametrize(
    ("optimizer", "average"),
    [
        *((name, a) for name in ("adam", "gcsam", "looksam", "msam") for a in ({}, {"ema": 0.9})),
        ("gc", DENSE),
    ],
    ids=str,
)
def test_resume_is_bit_equal(
    optimizer: str, average: dict[str, object], data_root: Path, tmp_path: Path
) -> None:
    """Oracle: the run that was not interrupted. Stopped in mid-epoch, at an epoch's last step, and again."""
    config = settings(data_root, optimizer=optimizer, dropout=0.3, epochs=3, batch_size=5, **average)
    train(config, tmp_path / "whole")
    steps = Recorder()
    with pytest.raises(Interrupted) as stopped:
        train(config, tmp_path / "cut", StopAfter(2))
    assert stopped.value.exit_code == 143
    with pytest.raises(Interrupted):
        resume(tmp_path / "cut", callback=StopAfter(3))
    with pytest.raises(Interrupted):
        resume(tmp_path / "cut", callback=StopAfter(7))
    resume(tmp_path / "cut", callback=steps)
    assert steps.started is not None
    assert steps.started.first_step == 7
    assert_same_bits(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert history(tmp_path / "whole") == history(tmp_path / "cut")
    last = [load_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "cut")]
    one, other = (c.state["parts"] for c in last if c is not None)
    assert_same_bits(one["network"], other["network"])
    if average:
        assert_same_bits(one["averaged"], other["averaged"])


@pytest.mark.parametrize("lost", ["optimizer", "averaged", "sharpness"])
def test_a_resume_that_loses_state_is_found_out(lost: str, data_root: Path, tmp_path: Path) -> None:
    """Negative control of the test above: each part of the state matters to it."""
    config = settings(data_root, optimizer="looksam", ema=0.9, epochs=2, batch_size=5)
    train(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "cut", StopAfter(2))
    kept = load_checkpoint(tmp_path / "cut" / "checkpoints")
    assert kept is not None
    state = kept.state["parts"]
    if lost == "optimizer":
        state["optimizer"]["state"] = {}
    elif lost == "averaged":
        state["averaged"] = {
            k: torch.zeros_like(v) if k != "n_averaged" else v for k, v in state["averaged"].items()
        }
    else:
        state["sharpness"] = state["sharpness"] | {"steps": 0}
    save_checkpoint(tmp_path / "cut" / "checkpoints", kept.step, kept.state)
    resume(tmp_path / "cut")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert any(not torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(
    ("name", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGHUP, 143)],
)
def test_signals_leave_a_checkpoint(name: signal.Signals, code: int, data_root: Path, tmp_path: Path) -> None:
    if signal.getsignal(name) is signal.SIG_IGN:
        pytest.skip("started with nohup")
    before = signal.getsignal(name)
    with pytest.raises(Interrupted) as stopped:
        train(settings(data_root), tmp_path / "r", StopAfter(1, name))
    assert stopped.value.exit_code == code
    kept = load_checkpoint(tmp_path / "r" / "checkpoints")
    assert kept is not None
    assert kept.step == 1
    assert signal.getsignal(name) is before


def test_an_unfinished_run_is_offered(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(settings(data_root), tmp_path / "r", StopAfter(1))
    with pytest.raises(InputError, match="unfinished") as refused:
        train(settings(data_root), tmp_path / "r")
    assert "--resume" in refused.value.advice


def test_other_settings_are_refused_and_named(data_root: Path, tmp_path: Path) -> None:
    train(settings(data_root, epochs=1), tmp_path / "r")
    with pytest.raises(ConfigError, match=r"rho: 0\.05 in the run, 0\.1 now"):
        resume(tmp_path / "r", rho=0.1)
    with pytest.raises(ConfigError) as refused:
        resume(tmp_path / "r", epochs=3)
    assert "--extend" in refused.value.advice


def test_a_finished_run_can_be_extended(data_root: Path, tmp_path: Path) -> None:
    first = train(settings(data_root, epochs=1), tmp_path / "r")
    same = resume(tmp_path / "r")
    more = resume(tmp_path / "r", epochs=3, extend=True)
    assert (first.epochs, same.epochs, more.epochs) == (1, 1, 3)


def test_another_data_set_is_refused(data_root: Path, tmp_path: Path) -> None:
    train(settings(data_root, epochs=1), tmp_path / "r")
    make_prepared(tmp_path / "other", n=36, size=32, seed=9)
    with pytest.raises(InputError, match="not the one the run was started with"):
        resume(tmp_path / "r", data_root=tmp_path / "other")


def test_a_damaged_checkpoint_costs_the_way_from_the_one_before(data_root: Path, tmp_path: Path) -> None:
    """Oracle: the undamaged run. One flipped bit in the newest checkpoint is said and passed over."""
    train(settings(data_root, epochs=3), tmp_path / "whole")
    train(settings(data_root, epochs=3), tmp_path / "cut")
    (tmp_path / "cut" / "result.json").unlink()
    newest = max((tmp_path / "cut" / "checkpoints").glob("*.pt"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    recorder = Recorder()
    resume(tmp_path / "cut", callback=recorder)
    assert any("damaged" in note for note in recorder.notes)
    assert_same_bits(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_no_whole_checkpoint_is_said(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"x": torch.ones(3)})
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"step-00000002\.pt is damaged.*step-00000001\.pt"):
        load_checkpoint(tmp_path)


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(5):
        save_checkpoint(tmp_path, step, {"step": step})
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step-00000003.pt", "step-00000004.pt"]


def test_an_index_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    save_checkpoint(folder, 1, {"step": 1})
    entries = json.loads((folder / "index.json").read_text())
    entries[0]["file"] = "../elsewhere.pt"
    (folder / "index.json").write_text(json.dumps(entries))
    kept = load_checkpoint(folder)
    assert kept is not None
    assert (kept.step, kept.skipped) == (1, ("index.json is damaged",))


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "write_durably", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        save_checkpoint(tmp_path, 2, {"step": 2})
    kept = load_checkpoint(tmp_path)
    assert kept is not None
    assert kept.step == 1

"""Two processes train as one does; a run of two goes on in one, one goes on in two, and two in two.

The processes are forked and find each other by gloo as torchrun's do; the last test is torchrun itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.errors import ConfigError, EnvironmentFault, Interrupted
from gcsam_med.files import write_json
from gcsam_med.losses import build_loss
from gcsam_med.networks import build_network
from gcsam_med.runs import RunFolder
from gcsam_med.training import loop as loop_module
from gcsam_med.training import resume, train
from gcsam_med.training.batches import StoredCases
from gcsam_med.training.checkpoint import load_checkpoint
from gcsam_med.training.plan import make_plan
from gcsam_med.training.process import check_same_step
from gcsam_med.training.state import own_share
from gcsam_med.training.validation import validate
from tests.builders import make_prepared
from tests.reliability import kills
from tests.training.test_resume import StopAfter

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("processes")
    with kills.tiny_network():
        kills.prepare(folder)
        yield folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_processes(count: int, folder: Path, work: Callable[[], object]) -> str:
    """Do the work in forked processes that torchrun might have started; what they said."""
    port, pids = free_port(), []
    said = folder.with_suffix(".said")
    for rank in range(count):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        code = 1
        try:
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)
            if count > 1:
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "GROUP_RANK": "0",
                    "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                    "TORCHELASTIC_RUN_ID": "test", "GLOO_SOCKET_IFNAME": "lo",
                }  # fmt: skip
            loop_module._PROGRESS_SECONDS = -1.0
            loop_module._CHECKPOINT_SHARE = float("inf")  # after every epoch, however busy the machine is
            loop_module.draw_curves = loop_module.draw_predictions = lambda *_: None  # type: ignore[attr-defined]
            if rank > 0:
                _tell_of_writes(folder)
            try:
                work()
            except Interrupted as stop:
                sys.stderr.write(f"{stop}\n")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert [kills.wait(pid) for pid in pids] == [0] * count, said.read_text()[-3000:]
    return said.read_text()


def _tell_of_writes(folder: Path) -> None:
    """Say whatever this process would change below the run folder."""
    changes = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"}

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            changed = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            path, changed = (arguments or ("",))[0], event in changes
        if changed and str(path).startswith(f"{folder}/"):
            os.write(1, f"WRITES {event} {path}\n".encode())

    sys.addaudithook(hear)


def settings(root: Path, **changes: object) -> RunConfig:
    """A network with instance norm and without dropout; 6 cases a step, 4 steps an epoch."""
    values: dict[str, Any] = {
        "dataset": "toy", "data_root": root, "task": "segmentation", "model": "unet", "optimizer": "adam",
        "epochs": 3, "batch_size": 6, "lr": 3e-4, "device": "cpu", "ema": 0.9,
    }  # fmt: skip
    return RunConfig(**{**values, **changes})


def last_state(folder: Path) -> dict[str, Any]:
    kept = load_checkpoint(folder / "checkpoints")
    assert kept is not None
    return {"step": kept.step, "history": kept.state["state"]["history"], **kept.state["parts"]}


def assert_close(one: Path, other: Path) -> None:
    """The same to 1e-5: history (unrounded, as the checkpoint has it), weights, and their average."""
    found, expected = last_state(one), last_state(other)
    assert found["step"] == expected["step"]
    rows = zip(found["history"], expected["history"], strict=True)
    for row, wanted in rows:
        for column, tolerance in {"train_loss": 1e-5, "val_loss": 1e-5, "val_dice": 1e-3, "lr": 0.0}.items():
            # Dice counts pixels, and a pixel on the threshold turns with the last bit.
            assert row[column] == pytest.approx(wanted[column], rel=0, abs=tolerance), (column, row["epoch"])
    for part in ("network", "averaged"):
        for name, weight in found[part].items():
            # Instance norm takes a bias away again: its gradient is rounding, which Adam blows up to steps.
            tolerance = 1e-4 if name.endswith("bias") else 1e-5
            torch.testing.assert_close(weight, expected[part][name], rtol=0, atol=tolerance, msg=name)


def one_and_two_processes(folder: Path, **changes: object) -> tuple[RunFolder, RunFolder]:
    """A run of one process and one of two, of as many cases a step; an epoch's last step has fewer."""
    make_prepared(folder, n=36, size=32)
    runs = []
    for count in (1, 2):
        config = settings(folder, epochs=2, ema=0.0, batch_size=6 // count, **changes)
        run = RunFolder(folder / f"of-{count}")
        in_processes(count, run.root, lambda config=config, run=run: train(config, run.root))
        runs.append(run)
    return runs[0], runs[1]


@linux
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.usefixtures("data_root")
def test_two_processes_follow_the_loss_curve_of_one(accumulate: int, tmp_path: Path) -> None:
    """Oracle: one process with the same global batch, to 1e-5 (instance norm; a last step of uneven size).

    By SGD: Adam enlarges the rounding of gradients that are nearly nothing.
    """
    runs = one_and_two_processes(tmp_path, optimizer="sgd", accumulate=accumulate)
    expected, found = (pd.read_csv(run.history_file) for run in runs)
    for column, tolerance in {"train_loss": 1e-5, "val_loss": 1e-5, "val_dice": 1e-3}.items():
        # Dice counts pixels, and a pixel on the threshold turns with the last bit.
        pd.testing.assert_series_equal(found[column], expected[column], rtol=0, atol=tolerance)


@linux
@pytest.mark.usefixtures("data_root")
def test_each_process_ascends_by_its_own_gradient(tmp_path: Path) -> None:
    """GCSAM in two processes ends with one set of weights, which differs from that of one process: each
    shard ascends by itself (m-sharpness). Its equation is checked in the tests of the optimizers."""
    runs = one_and_two_processes(tmp_path, optimizer="gcsam", rho=0.5)
    weights = [load_file(run.model / "weights.safetensors") for run in runs]
    assert any(not torch.allclose(weights[0][k], weights[1][k], atol=1e-5) for k in weights[0])
    losses = [pd.read_csv(run.history_file)["train_loss"] for run in runs]
    assert (losses[0] - losses[1]).abs().max() < 0.1


@linux
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(
    first: int, then: int, data_root: Path, tmp_path: Path
) -> None:
    """Oracle: the run that is never stopped, in as many processes as at first. Stopped in mid-epoch by a
    signal to one process; with the same cases a step all is the same to 1e-5, what is not exact is said; the
    first process alone writes.
    """
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start = settings(data_root, batch_size=6 // first)
    in_processes(first, whole, lambda: train(start, whole))
    said = in_processes(first, cut, lambda: train(start, cut, StopAfter(7)))
    assert last_state(cut)["step"] == 7
    said += in_processes(then, cut, lambda: resume(cut, batch_size=6 // then))
    assert_close(whole, cut)
    log = (cut / "log.txt").read_text()
    assert log.count(f"processes {first} then, {then} now") == 1
    assert "not bit for bit the same from here" in log
    assert "ascents, batch norm and dropout work by the share of each process" in log
    assert "WRITES" not in said
    files = [sorted(p.relative_to(f).as_posix() for p in f.rglob("*")) for f in (whole, cut)]
    assert files[0] == files[1]


@linux
@pytest.mark.parametrize(("optimizer", "ema"), [("adam", 0.9), ("gcsam", 0.0), ("looksam", 0.9)])
def test_two_processes_resume_bit_equal(optimizer: str, ema: float, data_root: Path, tmp_path: Path) -> None:
    """Oracle: two processes that are never stopped. With dropout, batch norm, and a stop in mid-epoch, the
    end is the same to the last bit, the epoch's mean loss over processes too."""
    config = kills.Trial(optimizer, ema).config(data_root).model_copy(update={"batch_size": 2})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    in_processes(2, whole, lambda: train(config, whole))
    in_processes(2, cut, lambda: train(config, cut, StopAfter(9)))
    assert last_state(cut)["step"] == 9
    in_processes(2, cut, lambda: resume(cut))
    one, other = kills.fingerprint(whole), kills.fingerprint(cut)
    assert [part for part in one if one[part] != other[part]] == []


@linux
def test_all_processes_validate_the_network_that_is_kept(data_root: Path, tmp_path: Path) -> None:
    """Oracle: one process measures the weights and running statistics of the checkpoint. Each process has its
    own statistics after an epoch's last step, but those of the first are kept."""
    config = kills.Trial("adam", 0.0).config(data_root).model_copy(update={"batch_size": 2, "epochs": 1})
    folder = tmp_path / "run"
    in_processes(2, folder, lambda: train(config, folder))
    network = build_network("tiny", task="segmentation", in_channels=1, outputs=1, size=32)
    network.load_state_dict(last_state(folder)["network"])
    plan = make_plan(config, open_prepared(data_root, "toy"))
    loss = build_loss(str(plan.config.loss), None, 0.0)
    cases = StoredCases(plan, plan.val_rows, torch.device("cpu"))
    found = validate(plan, network, loss, cases, lambda: torch.autocast("cpu", enabled=False))
    assert found["val_loss"] == pytest.approx(last_state(folder)["history"][-1]["val_loss"], abs=1e-6)


def test_the_losses_of_an_epoch_under_way_are_shared_out() -> None:
    """Oracle: by hand. As many processes take back their own; others an even part of all."""
    shares = [[3.0, 6.0, 5], [1.0, 6.0, 4]]
    assert [own_share(shares, rank, 2) for rank in (0, 1)] == [(3.0, 6.0, 5), (1.0, 6.0, 4)]
    assert own_share(shares, 0, 1) == (4.0, 12.0, 9)
    assert own_share(shares, 3, 4) == (1.0, 3.0, 3)
    assert own_share([[2.0, 12.0, 9]], 1, 2) == (1.0, 6.0, 5)


def test_processes_that_read_different_checkpoints_are_refused() -> None:
    """Oracle: both steps are named; one process, or the same step, is let pass."""
    fabric = SimpleNamespace(world_size=2, global_rank=1, broadcast=lambda step: 6)
    check_same_step(fabric, 6)
    check_same_step(SimpleNamespace(world_size=1), 9)
    with pytest.raises(EnvironmentFault, match=r"Process 1 found the checkpoint of step 3.*that of step 6"):
        check_same_step(fabric, 3)


@linux
def test_a_resume_cut_off_between_its_files_keeps_the_steps(data_root: Path, tmp_path: Path) -> None:
    """environment.json of the new way and config.yaml of the old one must not add up to other steps."""
    folder = tmp_path / "run"
    config = kills.Trial("adam", 0.0).config(data_root).model_copy(update={"batch_size": 2})
    in_processes(2, folder, lambda: train(config, folder, StopAfter(5)))
    run = RunFolder(folder)
    facts = json.loads(run.environment_file.read_text())
    assert facts["processes"] == 2
    write_json(run.environment_file, facts | {"processes": 1})
    with pytest.raises(ConfigError, match="it took 4 cases a step, now it would take 2"):
        resume(folder)
    in_processes(1, folder, lambda: resume(folder, batch_size=4))
    assert last_state(folder)["step"] == kills.STEPS * kills.EPOCHS


@pytest.mark.slow
@linux
def test_torchrun_is_stopped_and_one_process_goes_on(data_root: Path, tmp_path: Path) -> None:
    """Oracle: SIGTERM to torchrun leaves a checkpoint of both; the refusal names the batch size with which
    one process goes on, and with it the run comes to its end."""
    folder = tmp_path / "run"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
        "gcsam_med", "train", "--dataset", "toy", "--data-root", str(data_root), "--task", "segmentation",
        "--model", "basic-unet", "--optimizer", "adam", "--epochs", "100000", "--patience", "0",
        "--batch-size", "3", "--device", "cpu", "-q", "--output", str(folder),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        while not (folder / "history.csv").is_file():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert "a checkpoint is saved" in said
    stopped = last_state(folder)["step"]
    assert f"after step {stopped};" in said
    epochs = len(pd.read_csv(folder / "history.csv")) + 1
    with pytest.raises(ConfigError, match="it took 6 cases a step") as refused:
        resume(folder, epochs=epochs, extend=True)
    assert "product is 6" in refused.value.advice
    result = resume(folder, epochs=epochs, batch_size=6, extend=True)
    assert (result.epochs, result.reason) == (epochs, "epochs")
    assert result.steps > stopped

"""Workers, memory and signals that fail, and what a former version wrote."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gcsam_med.cli import run as command
from gcsam_med.errors import ConfigError, EnvironmentFault
from gcsam_med.runs import load_model
from gcsam_med.training import loop as loop_module
from gcsam_med.training import start_training
from gcsam_med.training.checkpoint import load_checkpoint
from gcsam_med.training.resume import check_settings, differences
from tests.builders import make_prepared
from tests.reliability.kills import Trial

RELEASED = sorted((Path(__file__).parent / "released").iterdir())


def test_memory_that_runs_out_on_a_cpu_gives_numbers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: torch's own refusal of an allocation that no machine has."""

    def greedy(*args: object, **rest: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr(loop_module, "training_step", greedy)
    with pytest.raises(EnvironmentFault, match="Out of memory with batch size 4") as said:
        start_training(Trial("adam", 0, 0.0).config(root), tmp_path / "r")
    assert "--batch-size 2 --accumulate 2" in said.value.advice


def test_the_second_signal_ends_the_first_process_of_a_container() -> None:
    """As process 1 of its own namespace, where the kernel ignores signals that have no handler."""
    script = (
        "import os, signal, time\n"
        "from gcsam_med.training.signals import StopSignals\n"
        "with StopSignals() as stop:\n"
        "    assert os.getpid() == 1\n"
        "    os.kill(1, signal.SIGTERM)\n"
        "    time.sleep(0.1)\n"
        "    assert stop.exit_code == 143\n"
        "    os.kill(1, signal.SIGTERM)\n"
        "    time.sleep(5)\n"
        "os._exit(9)\n"
    )
    alone = ["unshare", "--pid", "--fork", "--mount-proc"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("namespaces are not allowed here")
    done = subprocess.run(
        [*alone, sys.executable, "-c", script], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 143, done.stderr


@pytest.mark.parametrize("former", RELEASED, ids=lambda path: path.name)
def test_a_run_of_a_released_version_loads_and_trains_on(
    former: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the files as that version wrote them, kept in the repository."""
    del root  # puts the tiny network into the table
    make_prepared(tmp_path / "data", n=36, size=32)
    run = Path(shutil.copytree(former, tmp_path / "run"))
    kept = load_checkpoint(run / "checkpoints")
    assert kept is not None
    assert kept.skipped == ()
    assert load_model(run / "model").card.tool_version.startswith(former.name)
    monkeypatch.chdir(tmp_path)
    assert command(["evaluate", "run", "--device", "cpu", "--resamples", "100", "-q"]) == 0
    assert command(["train", "--resume", "run", "--extend", "--epochs", "3", "-q"]) == 0


def test_what_changed_since_is_said() -> None:
    """Versions, device and number of processes, each with both values."""
    packages = {"torch": "2.14", "monai": "1.6", "numpy": "2"}
    now = {"gcsam_med": "2", "packages": packages, "device": "cpu", "threads": 1, "processes": 1}
    assert differences(now, now) == []
    before = now | {"gcsam_med": "1", "processes": 2, "packages": packages | {"torch": "2.10"}}
    (text,) = differences(before, now)
    for part in (
        "gcsam-med 1 then, 2 now",
        "torch 2.10 then, 2.14 now",
        "processes 2 then, 1 now",
        "same cases",
    ):
        assert part in text


def test_another_number_of_processes_must_take_the_same_steps(root: Path) -> None:
    """Two processes of 4 go on as one of 8, or as one of 4 that accumulates 2; nothing else."""
    config = Trial("adam", 0, 0.0).config(root)
    for change in ({"batch_size": 8}, {"accumulate": 2}):
        check_settings(config, config.model_copy(update=change), False, 8, 1)
    with pytest.raises(ConfigError, match="it took 8 cases a step") as said:
        check_settings(config, config, False, 8, 1)
    assert "product is 8" in said.value.advice

"""Memory that runs out, signals in a container, and settings that may change on a resume."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gcsam_med.errors import ConfigError, EnvironmentFault, machine_fault
from gcsam_med.training import resume, train
from gcsam_med.training import steps as steps_module
from gcsam_med.training.resume import check_settings, differences
from tests.reliability.kills import Trial


def test_memory_that_runs_out_on_a_cpu_gives_numbers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: torch's own refusal of an allocation that no machine has."""

    def greedy(*args: object, **rest: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr(steps_module, "training_step", greedy)
    with pytest.raises(EnvironmentFault, match="Out of memory with batch size 4") as said:
        train(Trial("adam", 0.0).config(root), tmp_path / "r")
    assert "--batch-size 2 --accumulate 2" in said.value.advice


def test_the_second_signal_ends_the_first_process_of_a_container() -> None:
    """As process 1 of its own namespace, where the kernel ignores signals that have no handler."""
    script = (
        "import os, signal, time\n"
        "from gcsam_med.training.process import StopSignals\n"
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
    config = Trial("adam", 0.0).config(root)
    for change in ({"batch_size": 8}, {"accumulate": 2}):
        check_settings(config, config.model_copy(update=change), False, 8, 1)
    with pytest.raises(ConfigError, match="it took 8 cases a step") as said:
        check_settings(config, config, False, 8, 1)
    assert "product is 8" in said.value.advice


@pytest.mark.parametrize("error", [torch.AcceleratorError, RuntimeError])
def test_a_device_that_fails_in_mid_run_saves_nothing_wrong(
    error: type[Exception], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the weights of a run that was never stopped; exit code 3 and advice for the error itself."""
    config = Trial("adam", 0.0).config(root).model_copy(update={"epochs": 1})
    train(config, tmp_path / "whole")
    sound, steps = steps_module.training_step, 0

    def failing(*args: Any, **rest: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise error("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might ...")
        return sound(*args, **rest)

    monkeypatch.setattr(steps_module, "training_step", failing)
    with pytest.raises(error) as caught:
        train(config, tmp_path / "cut")
    fault = machine_fault(caught.value)
    assert fault is not None
    assert (fault.exit_code, "illegal memory access" in fault.message) == (3, True)
    assert "--resume" in fault.advice
    resume(tmp_path / "cut")
    names = [tmp_path / run / "model" / "weights.safetensors" for run in ("whole", "cut")]
    assert names[0].read_bytes() == names[1].read_bytes()

"""environment.json, and resuming: the checkpoint must fit the run, and a changed environment is reported."""

from __future__ import annotations

import platform
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from gcsam_med import __version__
from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.devices import installed_version, usable_cores
from gcsam_med.errors import CheckpointError, ConfigError, InputError
from gcsam_med.reading import read_json
from gcsam_med.runs import RunFolder
from gcsam_med.runs.folder import EXTEND_FIELDS, MACHINE_FIELDS, STEP_FIELDS, changed_settings
from gcsam_med.training.build import Parts
from gcsam_med.training.checkpoint import Checkpoint
from gcsam_med.training.state import TrainingState, own_share

PACKAGES = (
    "torch", "torchvision", "monai", "lightning-fabric", "numpy", "scipy", "scikit-learn", "pillow",
    "pydicom",
)  # fmt: skip


def environment(
    config: RunConfig, dataset: PreparedDataset, device: torch.device, world: int
) -> dict[str, Any]:
    """Describe versions, device and data (``environment.json``)."""
    return {
        "schema": 1,
        "gcsam_med": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: installed_version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cpu_cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "processes": world,
        "cases_per_step": config.batch_size * config.accumulate * world,
        "dataset": {
            "name": dataset.info.name,
            "content_sha256": dataset.info.content_sha256,
            "size": dataset.info.size,
            "synthetic": dataset.info.synthetic,
            "group_kind": dataset.info.group_kind,
        },
    }


class _DatasetFacts(BaseModel):
    model_config = ConfigDict(extra="allow")

    content_sha256: str


class _Environment(BaseModel):
    """What a resume needs of ``environment.json``; the rest is passed on."""

    model_config = ConfigDict(extra="allow")

    dataset: _DatasetFacts
    processes: int = Field(ge=1)
    cases_per_step: int = Field(ge=1)


def read_environment(run: RunFolder) -> dict[str, Any]:
    """Read ``environment.json``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return read_json(run.environment_file, _Environment, "Start a new run.").model_dump()


def check_same_data(facts: dict[str, Any], dataset: PreparedDataset) -> None:
    """Refuse another data set than the run was started with.

    Raises
    ------
    InputError
        If its content hash differs.
    """
    before = facts["dataset"]["content_sha256"]
    if before != dataset.info.content_sha256:
        raise InputError(
            f"The data set '{dataset.info.name}' is not the one the run was started with: "
            f"its content hash is {dataset.info.content_sha256[:12]}, the run's {before[:12]}.",
            "Prepare it again from the same source with the same options, or start a new run.",
        )


def check_settings(former: RunConfig, config: RunConfig, extend: bool, cases: int, processes: int) -> None:
    """Refuse settings that would change what is computed; `extend` allows more epochs and another patience.

    `cases` is what the run took a step, `processes` their number now.

    Raises
    ------
    ConfigError
        Names each setting that differs, with both values.
    """
    if extend and former.swa and former.epochs != config.epochs:
        raise ConfigError(
            "A run with swa cannot be extended: which epochs are averaged depends on their number.",
            "Start a new run with more epochs.",
        )
    asked = config.batch_size * config.accumulate * processes
    if cases != asked:
        raise ConfigError(
            f"The run cannot go on with other steps: it took {cases} cases a step, now it would take {asked} "
            f"({processes} processes x --batch-size {config.batch_size} x --accumulate {config.accumulate}).",
            f"Choose them so that their product is {cases}, or start a new run.",
        )
    allowed = MACHINE_FIELDS | STEP_FIELDS | (EXTEND_FIELDS if extend else frozenset())
    changed = changed_settings(former, config, allowed)
    if changed:
        more = "" if extend or not EXTEND_FIELDS.issuperset(changed) else " Or add --extend to train on."
        raise ConfigError(
            f"The run cannot go on with other settings ({'; '.join(changed.values())}).",
            f"Leave them as they were, or start a new run.{more}",
        )


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Say, by two ``environment.json``, what has changed that can change a result: one sentence, or none."""
    pairs = {"gcsam-med": (before.get("gcsam_med"), after["gcsam_med"])}
    packages = before.get("packages")
    pairs |= {
        name: (packages.get(name) if isinstance(packages, dict) else None, after["packages"][name])
        for name in ("torch", "monai", "numpy")
    }
    pairs |= {key: (before.get(key), after[key]) for key in ("device", "threads", "processes")}
    changed = [f"{name} {old} then, {new} now" for name, (old, new) in pairs.items() if old != new]
    if not changed:
        return []
    text = f"resumed in another environment ({'; '.join(changed)}): not bit for bit the same from here"
    if before.get("processes") != after["processes"]:
        text += (
            "; the steps hold the same cases, but sharpness-aware ascents, batch norm and dropout work by "
            "the share of each process"
        )
    return [text]


def restore(parts: Parts, checkpoint: Checkpoint) -> TrainingState:
    """Restore a checkpoint: the parts' state in place, and the training state.

    Raises
    ------
    CheckpointError
        If it is not of this network, optimizer or layout.
    """
    try:
        parts.load_state_dict(checkpoint.state["parts"])
        _check_moments(parts.optimizer)
        state = TrainingState(**checkpoint.state["state"])
        fabric = parts.fabric
        state.loss_sum, state.weight, state.cases = own_share(
            checkpoint.state["shares"], fabric.global_rank, fabric.world_size
        )
        sound = isinstance(state.history, list) and all(isinstance(row, dict) for row in state.history)
        if not sound or type(state.step) is not int or state.step != checkpoint.step:
            raise ValueError("its training state is not valid")
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"The checkpoint of step {checkpoint.step} does not fit this run's network and optimizer.",
            f"It was damaged or comes from elsewhere: {' '.join(str(error).split())[:300]}",
        ) from error
    return state


def _check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Moments of another shape would be found out only in the first step."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            shaped = isinstance(value, torch.Tensor) and value.numel() != 1
            if shaped and value.shape != parameter.shape:
                raise ValueError(f"{name} is {tuple(value.shape)} for weights of {tuple(parameter.shape)}")

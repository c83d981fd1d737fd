"""Going on from a checkpoint: it must fit the run, and what has changed since is said."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.errors import CheckpointError, ConfigError, InputError
from gcsam_med.files import read_json
from gcsam_med.runs import RunFolder
from gcsam_med.training.build import Session
from gcsam_med.training.checkpoint import Checkpoint
from gcsam_med.training.state import Diary, own_share

# What may differ when a run goes on: it changes where and for how long, not what is computed.
MACHINE_FIELDS = frozenset(
    {
        "data_root", "device", "workers", "worker_timeout", "max_minutes", "checkpoint_minutes",
        "checkpoint_steps", "tensorboard", "mlflow",
    }
)  # fmt: skip
EXTEND_FIELDS = frozenset({"epochs", "patience"})
SHARE_FIELDS = frozenset({"batch_size", "accumulate"})
"""How a step's cases are dealt out; their product with the number of processes may not change."""


def read_facts(run: RunFolder) -> dict[str, Any]:
    """Read ``environment.json``: what the run was made with.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        facts = read_json(run.environment_file)
        if not isinstance(facts["dataset"]["content_sha256"], str):
            raise TypeError
        facts["processes"] = int(facts.get("processes", 1))
        facts["cases_per_step"] = int(facts.get("cases_per_step", 0))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run.environment_file} is missing or damaged.", "Start a new run.") from error
    return dict(facts)


def cases_per_step(facts: dict[str, Any], config: RunConfig) -> int:
    """Cases of a step of the run, over all processes.

    A run that was stopped as it went on with other settings may hold those of one way in
    ``environment.json`` and those of the other in ``config.yaml``; this one number is the same in both.
    Runs of version 0.1 do not have it.
    """
    return int(facts["cases_per_step"]) or config.batch_size * config.accumulate * int(facts["processes"])


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
    """Refuse settings that would change what is computed.

    Parameters
    ----------
    former, config : RunConfig
        The run's settings and those asked for.
    extend : bool
        Whether more epochs and another patience are allowed.
    cases, processes : int
        Cases that the run took a step, and the number of processes now.

    Raises
    ------
    ConfigError
        Names each setting that differs, with both values.
    """
    allowed = MACHINE_FIELDS | (EXTEND_FIELDS if extend else frozenset())
    before, after = former.model_dump(), config.model_dump()
    asked = config.batch_size * config.accumulate * processes
    if cases != asked:
        raise ConfigError(
            f"The run cannot go on with other steps: it took {cases} cases a step, now it would take {asked} "
            f"({processes} processes x --batch-size {config.batch_size} x --accumulate {config.accumulate}).",
            f"Choose them so that their product is {cases}, or start a new run.",
        )
    changed = [n for n in before if before[n] != after[n] and n not in allowed | SHARE_FIELDS]
    if changed:
        listing = "; ".join(f"{name}: {before[name]} in the run, {after[name]} now" for name in changed)
        more = "" if extend or not EXTEND_FIELDS.issuperset(changed) else " Or add --extend to train on."
        raise ConfigError(
            f"The run cannot go on with other settings ({listing}).",
            f"Leave them as they were, or start a new run.{more}",
        )


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Say what was another thing when the run was last under way, one sentence at the most.

    Parameters
    ----------
    before, after : dict
        ``environment.json`` then and now.

    Returns
    -------
    list of str
        Empty if nothing that can change a result differs.
    """
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
    text = f"going on with another environment ({'; '.join(changed)}): not bit for bit the same from here"
    if before.get("processes") != after["processes"]:
        text += (
            "; the steps hold the same cases, but sharpness-aware ascents, batch norm and dropout work by "
            "the share of each process"
        )
    return [text]


def take_up(session: Session, checkpoint: Checkpoint) -> Diary:
    """Put a checkpoint's state into the session and give the diary that goes with it.

    Raises
    ------
    CheckpointError
        If it is not of this network, optimizer or layout.
    """
    try:
        session.load_state_dict(checkpoint.state["session"])
        _check_moments(session.optimizer)
        told = checkpoint.state["diary"]
        known = {field.name: field for field in fields(Diary)}
        diary = Diary(**{name: value for name, value in told.items() if name in known})
        fabric = session.fabric
        if "shares" in checkpoint.state:  # not in checkpoints of version 0.1
            diary.loss_sum, diary.weight, diary.cases = own_share(
                checkpoint.state["shares"], fabric.global_rank, fabric.world_size
            )
        sound = isinstance(diary.history, list) and all(isinstance(row, dict) for row in diary.history)
        if not sound or type(diary.step) is not int or diary.step != checkpoint.step:
            raise ValueError("its diary is not sound")
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"The checkpoint of step {checkpoint.step} does not fit this run's network and optimizer.",
            f"It was damaged or comes from elsewhere: {' '.join(str(error).split())[:300]}",
        ) from error
    return diary


def _check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Moments of another shape would be found out only in the first step."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            shaped = isinstance(value, torch.Tensor) and value.numel() != 1
            if shaped and value.shape != parameter.shape:
                raise ValueError(f"{name} is {tuple(value.shape)} for weights of {tuple(parameter.shape)}")

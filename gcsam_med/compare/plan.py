"""Which runs a comparison is made of, and in which order they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from gcsam_med.config import CompareOptions, RunConfig, load_config
from gcsam_med.datasets.prepared import PreparedDataset, open_prepared
from gcsam_med.errors import ConfigError, InputError, unknown_name
from gcsam_med.fields import Name
from gcsam_med.files import write_json
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.reading import read_json
from gcsam_med.runs import RunFolder
from gcsam_med.training import make_plan
from gcsam_med.training.cost import passes_per_step, seconds_per_pass, training_seconds

SCHEMA = 1
PLAN_FILE = "study.json"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    name: str  #: Its folder's name: model, arm, seed and fold.
    arm: str  #: What is compared: the optimizer, or ``OPTIMIZER-Nx`` with N times the epochs.
    config: RunConfig  #: Complete.


@dataclass(frozen=True)
class StudyPlan:
    """A comparison to be made."""

    folder: Path  #: Where it lies: ``study.json``, ``runs/`` and, at last, ``comparison.html``.
    #: In the order they are made: all arms of the first seed before the second, so that what is there when
    #: time runs out can be compared.
    runs: tuple[PlannedRun, ...]
    split: str = "test"  #: The split the runs are compared on.

    def folder_of(self, run: PlannedRun) -> RunFolder:
        """Where a run lies."""
        return RunFolder(self.folder / "runs" / run.name)

    @property
    def centres(self) -> tuple[str, ...]:
        """Centres that are left out in turn; empty where none is."""
        return tuple(dict.fromkeys(run.config.leave_out for run in self.runs if run.config.leave_out))

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, the reference first."""
        return tuple(dict.fromkeys(run.arm for run in self.runs))

    def write(self) -> None:
        """Keep the plan, for tasks of a cluster and for a later look."""
        content = {
            "schema": SCHEMA,
            "split": self.split,
            "runs": [
                {"name": run.name, "arm": run.arm, "config": run.config.model_dump(mode="json")}
                for run in self.runs
            ],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / PLAN_FILE, content, indent=1)


def make_study_plan(
    options: CompareOptions,
    settings: Mapping[str, Any],
    folder: Path,
    *,
    config: Path | None = None,
    sets: Sequence[str] = (),
) -> StudyPlan:
    """Work out every run of a study; nothing is written yet.

    `settings`, `config` and `sets` are settings common to all runs, as in `load_config`; `folder` is where
    the study will lie.

    Raises
    ------
    InputError
        If a name is unknown, or the runs do not fit the data set.
    """
    for name in options.optimizers:
        if name not in OPTIMIZERS:
            raise unknown_name("optimizer", name, OPTIMIZERS.keys())
    base = load_config(config, settings, sets)
    if base.rho == "auto":
        raise ConfigError(
            "A comparison needs a fixed rho: --rho auto would look at validation for some runs only.",
            "Find it once with `gcsam-med train --rho auto`, then compare with --rho VALUE.",
        )
    dataset = open_prepared(base.data_root, base.dataset)
    centres = _centres(options, dataset)
    folds = range(dataset.info.folds) if options.folds == "all" else options.folds or (None,)
    arms = _arms(options, base)
    runs = []
    models = options.models or (base.model,)
    for centre, fold, seed, model in product(centres, folds, options.seeds, models):
        for arm, optimizer, factor in arms:
            settings_of_run = {
                "optimizer": optimizer,
                "seed": seed,
                "fold": fold,
                "leave_out": centre,
                "model": model,
                "epochs": round(base.epochs * factor),
            }
            complete = make_plan(base.model_copy(update=settings_of_run), dataset).config
            where = "" if fold is None else f"-fold{fold}"
            where += "" if centre is None else f"-without-{centre}"
            runs.append(PlannedRun(f"{complete.model}-{arm}-seed{seed}{where}", arm, complete))
    return StudyPlan(folder, tuple(runs), options.split)


class _PlannedRunFile(BaseModel):
    name: Name
    arm: str = Field(max_length=300)
    config: dict[str, Any]


class _StudyFile(BaseModel):
    """``study.json``."""

    schema_version: Literal[1] = Field(alias="schema")
    split: Literal["val", "test"]
    runs: list[_PlannedRunFile] = Field(max_length=100_000)


def read_study_plan(folder: Path) -> StudyPlan:
    """Read the plan of a study from its folder.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    path = folder / PLAN_FILE
    if not path.exists():
        raise InputError(
            f"{folder} holds no study.",
            "Plan one with: gcsam-med compare --dataset D --output " + str(folder),
        )
    found = read_json(path, _StudyFile, "Plan the study anew.")
    runs = tuple(PlannedRun(run.name, run.arm, load_config(None, run.config)) for run in found.runs)
    return StudyPlan(folder, runs, found.split)


def _centres(options: CompareOptions, dataset: PreparedDataset) -> tuple[str | None, ...]:
    """Centres that are left out in turn; None where none is."""
    if not options.leave_out:
        return (None,)
    if options.split != "test":
        raise InputError("--leave-out tests on the centre that is left out.", "Drop --split.")
    if len(dataset.centres) < 2:
        raise InputError(
            f"'{dataset.info.name}' has no two centres to leave out in turn.",
            "Compare several sets: --datasets A,B",
        )
    if options.leave_out == ("each",):
        return dataset.centres
    for name in options.leave_out:
        if name not in dataset.centres:
            raise unknown_name("centre", name, dataset.centres)
    return options.leave_out


def chosen_run(plan: StudyPlan, only: str) -> PlannedRun:
    """Find a run by its name or its number (from 0) in the plan."""
    if only.isdecimal():
        if int(only) >= len(plan.runs):
            raise InputError(f"The study has {len(plan.runs)} runs, numbered from 0; there is no {only}.")
        return plan.runs[int(only)]
    by_name = {run.name: run for run in plan.runs}
    if only not in by_name:
        raise unknown_name("run of the study", only, by_name.keys())
    return by_name[only]


def estimate_seconds(plan: StudyPlan, device: str | None = None) -> dict[str, float]:
    """Estimate the training time of every run of a study from its beginning, in seconds by the run's name.

    Validation is included; early stopping may make it less. `device` is used instead of the configurations'.
    """
    pace: dict[str | None, float] = {}
    seconds = {}
    for run in plan.runs:
        config = run.config if device is None else run.config.model_copy(update={"device": device})
        planned = make_plan(config, open_prepared(config.data_root, config.dataset))
        info = planned.dataset.info
        if config.model not in pace:
            pace[config.model] = seconds_per_pass(
                config,
                info.size,
                channels=planned.preprocessing.channels,
                classes=planned.outputs,
                modality=info.modality,
            )
        cases = len(planned.train_rows), len(planned.val_rows)
        seconds[run.name] = training_seconds(config, pace[config.model], *cases)
    return seconds


def _arms(options: CompareOptions, base: RunConfig) -> list[tuple[str, str, float]]:
    """Name, optimizer and factor of epochs of each arm."""
    arms: list[tuple[str, str, float]] = []
    cost = {name: passes_per_step(base.model_copy(update={"optimizer": name})) for name in options.optimizers}
    most = max(cost.values())
    for name in options.optimizers:
        arms.append((name, name, 1.0))
        if options.equal_compute and OPTIMIZERS[name].ascent is None and most > cost[name]:
            factor = most / cost[name]
            arms.append((f"{name}-{factor:g}x", name, factor))
    if options.equal_compute and len(arms) == len(options.optimizers):
        raise InputError(
            "--equal-compute has nothing to add: no plain optimizer stands beside a more expensive one.",
            "Name a plain optimizer (adam, adamw or sgd) and a sharpness-aware one.",
        )
    return arms

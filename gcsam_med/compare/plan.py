"""Which runs a comparison is made of, and in which order they are made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gcsam_med.compare.cost import passes_per_step
from gcsam_med.config import RunConfig, load_config
from gcsam_med.datasets.prepared import PreparedDataset, open_prepared
from gcsam_med.errors import ConfigError, InputError, unknown_name
from gcsam_med.files import write_durably
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.runs import RunFolder
from gcsam_med.training import make_plan

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
        write_durably(self.folder / PLAN_FILE, (json.dumps(content, indent=1) + "\n").encode())


@dataclass(frozen=True)
class Question:
    """What a study asks, as the user gave it."""

    optimizers: tuple[str, ...]  #: Names in `OPTIMIZERS`; the first is the reference.
    seeds: tuple[int, ...]  #: One run each.
    folds: tuple[int | str, ...] = ()  #: Validation folds; empty for the split's own validation part.
    models: tuple[str, ...] = ()  #: Networks; empty for the task's default.
    #: Add the plain optimizers with as many gradient computations as the dearest of the others.
    equal_compute: bool = False
    settings: dict[str, Any] = field(default_factory=dict)  #: Of all runs; see `RunConfig`.


def make_study_plan(
    question: Question,
    folder: Path,
    *,
    config: Path | None = None,
    sets: Sequence[str] = (),
    split: str = "test",
) -> StudyPlan:
    """Work out every run of a study.

    Parameters
    ----------
    question : Question
        What is compared.
    folder : Path
        Where the study will lie.
    config : Path, optional
        YAML file of settings common to all runs.
    sets : sequence of str
        ``key=value`` settings common to all runs.
    split : str
        ``val`` or ``test``.

    Returns
    -------
    StudyPlan
        Nothing is written yet.

    Raises
    ------
    InputError
        If a name is unknown, a value is given twice, or the runs do not fit the data set.
    """
    _check_names(question)
    base = load_config(config, question.settings, sets)
    if base.rho == "auto":
        raise ConfigError(
            "A comparison needs a fixed rho: --rho auto would look at validation for some runs only.",
            "Find it once with `gcsam-med train --rho auto`, then compare with --rho VALUE.",
        )
    dataset = open_prepared(base.data_root, base.dataset)
    folds = _folds(question.folds, dataset)
    runs = []
    for fold in folds:
        for seed in question.seeds:
            for model in question.models or (base.model,):
                for arm, optimizer, factor in _arms(question, base):
                    settings = base.model_copy(
                        update={
                            "optimizer": optimizer,
                            "seed": seed,
                            "fold": fold,
                            "model": model,
                            "epochs": round(base.epochs * factor),
                        }
                    )
                    complete = make_plan(settings, dataset).config
                    where = "" if fold is None else f"-fold{fold}"
                    runs.append(PlannedRun(f"{complete.model}-{arm}-seed{seed}{where}", arm, complete))
    return StudyPlan(folder, tuple(runs), split)


def read_study_plan(folder: Path) -> StudyPlan:
    """Read the plan of a study from its folder.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    path = folder / PLAN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise InputError(f"{path} has schema {content['schema']!r}; this version reads {SCHEMA}.")
        runs = tuple(
            PlannedRun(_plain_name(item["name"]), str(item["arm"]), load_config(None, item["config"]))
            for item in content["runs"]
        )
        return StudyPlan(folder, runs, str(content["split"]))
    except FileNotFoundError:
        raise InputError(
            f"{folder} holds no study.",
            "Plan one with: gcsam-med compare --dataset D --output " + str(folder),
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}).", "Plan the study anew.") from error


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


def _plain_name(name: str) -> str:
    # The name becomes a folder: one that leaves the folder of the study must not come from a file.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+_.-]*", name):
        raise ValueError(name)
    return name


def _check_names(question: Question) -> None:
    for name in question.optimizers:
        if name not in OPTIMIZERS:
            raise unknown_name("optimizer", name, OPTIMIZERS.keys())
    for what, values in (
        ("optimizer", question.optimizers),
        ("seed", question.seeds),
        ("fold", question.folds),
        ("model", question.models),
    ):
        twice = sorted({str(v) for v in values if list(values).count(v) > 1})
        if twice:
            raise InputError(f"The {what} {', '.join(twice)} is given more than once.")
    if not question.seeds or not question.optimizers:
        raise InputError("A study needs at least one optimizer and one seed.")


def _folds(wanted: Iterable[int | str], dataset: PreparedDataset) -> tuple[int | None, ...]:
    values = tuple(wanted)
    if values == ("all",):
        return tuple(range(dataset.info.folds))
    return tuple(int(v) for v in values) or (None,)


def _arms(question: Question, base: RunConfig) -> list[tuple[str, str, float]]:
    """Name, optimizer and factor of epochs of each arm."""
    arms: list[tuple[str, str, float]] = []
    cost = {
        name: passes_per_step(base.model_copy(update={"optimizer": name})) for name in question.optimizers
    }
    dearest = max(cost.values())
    for name in question.optimizers:
        arms.append((name, name, 1.0))
        if question.equal_compute and OPTIMIZERS[name].perturbation is None and dearest > cost[name]:
            factor = dearest / cost[name]
            arms.append((f"{name}-{factor:g}x", name, factor))
    if question.equal_compute and len(arms) == len(question.optimizers):
        raise InputError(
            "--equal-compute has nothing to add: no plain optimizer stands beside a dearer one.",
            "Name a plain optimizer (adam, adamw or sgd) and one that ascends.",
        )
    return arms

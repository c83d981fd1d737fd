"""Which runs a comparison is made of, and in which order they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gcsam_med.compare.arms import planned_arms
from gcsam_med.config import CompareOptions, RunConfig, load_config
from gcsam_med.datasets.prepared import PreparedDataset, open_prepared
from gcsam_med.errors import InputError, unknown_name
from gcsam_med.fields import Name, check_name
from gcsam_med.files import check_free, check_place, make_folder, write_json
from gcsam_med.reading import is_ours, read_json, read_json_or_empty
from gcsam_med.reporting.comparison import Tuning
from gcsam_med.runs import RunFolder
from gcsam_med.training import make_plan
from gcsam_med.training.cost import seconds_per_pass, training_seconds

SCHEMA = 1
PLAN_FILE = "study.json"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    name: Name  #: Its folder's name: model, arm, seed and fold.
    #: What is compared: an optimizer with settings, or ``ARM-Nx`` with N times the epochs.
    arm: Annotated[str, Field(max_length=300)]
    config: RunConfig  #: Complete.


@dataclass(frozen=True)
class StudyPlan:
    """A comparison to be made."""

    folder: Path  #: Where it lies: ``study.json``, ``runs/`` and, at last, ``comparison.html``.
    #: In the order they are made: all arms of the first seed before the second, so that what is there when
    #: time runs out can be compared.
    runs: tuple[PlannedRun, ...]
    split: str = "test"  #: The split the runs are compared on.
    margin: float | None = None  #: Difference below which two arms count as equally good, named before.
    tuning: tuple[Tuning, ...] = ()  #: How settings of the arms were chosen, where they were tuned.

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
        """Keep the plan, for tasks of a cluster and for a later look.

        Raises
        ------
        InputError
            If it names another margin than before, and there are results.
        """
        check_place(self.folder, "Give another --output.")
        if not is_ours(self.folder / PLAN_FILE):
            check_free(self.folder, [PLAN_FILE])
        before = read_json_or_empty(self.folder / PLAN_FILE)
        known = [run for run in self.runs if self.folder_of(run).evaluation(self.split).exists()]
        if before and before.get("margin") != self.margin and known:
            named = before.get("margin") or "not named"
            raise InputError(
                f"The margin of the study in {self.folder} is {named}, and there are results already; it "
                "cannot be named or changed now.",
                "Leave --margin as it was. To ask by another one and have the report say that it came "
                "afterwards, compare the finished runs: gcsam-med compare RUN... --margin X",
            )
        content = {
            "schema": SCHEMA,
            "split": self.split,
            "margin": self.margin,
            "tuning": [asdict(one) for one in self.tuning],
            "runs": [
                {"name": run.name, "arm": run.arm, "config": run.config.model_dump(mode="json")}
                for run in self.runs
            ],
        }
        make_folder(self.folder, "runs")
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
    base = load_config(config, settings, sets)
    arms = planned_arms(options, base)
    dataset = open_prepared(base.data_root, base.dataset)
    centres = _centres(options, dataset)
    folds = range(dataset.info.folds) if options.folds == "all" else options.folds or (None,)
    runs = []
    models = options.models or (base.model,)
    for centre, fold, seed, model in product(centres, folds, options.seeds, models):
        for arm in arms:
            where = {"seed": seed, "fold": fold, "leave_out": centre, "model": model}
            complete = make_plan(arm.config(base).model_copy(update=where), dataset).config
            part = "" if fold is None else f"-fold{fold}"
            part += "" if centre is None else f"-without-{centre}"
            name = check_name(f"{complete.model}-{arm.name}-seed{seed}{part}", "a run")
            runs.append(PlannedRun(name, arm.name, complete))
    return StudyPlan(folder, tuple(runs), options.split, options.margin)


class _StudyFile(BaseModel):
    """``study.json``."""

    schema_version: Literal[1] = Field(alias="schema")
    split: Literal["val", "test"]
    runs: list[PlannedRun] = Field(max_length=100_000)
    margin: float | None = Field(default=None, gt=0, lt=1)
    tuning: list[Tuning] = Field(default=[], max_length=10_000)


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
    return StudyPlan(folder, tuple(found.runs), found.split, found.margin, tuple(found.tuning))


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

"""Choose the learning rate and rho of each arm on validation, with as many tries for every arm.

The tries are a study of their own, in the folder ``tuning`` of the study: one seed that the study does not
use, evaluated on the validation split. The test split is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gcsam_med.compare.execute import missing_runs
from gcsam_med.compare.finished_runs import FinishedRun, finished_of_plan
from gcsam_med.compare.plan import PlannedRun, StudyPlan, make_study_plan
from gcsam_med.config import CompareOptions, RunConfig
from gcsam_med.errors import InputError
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.reporting.comparison import Try, Tuning
from gcsam_med.training.cost import passes_per_step

FOLDER = "tuning"
FACTORS: dict[str, tuple[float, ...]] = {"lr": (1 / 3, 1.0, 3.0), "rho": (0.5, 1.0, 2.0)}
"""What the arm's own value is multiplied by."""

_DIGITS = 3


def plan_study(
    options: CompareOptions,
    settings: Mapping[str, Any],
    folder: Path,
    *,
    config: Path | None = None,
    sets: Sequence[str] = (),
    make: Callable[[StudyPlan], None] | None = None,
) -> tuple[StudyPlan, StudyPlan | None]:
    """Plan a study as `make_study_plan` does, and make its tries first if it is to be tuned.

    `make` makes the runs of a plan that are left. Without it nothing is made, and until the tries are there
    the runs of the study have the settings from before the tuning. The second plan is that of the tries.
    """
    plan = make_study_plan(options, settings, folder, config=config, sets=sets)
    if not options.tune:
        return plan, None
    one_each = make_study_plan(_for_tuning(options), settings, folder, config=config, sets=sets)
    tries = tuning_plan(one_each, options.tune)
    if make is not None:
        make(tries)
    elif missing_runs(tries):
        return plan, tries
    return tuned_plan(plan, tunings(tries, one_each, options.tune)), tries


def _for_tuning(options: CompareOptions) -> CompareOptions:
    """Options of a plan with one run for each network and arm, on which the tries are built."""
    folds = (0,) if options.folds == "all" else options.folds and options.folds[:1]
    seed = (max(options.seeds) + 1) % 2**32
    return options.model_copy(update={"seeds": (seed,), "folds": folds})


def tuning_plan(one_each: StudyPlan, tune: Sequence[str]) -> StudyPlan:
    """Plan the tries of each run of a plan that has one run for each network and arm."""
    runs = [
        PlannedRun(
            f"{run.name}-" + "-".join(f"{key}{value:g}" for key, value in values.items()),
            f"{run.arm} " + " ".join(f"{key}={value:g}" for key, value in values.items()),
            run.config.model_copy(update=values),
        )
        for run in one_each.runs
        for values in grid(run.config, tune, run.arm)
    ]
    return StudyPlan(one_each.folder / FOLDER, tuple(runs), "val")


def grid(config: RunConfig, tune: Sequence[str], arm: str = "") -> list[dict[str, float]]:
    """List the values that are tried for an arm, as many for every arm.

    `config` is complete. An arm without rho gets, in place of products with rho, as many learning rates over
    the same range.
    """
    own = {"lr": float(config.lr or 0), "rho": float(config.rho or 0)}
    if "rho" not in tune or (OPTIMIZERS[config.optimizer].ascends and own["rho"]):
        return [
            {key: _rounded(own[key] * factor) for key, factor in zip(tune, factors, strict=True)}
            for factors in product(*(FACTORS[key] for key in tune))
        ]
    if "lr" not in tune:
        raise InputError(
            f"Arm '{arm}' has no rho, so --tune rho would give it nothing to try.", "Use --tune lr,rho."
        )
    tries = np.prod([len(FACTORS[key]) for key in tune])
    rates = np.geomspace(FACTORS["lr"][0], FACTORS["lr"][-1], int(tries)) * own["lr"]
    return [{"lr": _rounded(rate)} for rate in rates]


def tunings(tries: StudyPlan, one_each: StudyPlan, tune: Sequence[str]) -> tuple[Tuning, ...]:
    """Read the finished tries: what was tried for each arm and network, and what was best on validation.

    Raises
    ------
    InputError
        If a try is missing.
    """
    found = {run.name: run for centre in tries.centres or (None,) for run in finished_of_plan(tries, centre)}
    missing = [run.name for run in tries.runs if run.name not in found]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(tries.runs)} tries of the tuning are not finished, {missing[0]} first.",
            "Run the same command again; what is finished is kept.",
        )
    planned = iter(tries.runs)
    result = []
    for run in one_each.runs:
        settings = grid(run.config, tune, run.arm)
        runs = [found[next(planned).name] for _ in settings]
        made = tuple(Try(s, _value(r)) for s, r in zip(settings, runs, strict=True))
        best = max(made, key=lambda one: -np.inf if one.value is None else one.value)
        passes = sum(r.result["steps"] * passes_per_step(r.config) for r in runs)
        minutes = sum(r.result["seconds"] for r in runs) / 60
        config = run.config
        where = str(config.model), run.arm, runs[0].main_metric, config.seed
        result.append(Tuning(*where, made, best.settings, passes, minutes, config.leave_out))
    return tuple(result)


def tuned_plan(plan: StudyPlan, found: tuple[Tuning, ...]) -> StudyPlan:
    """Give the runs of a plan the values that were chosen for their arm and network."""
    chosen = {(one.model, one.arm, one.without): dict(one.chosen) for one in found}
    runs = tuple(
        replace(
            run,
            config=run.config.model_copy(update=chosen[str(run.config.model), run.arm, run.config.leave_out]),
        )
        for run in plan.runs
    )
    return replace(plan, runs=runs, tuning=found)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _value(run: FinishedRun) -> float | None:
    value = run.metrics["metrics"].get(run.main_metric, {"value": None})["value"]
    return None if value is None else float(value)

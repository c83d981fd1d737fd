"""`gcsam-med plan`: how large a study has to be, told by the runs of a pilot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gcsam_med.compare.finished_runs import FinishedRun, finished_of_folders, finished_of_plan
from gcsam_med.compare.paired_cases import PairedCases, of_shared_seeds, paired_cases
from gcsam_med.compare.plan import PLAN_FILE, read_study_plan
from gcsam_med.config import PathLike, PlanOptions
from gcsam_med.errors import InputError, unknown_name
from gcsam_med.fields import chosen
from gcsam_med.metrics.intervals import replicate
from gcsam_med.metrics.planning import Components, Question, groups_needed, power, smallest_margin
from gcsam_med.reporting.comparison import StudySize, StudySizes

QUESTIONS: tuple[Question, ...] = ("not worse", "equivalent")
_CURVE_POINTS = 12


@dataclass(frozen=True)
class _Pilot:
    metric: str
    parts: Components
    basis: str
    n_groups: int
    n_cases: int
    group_kind: str


def plan_size(pilot: Sequence[PathLike], options: PlanOptions | None = None, **fields: object) -> StudySizes:
    """Say how many groups (patients) and seeds a comparison takes, from a pilot.

    Parameters
    ----------
    pilot : sequence of str or path
        The folder of a study, or finished, evaluated runs. With runs of two arms the variances are those of
        their difference; with one arm they are guessed from it (see `PlanOptions.correlation`).
    options : PlanOptions, optional
        Margin, power and seeds; `fields` change it.

    Returns
    -------
    StudySizes
        A row for each number of seeds, and the curves of power by the number of groups.

    Raises
    ------
    InputError
        If the pilot has no such metric or arm, or its runs do not fit each other.
    """
    options = chosen(PlanOptions, options, **fields)
    found = _pilot(_runs([Path(p) for p in pilot], options), options)
    margin, wanted = options.margin, options.power
    rows = []
    for n in options.seeds:
        needed: dict[str, int | None] = {
            q: groups_needed(found.parts, n, margin, wanted, q) for q in QUESTIONS
        }
        now: dict[str, float] = {
            q: smallest_margin(found.parts, found.n_groups, n, wanted, q) for q in QUESTIONS
        }
        rows.append(StudySize(n, needed, now))
    largest = max([found.n_groups, *(n for row in rows for n in row.needed.values() if n is not None)])
    sizes = np.unique(np.geomspace(5, 1.5 * max(largest, 10), _CURVE_POINTS).round().astype(int))
    curves = {
        row.n_seeds: tuple(
            (int(g), power(found.parts, int(g), row.n_seeds, margin, "not worse")) for g in sizes
        )
        for row in rows
    }
    return StudySizes(
        metric=found.metric,
        margin=margin,
        power=wanted,
        basis=found.basis,
        variances={"groups": found.parts.groups, "seeds": found.parts.seeds, "rest": found.parts.rest},
        n_groups=found.n_groups,
        n_cases=found.n_cases,
        group_kind=found.group_kind,
        rows=tuple(rows),
        curves=curves,
    )


def _runs(folders: list[Path], options: PlanOptions) -> list[FinishedRun]:
    if len(folders) == 1 and (folders[0] / PLAN_FILE).is_file():
        plan = read_study_plan(folders[0])
        return finished_of_plan(plan, plan.centres[0] if plan.centres else None)
    return finished_of_folders(folders, options.split)


def _pilot(runs: list[FinishedRun], options: PlanOptions) -> _Pilot:
    arms: dict[str, list[FinishedRun]] = {}
    for run in runs:
        if run.model == runs[0].model:
            arms.setdefault(run.arm, []).append(run)
    paired = paired_cases(runs, n_resamples=options.resamples, seed=0)
    if options.metric not in (None, paired.metric):
        raise InputError(
            f"The pilot's main metric is {paired.metric}, not {options.metric}.",
            f"Use --metric {paired.metric}, or another pilot.",
        )
    for name in options.arms:
        if name not in arms:
            raise unknown_name("arm of the pilot", name, arms)
    names = options.arms or tuple(arms)
    one, other = arms[names[0]], arms[names[-1]]
    n_groups = paired.resamples.n_groups
    if n_groups < 2:
        raise InputError("The pilot's cases belong to one group, so nothing is known about other patients.")
    if len(names) > 1 and names[0] != names[-1]:
        parts, basis = _of_pair(paired, one, other)
        basis = f"{names[-1]} minus {names[0]}, {basis}"
    else:
        parts, basis = _of_one(paired, one, options.correlation)
    if not 0 < parts.groups + parts.seeds + parts.rest < math.inf:
        raise InputError(
            "The pilot's result is the same for every group and seed, so it does not tell how others vary.",
            "Give a pilot that was trained longer, or has more cases.",
        )
    kind = str(runs[0].metrics["group_kind"])
    return _Pilot(paired.metric, parts, basis, n_groups, len(paired.case_ids), kind)


def _of_pair(
    paired: PairedCases, first: list[FinishedRun], second: list[FinishedRun]
) -> tuple[Components, str]:
    a, b = of_shared_seeds(first, second)
    if len(a) < 2:
        raise InputError(
            f"The two arms have {len(a)} seeds in common; their variation needs two or more.",
            "Train more seeds of both, or give the runs of one arm only.",
        )
    effects = paired.difference(a, b)
    if effects.mean.value is None:
        raise InputError(f"The difference of the two arms is not defined: {effects.mean.reason}.")
    return Components.of(effects, paired.resamples.n_groups), f"{len(a)} seeds"


def _of_one(paired: PairedCases, runs: list[FinishedRun], correlation: float) -> tuple[Components, str]:
    """Guess the variances of a difference from those of one recipe: two like it, of correlated cases."""
    guess = f"two recipes like it, whose results correlate by {correlation:g} over cases"
    if len(runs) > 1:
        effects = paired.mean(runs)
        if effects.mean.value is None:
            raise InputError(f"The metric of the pilot is not defined: {effects.mean.reason}.")
        own = Components.of(effects, paired.resamples.n_groups)
        parts = Components(2 * (1 - correlation) * own.groups, 2 * own.seeds, 2 * own.rest)
        return parts, f"one arm with {len(runs)} seeds; {guess}"
    draws = replicate(paired.statistic(runs[0]), paired.resamples)
    whole = float(np.nanvar(draws, ddof=1)) * paired.resamples.n_groups
    parts = Components(2 * (1 - correlation) * whole, 0.0, 0.0)
    return parts, f"one run, so that what seeds add is not known and is left out; {guess}"

"""The whole of `compare`: from finished runs, or a plan of new ones, to a comparison and its report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from gcsam_med.compare.analyse import compare
from gcsam_med.compare.centres import over_centres
from gcsam_med.compare.execute import SLIM, missing_runs, run_here
from gcsam_med.compare.finished_runs import FinishedRun, finished_of_folders, finished_of_plan
from gcsam_med.compare.plan import StudyPlan
from gcsam_med.compare.tune import plan_study
from gcsam_med.config import CompareOptions, PathLike
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.errors import InputError
from gcsam_med.evaluation.gallery import draw_compared
from gcsam_med.fields import chosen
from gcsam_med.preparation import merge
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.comparison import CentreStudy, ComparedCase, Comparison
from gcsam_med.reporting.report import Notice
from gcsam_med.reporting.text import readable_arm
from gcsam_med.reporting.write import write_centres, write_comparison
from gcsam_med.training import Callback


def compare_optimizers(
    runs: Sequence[PathLike] = (),
    options: CompareOptions | None = None,
    *,
    output: PathLike | None = None,
    track: Track = silent,
    **fields: Any,
) -> Comparison | CentreStudy:
    """Compare finished runs, or make the runs of a study in this process and compare them.

    Parameters
    ----------
    runs : sequence of str or path
        Finished, evaluated runs; the first one's recipe is the reference. Empty: a study of ``dataset``.
    options : CompareOptions, optional
        What is compared; `fields` change it.
    output : str or path, optional
        Folder of the study, ``runs/compare-DATASET`` by default; runs that are finished there are kept. For
        finished `runs`: where the report goes, none by default.
    track : Track
        Shows the progress of evaluations.
    **fields
        Fields of `CompareOptions`, such as ``optimizers=["adam", "gcsam"]``, and of `RunConfig`, common to
        all runs, such as ``dataset="busi"``.

    Returns
    -------
    Comparison or CentreStudy
        ``arms`` and ``pairs`` hold the results, with ``leave_out`` over centres and ``by_centre`` for each; a
        report lies in the folder.

    Raises
    ------
    InputError
        If the runs do not fit each other, or some of a study failed; calling again makes those only.
    """
    settings = {name: value for name, value in fields.items() if name not in CompareOptions.model_fields}
    options = chosen(CompareOptions, options, **{k: v for k, v in fields.items() if k not in settings})
    if options.datasets:
        root = settings.get("data_root", "data")
        settings["dataset"] = merge(options.datasets, root, track=track).dataset.info.name
    if bool(runs) == ("dataset" in settings):
        raise InputError("compare takes either finished runs, or a data set for which to train new ones.")
    if runs:
        found = compare_runs(runs, options)
        if output is not None:
            write_comparison(found, Path(output), language=options.lang)
        return found
    folder = Path("runs") / f"compare-{settings['dataset']}" if output is None else Path(output)

    def make(plan: StudyPlan, sharpness: bool = False) -> None:
        failures = run_here(
            plan,
            device=settings.get("device"),
            sharpness=sharpness,
            view=lambda: nullcontext(Callback()),
            track=track,
            tell=lambda _: None,
        )
        if failures:
            first = failures[0]
            raise InputError(
                f"{len(failures)} of {len(plan.runs)} runs failed, {first.run} first: {first.message}",
                "Fix it and call again; finished runs are kept.",
            )

    plan, _ = plan_study(options, settings, folder, make=make)
    make(plan, options.sharpness)
    if plan.centres:
        study = compare_centres(plan, options)
        write_centres(study, plan.folder, language=options.lang)
        return study
    found = compare_study(plan, options)
    write_comparison(found, plan.folder, language=options.lang)
    return found


def compare_study(plan: StudyPlan, options: CompareOptions) -> Comparison:
    """Compare what is finished of a study; a warning says what is missing.

    Raises
    ------
    InputError
        If nothing is finished, or runs do not fit each other.
    """
    if options.margin not in (None, plan.margin):
        raise InputError(
            f"The study was planned with {'margin ' + str(plan.margin) if plan.margin else 'no margin'}, "
            f"not {options.margin}.",
            "Leave --margin out: the plan has it.",
        )
    centre = plan.centres[0] if plan.centres else None
    damaged: dict[str, str] = {}
    found = _compared(finished_of_plan(plan, centre, damaged), options, plan)
    missing, notices = missing_runs(plan), []
    if missing:
        said = f"The study is not finished; these runs are not there: {', '.join(missing)}."
        title = f"{len(missing)} of {len(plan.runs)} runs missing"
        notices.append(Notice("missing-runs", title, said, stamp=True))
    if damaged:
        said = "These runs were left out: " + " ".join(f"{name}: {why}" for name, why in damaged.items())
        title = f"{len(damaged)} of {len(plan.runs)} runs damaged"
        notices.append(Notice("damaged-runs", title, said, stamp=True))
    return replace(found, notices=(*notices, *found.notices))


def compare_centres(plan: StudyPlan, options: CompareOptions) -> CentreStudy:
    """Compare what is finished of a study that leaves out one centre after another, centre by centre.

    Raises
    ------
    InputError
        If nothing is finished, or runs do not fit each other.
    """
    missing = missing_runs(plan)
    begun = {run.config.leave_out for run in plan.runs if run.name not in missing}
    found = {
        centre: compare_study(_leaving_out(plan, centre), options)
        for centre in plan.centres
        if centre in begun
    }
    if not found:
        raise InputError("No run is finished yet, so there is nothing to compare.")
    return over_centres(found, missing)


def _leaving_out(plan: StudyPlan, centre: str) -> StudyPlan:
    runs = tuple(run for run in plan.runs if run.config.leave_out == centre)
    return replace(plan, runs=runs, tuning=tuple(t for t in plan.tuning if t.without in (None, centre)))


def compare_runs(folders: Sequence[PathLike], options: CompareOptions) -> Comparison:
    """Compare finished, evaluated runs; see `compare_study`. The first run's recipe is the reference."""
    return _compared(finished_of_folders([Path(folder) for folder in folders], options.split), options)


def _compared(
    finished: list[FinishedRun], options: CompareOptions, plan: StudyPlan | None = None
) -> Comparison:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    found = compare(
        finished,
        title=_title(finished[0]),
        created=created,
        n_resamples=options.resamples,
        tuning=() if plan is None else plan.tuning,
        margin=options.margin if plan is None else plan.margin,
        margin_before=plan is not None,
    )
    folders = {run.name: run.root for run in finished if run.root is not None}
    return replace(found, folders=folders, shown_cases=shown_cases(found, finished))


def shown_cases(found: Comparison, finished: Sequence[FinishedRun]) -> tuple[ComparedCase, ...]:
    """Draw six cases as each arm's first run answers them; none if data or weights are not at hand.

    Those that gain and lose most from the reference to the last arm of its network, mean over the runs, and
    the median. Dice counts, or the probability of the true class.
    """
    arms = [[run for run in finished if run.name in arm.runs] for arm in found.arms_of(found.models[0])]
    if len(arms) < 2 or any(run.root is None for runs in arms for run in runs):
        return ()
    scores = [_mean_scores(runs, found.main_metric) for runs in (arms[0], arms[-1])]
    gains = (scores[1] - scores[0]).dropna().sort_values(kind="stable")
    chosen = [("largest loss", name) for name in gains.index[:3] if gains[name] < 0]
    chosen += [("largest gain", name) for name in gains.index[:-3:-1] if gains[name] > 0]
    chosen += [("median difference", name) for name in gains.index[[len(gains) // 2]]] if len(gains) else []
    chosen = list({name: kind for kind, name in reversed(chosen)}.items())[::-1]
    names = [str(name) for name, _ in chosen]
    first = [runs[0] for runs in arms]
    if any((run.root / SLIM).exists() for run in first if run.root is not None):
        return ()
    try:
        drawn = [
            draw_compared(
                run.root,
                found.split,
                names,
                run.metrics["policy"].get("threshold"),
                data_root=run.config.data_root,
                device="cpu",
            )
            for run in first
            if run.root is not None
        ]
    except (InputError, KeyError):
        return ()
    labels = first[0].cases["label"].astype(str)
    return tuple(
        ComparedCase(
            kind,
            str(name),
            labels[name],
            tuple(
                (
                    readable_arm(arm.name),
                    pictures[str(name)],
                    _answer(run.cases.loc[[name]], found.task),
                )
                for arm, run, pictures in zip(found.arms_of(found.models[0]), first, drawn, strict=True)
            ),
        )
        for name, kind in chosen
    )


def _mean_scores(runs: Sequence[FinishedRun], metric: str) -> pd.Series:
    def score(cases: pd.DataFrame) -> pd.Series:
        if metric == "dice":
            return pd.to_numeric(cases["dice"], errors="coerce")
        return pd.Series({name: float(case[f"prob_{case['label']}"]) for name, case in cases.iterrows()})

    return pd.concat([score(run.cases) for run in runs], axis=1).mean(axis=1, skipna=False)


def _answer(row: pd.DataFrame, task: str) -> str:
    case = row.iloc[0]
    if task == "segmentation":
        return f"Dice {float(case['dice']):.2f}"
    called = str(case["predicted"])
    return f"{called}, probability {float(case[f'prob_{called}']):.2f}"


def _title(first: FinishedRun) -> str:
    """The data set's name for people, if the data are at hand."""
    name = str(first.metrics["dataset"])
    try:
        return open_prepared(first.config.data_root, name).info.title or name
    except InputError:
        return name

"""The whole of `compare`: from finished runs, or a plan of new ones, to a comparison and its report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gcsam_med.compare.analyse import compare
from gcsam_med.compare.execute import run_here, states
from gcsam_med.compare.finished_runs import FinishedRun, finished_of_folders, finished_of_plan
from gcsam_med.compare.plan import StudyPlan, make_study_plan
from gcsam_med.config import CompareOptions, PathLike, chosen
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.errors import InputError
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.comparison import Comparison
from gcsam_med.reporting.write import write_comparison
from gcsam_med.training import Callback


def compare_optimizers(
    runs: Sequence[PathLike] = (),
    options: CompareOptions | None = None,
    *,
    output: PathLike | None = None,
    track: Track = silent,
    **fields: Any,
) -> Comparison:
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
    Comparison
        ``comparison.arms`` and ``comparison.pairs`` hold the results; a report lies in the folder.

    Raises
    ------
    InputError
        If the runs do not fit each other, or some of a study failed; calling again makes those only.
    """
    settings = {name: value for name, value in fields.items() if name not in CompareOptions.model_fields}
    options = chosen(CompareOptions, options, **{k: v for k, v in fields.items() if k not in settings})
    if bool(runs) == ("dataset" in settings):
        raise InputError("compare needs finished runs, or a data set to plan new ones for: one of the two.")
    if runs:
        found = compare_runs(runs, options)
        if output is not None:
            write_comparison(found, Path(output), language=options.lang)
        return found
    folder = Path("runs") / f"compare-{settings['dataset']}" if output is None else Path(output)
    plan = make_study_plan(options, settings, folder)
    states(plan)
    plan.write()
    failures = run_here(
        plan,
        device=settings.get("device"),
        sharpness=options.sharpness,
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
    return _compared(finished_of_plan(plan), options)


def compare_runs(folders: Sequence[PathLike], options: CompareOptions) -> Comparison:
    """Compare finished, evaluated runs; see `compare_study`. The first run's recipe is the reference."""
    return _compared(finished_of_folders([Path(folder) for folder in folders], options.split), options)


def _compared(finished: list[FinishedRun], options: CompareOptions) -> Comparison:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return compare(finished, title=_title(finished[0]), created=created, n_resamples=options.resamples)


def _title(first: FinishedRun) -> str:
    """The data set's name for people, if the data are at hand."""
    name = str(first.metrics["dataset"])
    try:
        return open_prepared(first.config.data_root, name).info.title or name
    except InputError:
        return name

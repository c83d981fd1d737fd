"""`gcsam-med compare` as a function."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gcsam_med.api.loading import PathLike
from gcsam_med.compare import compare_runs, compare_study
from gcsam_med.compare.engines import run_here
from gcsam_med.compare.execute import states
from gcsam_med.compare.plan import Question, make_study_plan
from gcsam_med.errors import InputError
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.comparison import Comparison
from gcsam_med.reporting.write import write_comparison
from gcsam_med.training import Callback


def compare_optimizers(
    runs: Sequence[PathLike] = (),
    *,
    dataset: str | None = None,
    optimizers: Sequence[str] = ("adam", "sam", "gcsam"),
    seeds: Sequence[int] = range(5),
    folds: Sequence[int] = (),
    models: Sequence[str] = (),
    equal_compute: bool = False,
    sharpness: bool = False,
    split: str = "test",
    n_resamples: int = 2000,
    output: PathLike | None = None,
    track: Track = silent,
    **settings: Any,
) -> Comparison:
    """Compare finished runs, or make the runs of a study in this process and compare them.

    Parameters
    ----------
    runs : sequence of str or path
        Finished, evaluated runs; the first one's recipe is the reference. Empty: a study of `dataset`.
    dataset : str, optional
        Name of a prepared data set.
    optimizers : sequence of str
        The first is the reference.
    seeds, folds : sequence of int
        One run each; no folds: the split's own validation part.
    models : sequence of str
        Networks; empty for the task's default.
    equal_compute : bool
        Add the plain optimizers with as many gradient computations as the dearest of the others.
    sharpness : bool
        Also measure each minimum.
    split : str
        ``test`` or ``val``.
    n_resamples : int
        Bootstrap resamples.
    output : str or path, optional
        Folder of the study, ``runs/compare-DATASET`` by default; runs that are finished there are kept. For
        finished `runs`: where the report goes, none by default.
    track : Track
        Shows the progress of evaluations.
    **settings
        Of all runs, fields of `RunConfig`.

    Returns
    -------
    Comparison
        ``comparison.arms`` and ``comparison.pairs`` hold the figures; a report lies in the folder.

    Raises
    ------
    InputError
        If the runs do not fit each other, or some of a study failed; calling again makes those only.
    """
    if bool(runs) == (dataset is not None):
        raise InputError("compare needs finished runs, or a data set to plan new ones for: one of the two.")
    if runs:
        found = compare_runs([Path(run) for run in runs], split=split, n_resamples=n_resamples)
        if output is not None:
            write_comparison(found, Path(output))
        return found
    given = settings | {"dataset": dataset}
    question = Question(
        tuple(optimizers), tuple(seeds), tuple(folds), tuple(models), equal_compute, settings=given
    )
    folder = Path("runs") / f"compare-{dataset}" if output is None else Path(output)
    plan = make_study_plan(question, folder, split=split)
    states(plan)
    plan.write()
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
            "Mend it and call again; finished runs are kept.",
        )
    found = compare_study(plan, n_resamples=n_resamples)
    write_comparison(found, plan.folder)
    return found

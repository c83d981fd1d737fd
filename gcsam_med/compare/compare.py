"""From finished runs to a comparison, for a study and for runs given one by one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gcsam_med.compare.analyse import compare
from gcsam_med.compare.finished_runs import Evidence, evidence_of_plan, evidence_of_runs
from gcsam_med.compare.plan import StudyPlan
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.errors import InputError
from gcsam_med.reporting.comparison import Comparison


def compare_study(plan: StudyPlan, *, n_resamples: int = 2000, seed: int = 0) -> Comparison:
    """Compare what is finished of a study.

    Parameters
    ----------
    plan : StudyPlan
        The study; runs that are not finished are left out, and a notice says so.
    n_resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    Comparison
        For `gcsam_med.reporting.write_comparison`.

    Raises
    ------
    InputError
        If nothing is finished, or runs do not fit each other.
    """
    return _compared(evidence_of_plan(plan), n_resamples, seed)


def compare_runs(
    folders: Sequence[Path], *, split: str = "test", n_resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compare finished, evaluated runs; see `compare_study`. The first run's recipe is the reference."""
    return _compared(evidence_of_runs(folders, split), n_resamples, seed)


def _compared(evidence: list[Evidence], n_resamples: int, seed: int) -> Comparison:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return compare(evidence, title=_title(evidence[0]), created=created, n_resamples=n_resamples, seed=seed)


def _title(first: Evidence) -> str:
    """The data set's name for people, if the data are at hand."""
    name = str(first.metrics["dataset"])
    try:
        return open_prepared(first.config.data_root, name).info.title or name
    except InputError:
        return name

"""What the page shows, by id: a request names ids only, and each is looked up here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gcsam_med.errors import InputError
from gcsam_med.files import is_name
from gcsam_med.reading import read_json_or_empty
from gcsam_med.runs import RunFolder
from gcsam_med.runs.model import CARD
from gcsam_med.runs.table import POOLED, run_folders
from gcsam_med.view.server import not_found

T = TypeVar("T")
PREDICTIONS, METRICS, CASES = "predictions.csv", "metrics.json", "cases.csv"


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of a run."""

    run: Path  #: The run's folder.
    name: str  #: ``test``, or ``OTHER-test`` for another data set.

    @property
    def pooled(self) -> bool:
        """Whether it pools all test folds: several models answered, so there is a report only."""
        return self.name == POOLED

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return RunFolder(self.run).evaluation(self.name)

    @property
    def key(self) -> str:
        """Its id."""
        return _key(self.folder)


class Library:
    """Runs, their evaluations and predictions below what the user named; read anew at each question.

    Parameters
    ----------
    target : Path
        A run, a folder of runs, a study, or the output of `predict`.
    data_root : Path, optional
        Folder of prepared data sets; default: as each run says.

    Raises
    ------
    InputError
        If there is nothing to show.
    """

    def __init__(self, target: Path, data_root: Path | None = None) -> None:
        self.target, self.data_root = target, data_root
        self.only_output = (target / PREDICTIONS).is_file()
        if not self.runs() and not self.outputs():
            raise InputError(
                f"There is nothing to view in {target}: no run, no study, no predictions.",
                "Make one with: gcsam-med train - or name another folder.",
            )

    def runs(self) -> dict[str, Path]:
        """Run folders by id, newest first."""
        if self.only_output:
            return {}
        alone = (self.target / "config.yaml").is_file()
        return _by_key([self.target] if alone else run_folders(self.target))

    def evaluations(self, *, pooled: bool = True) -> dict[str, Evaluation]:
        """Evaluations by id, those of the newest run first; with those that pool test folds, or without."""
        found = [
            Evaluation(run, path.parent.name)
            for run in self.runs().values()
            for path in sorted(run.glob(f"evaluation/[!.]*/{METRICS}"), key=_test_first)
            if (path.parent / CASES).is_file()
        ]
        return {evaluation.key: evaluation for evaluation in found if pooled or not evaluation.pooled}

    def choices(self) -> list[tuple[str, str]]:
        """Ids and names of the evaluations whose cases can be shown."""
        return [(k, f"{e.run.name}, {e.name}") for k, e in self.evaluations(pooled=False).items()]

    def outputs(self) -> dict[str, Path]:
        """Folders that `predict` wrote, by id."""
        if self.only_output:
            return _by_key([self.target])
        found = [p.parent for run in self.runs().values() for p in run.glob(f"predictions/*/{PREDICTIONS}")]
        return _by_key(sorted(found, key=lambda p: (-p.stat().st_mtime, str(p))))

    def run_of(self, output: Path, weights: Sequence[str]) -> Path | None:
        """Find the run that made predictions, by its weights; None if not here, or of several."""
        if len(weights) != 1:
            return None
        for run in (output.resolve().parent.parent, *self.runs().values()):
            if read_json_or_empty(RunFolder(run).model / CARD).get("weights_sha256") == weights[0]:
                return run
        return None

    def run(self, key: str) -> Path:
        """Look a run up."""
        return _look_up(self.runs(), key, "run")

    def evaluation(self, key: str) -> Evaluation:
        """Look an evaluation up."""
        return _look_up(self.evaluations(), key, "evaluation")

    def output(self, key: str) -> Path:
        """Look an output of `predict` up."""
        return _look_up(self.outputs(), key, "output of predict")


def find_target(given: Path | None) -> Path:
    """Find what is meant: a folder, the name of a run under ``runs/``, or all of ``runs/``.

    Raises
    ------
    InputError
        If it is not there.
    """
    if given is None:
        if not Path("runs").is_dir():
            raise InputError(
                "There is no folder runs/ here, so there is nothing to view.",
                "Name a run, a study or the output of predict, or make a run: gcsam-med train",
            )
        return Path("runs")
    if given.is_dir():
        return given
    if is_name(str(given)) and (Path("runs") / given).is_dir():
        return Path("runs") / given
    raise InputError(f"There is no folder {given}.", "Runs are listed by: gcsam-med runs")


def _look_up(table: dict[str, T], key: str, what: str) -> T:
    if key not in table:
        raise not_found(what)
    return table[key]


def _test_first(metrics: Path) -> tuple[bool, str]:
    return metrics.parent.name != "test", metrics.parent.name


def _by_key(folders: Iterable[Path]) -> dict[str, Path]:
    return {_key(folder): folder for folder in folders}


def _key(folder: Path) -> str:
    return hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()[:12]

"""Finished runs, read from their folders and checked to be comparable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gcsam_med.compare.plan import StudyPlan
from gcsam_med.config import RunConfig
from gcsam_med.errors import GcsamMedError, InputError
from gcsam_med.escape import plain_cell
from gcsam_med.evaluation.flatness import read_sharpness
from gcsam_med.metrics.table import main_metric
from gcsam_med.reading import read_csv, read_json
from gcsam_med.reporting.write import read_metrics
from gcsam_med.runs import RunFolder, load_card
from gcsam_med.runs.folder import MACHINE_FIELDS

_MOST_BYTES = 2**30
# What may differ between runs of one arm.
_REPLICATE_FIELDS = frozenset({"seed", "fold"})


@dataclass(frozen=True)
class FinishedRun:
    """A finished run."""

    name: str
    arm: str  #: What is compared: the optimizer, or the settings that differ.
    config: RunConfig  #: Complete.
    metrics: Mapping[str, Any]  #: Content of ``metrics.json``.
    cases: pd.DataFrame  #: Content of ``cases.csv``, by case id.
    result: Mapping[str, Any]  #: Content of ``result.json``.
    sharpness: Mapping[str, Any]  #: Content of ``sharpness.json``; empty where it was not measured.
    looks: int  #: Lines of the run's evaluation log for this split.
    root: Path | None = None  #: Its folder.

    @property
    def classes(self) -> tuple[str, ...]:
        """Of its probabilities, in their order; empty for segmentation."""
        return tuple(c.removeprefix("prob_") for c in self.cases.columns if c.startswith("prob_"))

    @property
    def main_metric(self) -> str:
        """``dice``, ``auc`` or ``balanced_accuracy``."""
        return main_metric(self.metrics["task"], len(self.classes))

    @property
    def model(self) -> str:
        """Name of its network."""
        return str(self.config.model)

    @property
    def replicate(self) -> tuple[int, int | None]:
        """Seed and fold: what pairs runs of two arms."""
        return self.config.seed, self.config.fold


def finished_of_plan(
    plan: StudyPlan, leave_out: str | None = None, damaged: dict[str, str] | None = None
) -> list[FinishedRun]:
    """Read the finished runs of a study that leave out this centre, or none, in the order of its arms.

    Where `damaged` is given, a run that cannot be read is entered there, with what is wrong, and left out.
    """
    from gcsam_med.compare.execute import state_of

    own = [run for run in plan.runs if run.config.leave_out == leave_out]
    runs = [run for run in own if state_of(plan, run) == "evaluated"]
    found = []
    for run in runs:
        try:
            found.append(_read(plan.folder_of(run), run.arm, plan.split))
        except GcsamMedError as error:
            if damaged is None:
                raise
            damaged[run.name] = error.message
    if damaged and not found:
        raise InputError(next(iter(damaged.values())), "Make it again with: gcsam-med evaluate RUN")
    order = {arm: i for i, arm in enumerate(plan.arms)}
    found.sort(key=lambda e: (e.model, order[e.arm], e.config.seed, e.config.fold or 0))
    return comparable(found)


def finished_of_folders(folders: Sequence[Path], split: str) -> list[FinishedRun]:
    """Read finished runs given one by one; arms are named by what their settings differ in.

    Raises
    ------
    InputError
        If a run is not finished, has no evaluation on the split, or is not comparable with the others.
    """
    runs = [RunFolder.open(folder) for folder in folders]
    missing = [str(r.root) for r in runs if not (r.evaluation(split) / "metrics.json").is_file()]
    if missing:
        raise InputError(
            f"There is no evaluation on the {split} split of {', '.join(missing)}.",
            "Make it with: gcsam-med evaluate RUN" + ("" if split == "test" else f" --split {split}"),
        )
    names = arm_names([run.config() for run in runs])
    return comparable([_read(run, name, split) for run, name in zip(runs, names, strict=True)])


def arm_names(configs: Sequence[RunConfig]) -> list[str]:
    """Name each arm by its optimizer and by settings that differ within one optimizer and network."""
    left = MACHINE_FIELDS | _REPLICATE_FIELDS | {"optimizer", "model"}
    dumped = [{k: v for k, v in c.model_dump().items() if k not in left} for c in configs]
    names = []
    for config, settings in zip(configs, dumped, strict=True):
        alike = [
            d
            for c, d in zip(configs, dumped, strict=True)
            if (c.optimizer, c.model) == (config.optimizer, config.model)
        ]
        varying = [k for k in settings if len({str(d[k]) for d in alike}) > 1]
        names.append(" ".join([config.optimizer, *(f"{k}={settings[k]}" for k in varying)]))
    return names


def _read(run: RunFolder, arm: str, split: str) -> FinishedRun:
    looks = sum(entry.get("split") == split for entry in run.evaluations())
    return finished_of_evaluation(run, arm, run.evaluation(split), looks)


def finished_of_evaluation(run: RunFolder, arm: str, folder: Path, looks: int = 1) -> FinishedRun:
    """Read a finished run with the evaluation in a folder; see `finished_of_folders`."""
    try:
        metrics = read_metrics(folder / "metrics.json", "")
        metrics["policy"] = _stated_policy(metrics)
        result = read_json(run.result_file, dict[str, Any], "")
        if not all(math.isfinite(float(result[key])) for key in ("epochs", "steps", "seconds")):
            raise ValueError("result.json")
        cases = _cases(folder / "cases.csv", metrics["task"], metrics["cases_sha256"])
        name = run.root.resolve().name
        card = load_card(run.model)
        if card.weights_sha256 != metrics["run"]["weights_sha256"]:
            raise InputError(f"The evaluation in {folder} is of other weights than the run has now.")
        metrics["run"]["trained_on_sha256"] = card.dataset_sha256
        sharpness = read_sharpness(run, card.weights_sha256)
        return FinishedRun(name, arm, run.config_of(card), metrics, cases, result, sharpness, looks, run.root)
    except InputError as error:
        raise InputError(error.message, "Make it again with: gcsam-med evaluate " + str(run.root)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"The evaluation in {folder} is missing or damaged ({type(error).__name__}).",
            "Make it again with: gcsam-med evaluate " + str(run.root),
        ) from error


def _stated_policy(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same for all runs that are compared."""
    policy = metrics["policy"]
    return {
        "distance_unit": "mm" if policy.get("distance_unit") == "mm" else "px",
        "nsd_tolerance": float(policy.get("nsd_tolerance") or 0),
        "positive_class": str(policy.get("positive_class") or ""),
        "averaging": str(policy.get("averaging") or ""),
        "postprocessing": str(policy.get("postprocessing") or "none"),
        # One chosen on validation is the run's own; one that was given has to be the same for all.
        "threshold": _given_threshold(metrics.get("operating_point") or {}),
    }


def _given_threshold(operating: Mapping[str, Any]) -> float | None:
    return None if operating.get("chosen_on") == "validation" else operating.get("threshold")


def _cases(path: Path, task: str, sha256: str) -> pd.DataFrame:
    """Content of ``cases.csv`` by case id; its numbers lie in 0 to 1, or are empty where they may be."""
    table = read_csv(path, ["case_id", "group_id", "label"], "", most=_MOST_BYTES, sha256=sha256)
    for column in ("case_id", "group_id", "label"):
        table[column] = [plain_cell(value) for value in table[column]]
    if table["case_id"].duplicated().any() or table.empty:
        raise ValueError("case_id")
    probabilities = [column for column in table.columns if column.startswith("prob_")]
    columns = ["dice"] if task == "segmentation" else ["correct", *probabilities]
    numbers = table[columns].replace("", "nan" if task == "segmentation" else "none").astype(float)
    if not ((numbers >= 0) & (numbers <= 1) | numbers.isna()).all(axis=None):
        raise ValueError("a value outside 0 to 1")
    if task == "classification" and (len(columns) < 3 or numbers.isna().any(axis=None)):
        raise ValueError("probabilities")
    return table.set_index("case_id")


def comparable(found: list[FinishedRun]) -> list[FinishedRun]:
    """Check that all runs have the same task, data and cases; name everything that differs."""
    if not found:
        raise InputError("No run is finished yet, so there is nothing to compare.")
    first, faults = found[0], []
    for other in found[1:]:
        for what in ("task", "dataset", "split"):
            if other.metrics[what] != first.metrics[what]:
                faults.append(
                    f"{other.name} has {what} {other.metrics[what]}, {first.name} {first.metrics[what]}"
                )
        policy = other.metrics["policy"]
        differing = [key for key, value in first.metrics["policy"].items() if policy[key] != value]
        if differing:
            words = ", ".join(key.replace("_", " ") for key in differing)
            faults.append(f"{other.name} was evaluated with another {words} than {first.name}")
        if other.metrics["run"]["trained_on_sha256"] != first.metrics["run"]["trained_on_sha256"]:
            faults.append(f"{other.name} was trained on another content of the data than {first.name}")
        if other.metrics["run"]["dataset_sha256"] != first.metrics["run"]["dataset_sha256"]:
            faults.append(f"{other.name} was evaluated on another content of the data than {first.name}")
        elif list(other.cases.index) != list(first.cases.index):
            faults.append(f"{other.name} was evaluated on other cases than {first.name}")
        elif list(other.cases["label"]) != list(first.cases["label"]):
            faults.append(f"{other.name} has other labels than {first.name}")
    seen: dict[tuple[str, str, int, int | None], str] = {}
    for one in found:
        key = (one.model, one.arm, *one.replicate)
        if key in seen:
            faults.append(f"{one.name} and {seen[key]} are the same recipe with the same seed")
        seen[key] = one.name
    if faults:
        raise InputError("These runs cannot be compared: " + "; ".join(faults) + ".", "Leave those runs out.")
    return found

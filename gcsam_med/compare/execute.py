"""One run of a study, from wherever it stands to its end: trained, evaluated, its sharpness measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Literal

from gcsam_med.compare.plan import PlannedRun, StudyPlan
from gcsam_med.config import load_config
from gcsam_med.errors import InputError
from gcsam_med.evaluation import evaluate_run, evaluation_folder
from gcsam_med.evaluation.flatness import SharpnessOptions, measure_sharpness
from gcsam_med.files import write_durably
from gcsam_med.progress import Track, silent
from gcsam_med.reporting import write_report
from gcsam_med.runs import RunFolder
from gcsam_med.training import Callback, resume_training, start_training
from gcsam_med.training.run import MACHINE_FIELDS

State = Literal["to do", "unfinished", "trained", "evaluated"]

# Enough for the two figures of the comparison, and for one line of the landscape.
SHARPNESS = SharpnessOptions(cases=32, eigenvalues=1, trace_samples=10, line_points=21, surface_points=0)


def state_of(plan: StudyPlan, run: PlannedRun) -> State:
    """Say how far a run is.

    Raises
    ------
    InputError
        If its folder holds a run of other settings.
    """
    folder = plan.folder_of(run)
    if not folder.config_file.is_file():
        return "to do"
    _check_settings(folder, run)
    if not folder.result_file.is_file():
        return "unfinished"
    return "evaluated" if is_evaluated(folder, plan.split) else "trained"


def states(plan: StudyPlan) -> dict[str, State]:
    """Say how far every run is, by name; see `state_of`. To be asked before anything of a plan is written."""
    return {run.name: state_of(plan, run) for run in plan.runs}


def is_done(plan: StudyPlan, run: PlannedRun, *, sharpness: bool) -> bool:
    """Whether nothing is left of a run."""
    done = state_of(plan, run) == "evaluated"
    return done and (not sharpness or _is_measured(plan.folder_of(run)))


def carry_out(
    plan: StudyPlan,
    run: PlannedRun,
    *,
    device: str | None = None,
    sharpness: bool = False,
    callback: Callback | None = None,
    track: Track = silent,
) -> None:
    """Do what is left of a run; nothing if all is there.

    Parameters
    ----------
    plan : StudyPlan
        The study.
    run : PlannedRun
        One of its runs.
    device : str, optional
        Instead of the configuration's.
    sharpness : bool
        Measure how sharp its minimum is.
    callback : Callback, optional
        Hears of the training.
    track : Track
        Shows the progress of the rest.

    Raises
    ------
    GcsamMedError
        As `start_training`, `resume_training` and `evaluate_run` do.
    """
    folder, state = plan.folder_of(run), state_of(plan, run)
    device = device or run.config.device
    if state == "to do":
        config = run.config.model_copy(update={"device": device})
        start_training(config, folder.root, callback)
    elif state == "unfinished":
        resume_training(folder.root, {"device": device, "data_root": run.config.data_root}, callback=callback)
    if not is_evaluated(folder, plan.split):
        report = evaluate_run(
            folder.root, plan.split, data_root=run.config.data_root, device=device, track=track
        )
        write_report(report, evaluation_folder(report, folder.root))
    if sharpness and not _is_measured(folder):
        what = replace(SHARPNESS, batch_size=run.config.batch_size)
        measured = measure_sharpness(
            folder.root, what, data_root=run.config.data_root, device=device, track=track
        )
        folder.sharpness.mkdir(exist_ok=True)
        content = json.dumps(measured.to_json(), indent=1) + "\n"
        write_durably(folder.sharpness / "sharpness.json", content.encode())


def is_evaluated(run: RunFolder, split: str) -> bool:
    """Whether the evaluation there is of the weights that are there."""
    found = _read_json(run.evaluation(split) / "metrics.json")
    return (
        bool(found)
        and (run.evaluation(split) / "cases.csv").is_file()
        and (found.get("run", {}).get("weights_sha256") == _weights(run))
    )


def _is_measured(run: RunFolder) -> bool:
    found = _read_json(run.sharpness / "sharpness.json")
    return bool(found) and found.get("weights_sha256") == _weights(run)


def _weights(run: RunFolder) -> Any:
    return _read_json(run.model / "model.json").get("weights_sha256")


def _read_json(path: Any) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_settings(folder: RunFolder, run: PlannedRun) -> None:
    before = load_config(folder.config_file, {}).model_dump(exclude=set(MACHINE_FIELDS))
    wanted = run.config.model_dump(exclude=set(MACHINE_FIELDS))
    differing = [f"{k}: {before[k]} in the run, {wanted[k]} now" for k in wanted if before[k] != wanted[k]]
    if differing:
        raise InputError(
            f"{folder.root} was made with other settings ({'; '.join(differing)}).",
            "Choose another --output, or ask for the settings it was made with.",
        )

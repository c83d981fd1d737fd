"""`gcsam-med run`: from a folder of images to a report, with settings that suit machine and images."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcsam_med.cli import console
from gcsam_med.cli.from_model import ConfigFile, DataRoot, Given, Kind, RunOutput, Sets, Source, from_models
from gcsam_med.config import (
    EvaluateOptions,
    PrepareOptions,
    RunConfig,
    Task,
    load_config,
)
from gcsam_med.errors import InputError
from gcsam_med.fields import validated
from gcsam_med.reading import read_json_or_empty
from gcsam_med.runs import RunFolder

if TYPE_CHECKING:
    from gcsam_med.datasets import Listing
    from gcsam_med.preparation import Outcome
    from gcsam_med.training.cost import Advice

PrepareFields = Annotated[dict[str, Any], Given(PrepareOptions, without=("seed", "force"))]
TrainFields = Annotated[dict[str, Any], Given(RunConfig, without=("dataset", "data_root"))]
EvaluateFields = Annotated[dict[str, Any], Given(EvaluateOptions, only=("pdf", "lang"))]


@from_models
def run_command(
    prepare: PrepareFields,
    train: TrainFields,
    evaluate: EvaluateFields,
    source: Source = None,
    dataset: Kind = "folder",
    data_root: DataRoot = Path("data"),
    output: RunOutput = None,
    config: ConfigFile = None,
    sets: Sets = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the settings and the time it takes, and stop.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before a run of more than an hour.")
    ] = False,
) -> None:
    """Prepare, train and evaluate in one go, with settings that suit this machine and these images.

    Size, epochs, batch and precision are chosen by timing a few steps; every one of them is also an option.
    The same command goes on where it was interrupted, or where --max-minutes ended it.
    """
    from gcsam_med import preparation
    from gcsam_med.training.cost import AN_HOUR
    from gcsam_med.training.run import run_name

    dataset = dataset or "folder"
    name = prepare.get("name") or dataset
    former = read_json_or_empty(data_root / "prepared" / name / "dataset.json").get("options")
    chosen = {"size"} & prepare.keys()
    if isinstance(former, dict) and former.get("size"):
        prepare.setdefault("size", former["size"])
    listing = preparation.survey(
        dataset, source, data_root, validated(PrepareOptions, prepare), track=console.track
    )
    asked = load_config(config, {"dataset": name, "data_root": data_root} | train, sets or ())
    settings = _complete(asked, listing)
    run = RunFolder(output or Path("runs") / run_name(settings))
    seconds, advised = 0.0, {}
    if run.config_file.is_file():
        _check_same(run, asked)
        console.say(f"{run.root} {'is finished' if run.finished else 'was begun'}; its settings are kept.")
    else:
        advice = _advice(settings, chosen | asked.model_fields_set, prepare, dataset, listing)
        _show_advice(run.root, settings, advice, len(listing.cases))
        seconds, values = advice.seconds, advice.values
        prepare["size"] = values["size"]
        advised = {"batch_size": values["batch_size"], "epochs": values["epochs"]}
        settings = settings.model_copy(update=advised)
    if dry_run:
        console.result(
            {"run": str(run.root), "seconds": seconds, **prepare, **train, **advised}, "Nothing was started."
        )
        return
    if seconds > AN_HOUR and not yes and not console.confirmed("Start?"):
        raise InputError("Nothing was started.", "A smaller --size or fewer --epochs take less time.")

    # --- Each of these is over at once if it was done before
    outcome = preparation.prepare(
        dataset, source, data_root, validated(PrepareOptions, prepare), track=console.track
    )
    _show_prepared(outcome, str(settings.task))
    _train(run, settings)
    page = _evaluate(run, evaluate)
    found = read_json_or_empty(page.parent / "metrics.json").get("metrics", {})
    console.result(
        {"run": str(run.root), "report": str(page), "metrics": found},
        f"Report: {page}",
        then=f"gcsam-med predict {shlex.quote(str(run.root))} IMAGES",
    )


def _complete(asked: RunConfig, listing: Listing) -> RunConfig:
    """Settings with the task and the network that follow from the listing."""
    from gcsam_med.networks import default_model

    masks = any(case.masks for case in listing.cases)
    task: Task = asked.task or ("segmentation" if masks else "classification")
    return asked.model_copy(update={"task": task, "model": asked.model or default_model(task)})


def _advice(
    config: RunConfig, given: set[str], prepare: dict[str, Any], dataset: str, listing: Listing
) -> Advice:
    """What suits this machine and the cases that are listed."""
    from gcsam_med.datasets import DATASETS
    from gcsam_med.training.cost import advise

    spec = DATASETS[dataset]
    modality = prepare.get("modality") or spec.modality
    cases = listing.cases
    if config.task == "segmentation":
        healthy = spec.roles(listing.classes, prepare.get("positive") or "").empty_masks
        cases = tuple(case for case in cases if case.masks and case.label not in healthy)
    if config.classes:
        cases = tuple(case for case in cases if case.label in config.classes)
    splits = Counter(case.split for case in cases)
    # Without a split of its own a fifth is tested on, and a fifth of the rest validates.
    train, val = (
        (splits["train"], splits["val"]) if splits["train"] else (0.64 * len(cases), 0.16 * len(cases))
    )
    console.say("Timing a few steps on this machine ...")
    return advise(
        config,
        given,
        max(1, round(train)),
        round(val),
        size=None if prepare.get("size") is None else int(prepare["size"]),
        channels=3 if modality == "photo" or config.pretrained else 1,
        classes=len(config.classes or listing.classes) or 2,
        modality=modality,
    )


def _show_advice(folder: Path, config: RunConfig, advice: Advice, images: int) -> None:
    rows = [
        ("task", config.task, ""),
        ("model", config.model, ""),
        ("optimizer", config.optimizer, ""),
        *((name.replace("_", "-"), value, advice.reasons[name]) for name, value in advice.values.items()),
    ]
    console.table(f"{images} images, to be trained in {folder}", ["what", "chosen", "why"], rows)
    time = console.duration(advice.seconds)
    console.say(f"Training takes about {time} at most; preparing before and the report after it come on top.")


def _check_same(run: RunFolder, asked: RunConfig) -> None:
    """Refuse settings that the run in the folder was not begun with."""
    from gcsam_med.runs.folder import MACHINE_FIELDS

    made = run.config()
    others = [
        f"--{name.replace('_', '-')} is {getattr(made, name)} there"
        for name in sorted(asked.model_fields_set - MACHINE_FIELDS - {"dataset", "precision"})
        if getattr(asked, name) not in (None, getattr(made, name))
    ]
    if others:
        raise InputError(
            f"{run.root} holds a run of other settings: {', '.join(others)}.",
            "Choose another --output, or leave these options out to go on with it.",
        )


def _show_prepared(outcome: Outcome, task: str) -> None:
    from gcsam_med.cli.prepare import show_prepared
    from gcsam_med.training.cost import dice_ceiling

    if not outcome.fresh:
        console.say(f"{outcome.dataset.root} is prepared.")
        return
    show_prepared(outcome, outcome.audit)
    ceiling = dice_ceiling(outcome.dataset) if task == "segmentation" else None
    if ceiling is not None:
        side = outcome.dataset.info.size
        console.say(
            f"At {side}x{side} pixels a perfect answer would score Dice {ceiling:.3f} on these masks."
        )


def _train(run: RunFolder, settings: RunConfig) -> None:
    """Train the run, or what is left of it; where `max_minutes` ended it, it gets as many again."""
    from gcsam_med import training
    from gcsam_med.cli.live import LiveView
    from gcsam_med.cli.train import show_trained
    from gcsam_med.runs.folder import MACHINE_FIELDS

    result = read_json_or_empty(run.result_file)
    if run.finished and result.get("stopped_by") != "max_minutes":
        return
    with LiveView() as view:
        if run.config_file.is_file():
            machine = settings.model_dump(include=set(MACHINE_FIELDS & settings.model_fields_set))
            limit = machine.pop("max_minutes", None)
            if limit is not None:
                limit += float(result.get("seconds") or 0) / 60
            outcome = training.resume(run.root, view, sets=[f"max_minutes={limit or 'null'}"], **machine)
        else:
            outcome = training.train(settings, run.root, view)
    show_trained(outcome)
    if outcome.reason == "max_minutes":
        console.say("The time of --max-minutes is over; the same command goes on with the training.")


def _evaluate(run: RunFolder, fields: dict[str, Any]) -> Path:
    """Evaluate the run on test unless that was done; where the report is."""
    from gcsam_med.cli.evaluate import show_report
    from gcsam_med.compare.execute import is_evaluated
    from gcsam_med.evaluation import evaluate

    page = run.evaluation("test") / "report.html"
    if not (is_evaluated(run, "test") and page.is_file()):
        show_report(evaluate(run.root, options=validated(EvaluateOptions, fields), track=console.track))
    return page

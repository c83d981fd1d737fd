"""`gcsam-med train`: train a network on a prepared data set."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import ConfigFile, RunOutput, RunSettings, Sets, from_models
from gcsam_med.cli.prepare import as_one_set
from gcsam_med.cli.runs import find_run
from gcsam_med.errors import ConfigError
from gcsam_med.reading import read_json_or_empty

if TYPE_CHECKING:
    from gcsam_med.training import TrainingResult


@from_models
def train_command(
    settings: RunSettings,
    output: RunOutput = None,
    config: ConfigFile = None,
    sets: Sets = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            "--checkpoint-every", help="Within an epoch: minutes (5m) or steps (200); default: 10m."
        ),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            "--folds",
            metavar="all",
            help="all: a run for every test fold, beside each other; evaluate --folds all pools them.",
            autocompletion=completion.of(None, ("all",)),
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="RUN", help="Continue this run.", autocompletion=completion.of("runs")
        ),
    ] = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="With --resume: allow more --epochs than before.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Train although there is a finished run of the same settings.")
    ] = False,
) -> None:
    """Train a network, with GCSAM by default, and keep the weights of the best validation epoch."""
    from gcsam_med import training
    from gcsam_med.cli.live import LiveView

    settings |= _checkpoint_every(checkpoint_every)
    as_one_set(settings)
    if resume is not None:
        resume = find_run(resume)
        _say_if_finished(resume, extend=extend)
    elif config is None and not any(key.startswith("dataset") for key in [*settings, *(sets or ())]):
        raise _no_dataset(Path(settings.get("data_root", "data")))
    if folds is not None:
        if folds != "all" or resume is not None or extend or again:
            raise ConfigError(
                f"--folds takes 'all', without --resume, --extend and --again; it got '{folds}'.",
                "To train one fold: --test-fold N. Called again, --folds all resumes what is unfinished.",
            )
        _train_folds(output=output, config=config, sets=sets or (), **settings)
        return
    with LiveView() as view:
        if resume is not None:
            outcome = training.resume(resume, view, extend=extend, sets=sets or (), **settings)
        else:
            places: dict[str, Any] = {"output": output, "callback": view, "config": config}
            outcome = training.train(sets=sets or (), again=again, **places, **settings)
    if int(os.environ.get("RANK", "0")) == 0:
        show_trained(outcome)
        run = outcome.folder
        console.result(
            outcome.to_json(),
            f"Model: {run / 'model'}\nCurves: {run / 'curves.png'}",
            then=f"gcsam-med evaluate {shlex.quote(str(run))}",
        )


def _train_folds(**given: Any) -> None:
    from gcsam_med import training
    from gcsam_med.cli.live import LiveView

    with LiveView() as view:
        outcomes = training.train_folds(callback=view, **given)
    if int(os.environ.get("RANK", "0")) == 0:
        show_trained(*outcomes)
        console.result(
            {"runs": [outcome.to_json() for outcome in outcomes]},
            "",
            then=f"gcsam-med evaluate {shlex.quote(str(outcomes[0].folder))} --folds all",
        )


def _say_if_finished(run: Path, *, extend: bool) -> None:
    """Say how to train a finished run on, before it is looked at and left as it is."""
    result = read_json_or_empty(run / "result.json")
    why = result.get("stopped_by")
    if why in ("epochs", "patience") and not extend:
        console.say(
            f"{run} is finished ({result.get('epochs')} epochs, stopped by {why}). "
            f"To train it further: gcsam-med train --resume {run} --extend --epochs N"
        )


def _no_dataset(data_root: Path) -> ConfigError:
    """Say which prepared data sets there are."""
    there = sorted(path.parent.name for path in (data_root / "prepared").glob("[!.]*/dataset.json"))
    if there:
        return ConfigError(
            f"train needs a data set; prepared are: {', '.join(there)}.",
            f"For example: gcsam-med train --dataset {there[0]}",
        )
    return ConfigError(
        f"train needs a prepared data set, and there is none under {data_root}.",
        "Prepare your images: gcsam-med prepare --dataset folder --source FOLDER - or try synthetic ones: "
        "gcsam-med prepare --dataset busi --demo",
    )


def _checkpoint_every(text: str | None) -> dict[str, Any]:
    """Minutes or steps between checkpoints, as the setting that means them."""
    if text is None:
        return {}
    number = text.removesuffix("m")
    try:
        return {"checkpoint_minutes": float(number)} if number != text else {"checkpoint_steps": int(text)}
    except ValueError:
        raise ConfigError(
            f"--checkpoint-every takes minutes or steps, but got '{text}'.", "For example: 5m, or 200."
        ) from None


def show_trained(*outcomes: TrainingResult) -> None:
    """Draw how runs ended (stderr)."""
    for outcome in outcomes:
        facts = f"{console.duration(outcome.seconds)}, {outcome.images_per_second:.1f} images/s"
        best = f"best validation {outcome.metric} {outcome.best:.4f} in epoch {outcome.best_epoch}"
        console.say(f"{outcome.folder}: {best} of {outcome.epochs} ({facts}; stopped by {outcome.reason})")

"""`gcsam-med train`: train a network on a prepared data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import ConfigFile, RunSettings, Sets, from_models
from gcsam_med.errors import ConfigError

if TYPE_CHECKING:
    from gcsam_med.training import TrainingResult


@from_models
def train_command(
    settings: RunSettings,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run folder; default: runs/NAME, named by the settings."),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            "--checkpoint-every", help="Within an epoch: minutes (5m) or steps (200); default: 10m."
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
) -> None:
    """Train a network, with GCSAM by default, and keep the weights of the best validation epoch."""
    from gcsam_med import training
    from gcsam_med.cli.live import LiveView

    settings |= _checkpoint_every(checkpoint_every)
    with LiveView() as view:
        if resume is not None:
            outcome = training.resume(resume, view, extend=extend, sets=sets or (), **settings)
        else:
            dataset = settings.pop("dataset", None)
            outcome = training.train(dataset, output, view, config=config, sets=sets or (), **settings)
    if int(os.environ.get("RANK", "0")) == 0:
        _report(outcome)


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


def _report(outcome: TrainingResult) -> None:
    console.table(
        "",
        ["run", "best epoch", f"validation {outcome.metric}", "epochs", "minutes", "images/s", "stopped by"],
        [
            (
                outcome.folder,
                outcome.best_epoch,
                f"{outcome.best:.4f}",
                outcome.epochs,
                f"{outcome.seconds / 60:.1f}",
                f"{outcome.images_per_second:.1f}",
                outcome.reason,
            )
        ],
    )
    console.result(
        outcome.to_json(),
        f"Model: {outcome.folder / 'model'}\nNext:  gcsam-med evaluate {outcome.folder}",
    )

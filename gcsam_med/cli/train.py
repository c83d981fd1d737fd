"""`gcsam-med train`: train a network on a prepared data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcsam_med.cli import console, options
from gcsam_med.errors import ConfigError

if TYPE_CHECKING:
    from gcsam_med.training import TrainingResult

_LEARN, _OPTIMIZE, _MACHINE = "What is learned", "How it is optimized", "Machine and files"


def train(
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Name of a prepared data set.", rich_help_panel=_LEARN),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", help="segmentation or classification; default by data set.", rich_help_panel=_LEARN
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="See `gcsam-med list models`.", rich_help_panel=_LEARN),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Use only these, e.g. benign,malignant.", rich_help_panel=_LEARN),
    ] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option("--pretrained", help="Start from ImageNet weights.", rich_help_panel=_LEARN),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Start from this weights file.", rich_help_panel=_LEARN),
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", min=0, help="Validate on this fold.", rich_help_panel=_LEARN)
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer", help="See `gcsam-med list optimizers`; default gcsam.", rich_help_panel=_OPTIMIZE
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help="adam, adamw or sgd under gcsam or sam.", rich_help_panel=_OPTIMIZE),
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Peak learning rate.", rich_help_panel=_OPTIMIZE)
    ] = None,
    rho: Annotated[
        str | None, typer.Option("--rho", help="Radius of the ascent, or auto.", rich_help_panel=_OPTIMIZE)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="At the most.", rich_help_panel=_OPTIMIZE)
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option("--max-minutes", help="Stop after this time.", rich_help_panel=_OPTIMIZE),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            min=0,
            help="Stop after so many epochs without a better one; 0: never.",
            rich_help_panel=_OPTIMIZE,
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, rich_help_panel=_OPTIMIZE, help="Cases a pass.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", min=1, help="Passes a step.", rich_help_panel=_OPTIMIZE)
    ] = None,
    ema: Annotated[
        float | None, typer.Option("--ema", help="Decay of averaged weights.", rich_help_panel=_OPTIMIZE)
    ] = None,
    augment: Annotated[
        bool | None,
        typer.Option("--augment/--no-augment", help="Random transforms.", rich_help_panel=_OPTIMIZE),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Determines all chance.", rich_help_panel=_OPTIMIZE)
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32, bf16 or fp16.", rich_help_panel=_MACHINE)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_MACHINE),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", help="Folder of prepared data sets.", rich_help_panel=_MACHINE),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Run folder; default runs/NAME by settings.", rich_help_panel=_MACHINE
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file of settings.", rich_help_panel=_MACHINE)
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting: key=value; beats the file.", rich_help_panel=_MACHINE),
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            "--checkpoint-every",
            help="Within an epoch: minutes (5m) or steps (200). Default 10m.",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUN", help="Go on with this run.", rich_help_panel=_MACHINE),
    ] = None,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend", help="With --resume: allow more --epochs than before.", rich_help_panel=_MACHINE
        ),
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Train a network, with GCSAM by default, and keep the weights of the best validation epoch."""
    del quiet, verbose, json, debug
    given: dict[str, Any] = {
        "dataset": dataset,
        "task": task,
        "model": model,
        "classes": [name.strip() for name in classes.split(",")] if classes else None,
        "pretrained": pretrained,
        "weights": weights,
        "fold": fold,
        "optimizer": optimizer,
        "base": base,
        "lr": lr,
        "rho": rho,
        "epochs": epochs,
        "max_minutes": max_minutes,
        "patience": patience,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "ema": ema,
        "augment": augment,
        "seed": seed,
        "precision": precision,
        "device": device,
        "data_root": data_root,
        **_checkpoint_every(checkpoint_every),
    }
    from gcsam_med.cli.live import LiveView
    from gcsam_med.config import load_config

    if resume is not None:
        from gcsam_med.training import resume_training

        with LiveView() as view:
            outcome = resume_training(
                resume,
                {k: v for k, v in given.items() if v is not None},
                sets or (),
                extend=extend,
                callback=view,
            )
    else:
        settings = load_config(config, given, sets or ())
        from gcsam_med.training import start_training

        with LiveView() as view:
            outcome = start_training(settings, output, callback=view)
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

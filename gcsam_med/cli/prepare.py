"""`gcsam-med prepare`: read, check and split a data set, and store it for training."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcsam_med.cli import console, options
from gcsam_med.errors import InputError, unknown_name

if TYPE_CHECKING:
    from gcsam_med.preparation import Outcome

_SOURCE, _CHECKS, _RESULT = "Where the images are", "How they are checked", "What is made of them"


def prepare(
    *,
    dataset: options.DatasetName,
    source: options.Source = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder a table's paths are relative to.", rich_help_panel=_SOURCE),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch it from its public address.", rich_help_panel=_SOURCE)
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Generate synthetic images instead.", rich_help_panel=_SOURCE)
    ] = False,
    demo_cases: Annotated[
        int, typer.Option("--demo-cases", min=3, help="How many.", rich_help_panel=_SOURCE)
    ] = 120,
    data_root: options.DataRoot = Path("data"),
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave bad files out instead of stopping.", rich_help_panel=_CHECKS),
    ] = False,
    conflicts: Annotated[
        str,
        typer.Option(
            "--conflicts",
            help="Same picture, different labels: keep-together or drop.",
            rich_help_panel=_CHECKS,
        ),
    ] = "keep-together",
    mask_size: Annotated[
        str | None,
        typer.Option(
            "--mask-size",
            help="Masks of another size than their image: refuse or resize.",
            rich_help_panel=_CHECKS,
        ),
    ] = None,
    frames: Annotated[
        str,
        typer.Option(
            "--frames",
            help="Of multi-frame files: first, middle, all or a number from 0.",
            rich_help_panel=_CHECKS,
        ),
    ] = "first",
    probes: Annotated[
        bool,
        typer.Option(
            "--probes", help="Also train models on what should not tell the class.", rich_help_panel=_CHECKS
        ),
    ] = False,
    name: Annotated[
        str, typer.Option("--name", help="Name of the result; default: --dataset.", rich_help_panel=_RESULT)
    ] = "",
    size: Annotated[
        int, typer.Option("--size", min=16, max=2048, help="Side in pixels.", rich_help_panel=_RESULT)
    ] = 256,
    modality: Annotated[
        str | None,
        typer.Option(
            "--modality",
            help="ultrasound, xray or photo; for --dataset folder and table.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of the split.", rich_help_panel=_RESULT)
    ] = 0,
    folds: Annotated[
        int, typer.Option("--folds", min=2, max=50, help="Number of folds.", rich_help_panel=_RESULT)
    ] = 5,
    split_by: Annotated[
        str,
        typer.Option(
            "--split-by",
            help="group (patient, near-duplicates) or image (for comparison; stamped on reports).",
            rich_help_panel=_RESULT,
        ),
    ] = "group",
    splits: Annotated[
        Path | None,
        typer.Option("--splits", help="Apply this splits.json.", rich_help_panel=_RESULT),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Prepare anew even if nothing changed.", rich_help_panel=_RESULT)
    ] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=0, help="Reading processes.")] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Read, check and split a data set, and store it for training.

    Duplicates are found, kept on one side of the split, and reported in audit.html.
    """
    from gcsam_med.preparation import PrepareOptions, probe
    from gcsam_med.preparation import prepare as run

    # Leaving by an exception, not at once, so that reading processes end and half-written files go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = {
        "size": size,
        "seed": seed,
        "folds": folds,
        "skip_bad": skip_bad,
        "conflicts": _one_of("--conflicts", conflicts, ("keep-together", "drop")),
        "mask_size": _one_of("--mask-size", mask_size, ("refuse", "resize")),
        "modality": _one_of("--modality", modality, ("ultrasound", "xray", "photo")),
        "split_by": _one_of("--split-by", split_by, ("group", "image")),
        "frames": _frames(frames),
    }
    outcome = run(
        dataset,
        _source(dataset, source, data_root, demo_cases if demo else None, download=download, seed=seed),
        data_root,
        name=name,
        options=PrepareOptions.model_validate(chosen),
        images=images,
        splits=splits,
        force=force,
        workers=workers,
        track=console.track,
    )
    audit = probe(outcome.dataset, console.track) if probes else outcome.audit
    _tell(outcome, audit)


def _source(
    dataset: str, source: Path | None, data_root: Path, demo_cases: int | None, *, download: bool, seed: int
) -> Path:
    """Where the images are: as given, downloaded, or generated."""
    from gcsam_med.datasets import DATASETS

    if dataset not in DATASETS:
        raise unknown_name("data set", dataset, DATASETS.keys())
    given = [o for o, on in (("--source", source), ("--download", download), ("--demo", demo_cases)) if on]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given)} exclude one another."
            if given
            else f"prepare needs to know where the images of '{dataset}' are.",
            "Give --source FOLDER, or --download, or --demo for synthetic images.",
        )
    if source is not None:
        return source
    if download:
        from gcsam_med.datasets.download import fetch

        return fetch(dataset, DATASETS[dataset], data_root / "downloads" / dataset, console.track)
    from gcsam_med.datasets.demo import demo_folder

    return demo_folder(dataset, data_root, demo_cases or 0, seed, track=console.track)


def _one_of(option: str, value: str | None, known: tuple[str, ...]) -> str | None:
    if value is not None and value not in known:
        raise unknown_name(f"value of {option}", value, known)
    return value


def _frames(text: str) -> str | int:
    if text in ("first", "middle", "all"):
        return text
    if text.isdecimal():
        return int(text)
    raise InputError(f"--frames takes first, middle, all or a number from 0, but got '{text}'.")


def _tell(outcome: Outcome, audit: dict[str, Any]) -> None:
    info = outcome.dataset.info
    from gcsam_med.cli import audit as audit_command

    if outcome.changes:
        console.table("Changed since the former run", ["what"], [(change,) for change in outcome.changes])
    for warning in outcome.warnings:
        console.warn(warning)
    if outcome.faults:
        rows = [(f.path, f.reason, f.detail) for f in outcome.faults]
        console.table(f"Left out: {len(rows)}", ["file", "reason", "what"], rows[:50])
    columns = ["split", "cases", *info.classes]
    counts = [[split, c["cases"], *(c[k] for k in info.classes)] for split, c in info.counts.items()]
    console.table(f"{info.title}: {info.n_cases} cases", columns, counts)
    audit_command.show(audit)
    payload = {
        "name": info.name,
        "path": str(outcome.dataset.root),
        "cases": info.n_cases,
        "counts": info.counts,
        "group_kind": info.group_kind,
        "fresh": outcome.fresh,
        "changes": list(outcome.changes),
        "quarantined": len(outcome.faults),
        "synthetic": info.synthetic,
        "warnings": list(outcome.warnings),
        "audit": audit["summary"],
    }
    done = "Prepared" if outcome.fresh else "Nothing changed"
    console.result(payload, f"{done}: {outcome.dataset.root} (audit.html shows what was found)")

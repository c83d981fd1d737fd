"""`gcsam-med prepare`, `audit` and `preview`: from images to a prepared data set, and a look at it."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import DataRoot, Kind, Output, Source, from_models
from gcsam_med.config import PrepareOptions, PreviewOptions
from gcsam_med.errors import InputError
from gcsam_med.fields import flag_of

if TYPE_CHECKING:
    from gcsam_med.datasets.prepared import PreparedDataset
    from gcsam_med.preparation import Outcome

Prepared = Annotated[
    str,
    typer.Argument(
        metavar="PREPARED",
        help="A prepared data set: its folder, or its name.",
        autocompletion=completion.of("prepared"),
    ),
]


@from_models
def prepare_command(
    options: PrepareOptions,
    dataset: Kind = None,
    source: Source = None,
    data_root: DataRoot = Path("data"),
) -> None:
    """Read, check and split a data set, and store it for training.

    Duplicates are found, kept on one side of the split, and reported in audit.html. --merge makes one set
    of several prepared ones.
    """
    from gcsam_med.preparation import merge, prepare, probe

    # Leaving by an exception, not at once, so that reading processes end and half-written files go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    notes: list[str] = []

    def tell(note: str) -> None:
        notes.append(note)
        console.say(note)

    if options.merge:
        _check_merging(options, dataset, source)
        outcome = merge(options.merge, data_root, options, track=console.track)
    elif dataset is None:
        raise InputError("prepare needs a data set.", "Give --dataset NAME, or --merge NAME,NAME.")
    else:
        outcome = prepare(dataset, source, data_root, options, track=console.track, tell=tell)
    audit = probe(outcome.dataset, console.track) if options.probes else outcome.audit
    show_prepared(outcome, audit, notes)
    info = outcome.dataset.info
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
    then = f"gcsam-med train --dataset {shlex.quote(info.name)}"
    console.result(payload, f"{done}: {outcome.dataset.root} (audit.html shows what was found)", then)


def _check_merging(options: PrepareOptions, dataset: str | None, source: Path | None) -> None:
    from gcsam_med.preparation.merge import TAKEN

    others = sorted({name for name in options.model_fields_set if getattr(options, name)} - TAKEN)
    others += [name for name, given in (("dataset", dataset), ("source", source)) if given is not None]
    if others:
        raise InputError(
            f"--merge takes prepared sets as they are, without {', '.join(map(flag_of, others))}.",
            "Leave it out, or prepare the sets with it first.",
        )


def as_one_set(settings: dict[str, Any], datasets: Sequence[str] = ()) -> None:
    """Where ``--dataset`` (or `datasets`) names several prepared sets, merge them and name the result."""
    from gcsam_med.datasets.prepared import INFO, prepared_root
    from gcsam_med.preparation import merge

    if datasets:
        settings["dataset"] = ",".join(datasets)
    name, data_root = str(settings.get("dataset", "")), Path(settings.get("data_root", "data"))
    names = [part.strip() for part in name.split(",")]
    if len(names) == 1 or (prepared_root(data_root, name) / INFO).is_file():
        return
    outcome = merge(names, data_root, track=console.track)
    settings["dataset"] = outcome.dataset.info.name
    if outcome.fresh:
        for warning in outcome.warnings:
            console.warn(warning)
        console.say(f"Prepared: {outcome.dataset.root}")


@from_models
def audit_command(
    prepared: Prepared,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Find the images shared with this prepared data set.",
            autocompletion=completion.of("prepared"),
        ),
    ] = None,
    probes: Annotated[
        bool, typer.Option("--probes", help="Train small models on what should not reveal the class.")
    ] = False,
    data_root: DataRoot = Path("data"),
    output: Output = None,
) -> None:
    """Show what prepare found: duplicates, conflicting labels, burned-in text, shortcuts."""
    from gcsam_med.datasets.prepared import read_audit
    from gcsam_med.preparation import overlap, probe

    dataset = _find(prepared, data_root)
    if against is not None:
        result, paths = overlap(dataset, _find(against, data_root), output or dataset.root, console.track)
        _show_overlap(result)
        console.result(
            {**result, "files": [str(p) for p in paths]},
            f"Written: {paths[1]}",
            then=f"gcsam-med evaluate RUN --dataset {_find(against, data_root).info.name}",
        )
        return
    found = probe(dataset, console.track) if probes else read_audit(dataset.root)
    _show_audit(found)
    console.result(
        {**found, "path": str(dataset.root)},
        f"Details: {dataset.root / 'audit.html'}",
        then=f"gcsam-med preview {shlex.quote(prepared)}",
    )


@from_models
def preview_command(
    prepared: Prepared,
    options: PreviewOptions,
    data_root: DataRoot = Path("data"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG to write; default: PREPARED/preview.png.")
    ] = None,
) -> None:
    """Show what training will see: images, masks, and random transforms of both."""
    from gcsam_med.preparation.preview import preview as draw

    if output is not None and output.suffix.lower() != ".png":
        raise InputError(f"--output names a PNG file, but got '{output.name}'.", "For example: sheet.png")
    dataset = _find(prepared, data_root)
    if not len(dataset.rows(options.split)):
        raise InputError(f"'{dataset.info.name}' has no {options.split} cases.", "Choose another --split.")
    path = draw(dataset, output or dataset.root / "preview.png", **options.model_dump())
    then = f"gcsam-med train --dataset {shlex.quote(dataset.info.name)}"
    console.result({"path": str(path)}, f"Written: {path}", then)


def show_prepared(outcome: Outcome, audit: dict[str, Any], shown: Sequence[str] = ()) -> None:
    """Draw what was prepared and what is noteworthy about it (stderr), but for the warnings already shown."""
    info = outcome.dataset.info
    if outcome.changes:
        console.table("Changed since the former run", ["what"], [(change,) for change in outcome.changes])
    for warning in outcome.warnings:
        if warning not in shown:
            console.warn(warning)
    if outcome.faults:
        rows = [(f.path, f.reason, f.detail) for f in outcome.faults]
        console.table(f"Left out: {len(rows)}", ["file", "reason", "what"], rows[:50])
    columns = ["split", "cases", *info.classes]
    counts = [[split, c["cases"], *(c[k] for k in info.classes)] for split, c in info.counts.items()]
    console.table(f"{info.title}: {info.n_cases} cases", columns, counts)
    _show_audit(audit)


def _find(prepared: str, data_root: Path) -> PreparedDataset:
    """Open a prepared data set by its folder or its name, and check every byte of it."""
    from gcsam_med.datasets.prepared import PreparedDataset, open_prepared

    folder = Path(prepared)
    if folder.is_dir():
        return PreparedDataset(folder, deep=True)
    return open_prepared(data_root, prepared, deep=True)


def _show_audit(found: dict[str, Any]) -> None:
    """Draw an audit's main findings (stderr)."""
    s = found["summary"]
    leak = f"{100 * s['random_split_leak']:.0f} % of test images under a random split by image"
    several = f"{s['images_in_groups_of_several']} in {s['groups_of_several']} groups"
    rows = [
        ("exact duplicate pairs", s["exact_duplicate_pairs"]),
        ("near-duplicate pairs", s["near_duplicate_pairs"]),
        (
            "images in groups of several",
            several,
        ),
        ("near-duplicates in training", leak),
        ("same picture, different labels", s["label_conflicts"]),
        ("groups on both sides of the split", s["groups_on_both_sides"]),
        ("text or calipers burned in", s["images_with_marks"]),
        ("coloured overlay", s["images_with_coloured_overlay"]),
        ("possible shortcuts", s["shortcut_suspects"]),
        ("bad files left out", s["quarantined"]),
    ]
    console.table("Audit", ["what", "found"], rows)
    if found["conflicts"]:
        pairs = [(c["first"], c["second"], c["kind"], c["agreement"]) for c in found["conflicts"][:20]]
        console.table("One picture, two labels", ["first", "second", "kind", "agreement"], pairs)
    suspects = [x for x in found["shortcuts"] if x["suspicious"]][:10]
    if suspects:
        shown = [(x["feature"], x.get("class", ""), x.get("auc", x.get("cramers_v"))) for x in suspects]
        console.table(
            "Possible shortcuts",
            ["feature", "class", "AUC or Cramer's V"],
            shown,
        )
    if found.get("probes"):
        judged = [(p["view"], p["class"], p["auc"], "{} to {}".format(*p["ci95"])) for p in found["probes"]]
        console.table("Shortcut probes", ["sees only", "class", "AUC", "95 % CI"], judged)
    for p in found.get("probes", []):
        if p["predicts_class"]:
            console.warn(f"A model that sees only '{p['view']}' can predict '{p['class']}': AUC {p['auc']}.")


def _show_overlap(result: dict[str, Any]) -> None:
    s = result["summary"]
    rows = [(k.replace("_", " "), v) for k, v in s.items()]
    console.table("Overlap", ["what", "found"], rows)
    if s["shared_of_first"]:
        console.warn(
            f"{s['shared_of_first']} pictures of '{s['first']}' are also in '{s['second']}': "
            "neither is an external test set for the other."
        )

"""`gcsam-med audit`: show what prepare found, probe for shortcuts, compare two data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcsam_med.cli import console, options
from gcsam_med.errors import InputError
from gcsam_med.files import read_json

if TYPE_CHECKING:
    from gcsam_med.datasets.prepared import PreparedDataset


def audit(
    *,
    prepared: Annotated[
        str, typer.Argument(metavar="PREPARED", help="A prepared data set: its folder, or its name.")
    ],
    against: Annotated[
        str | None, typer.Option("--against", help="Find the pictures shared with this prepared data set.")
    ] = None,
    probes: Annotated[
        bool, typer.Option("--probes", help="Train models on what should not tell the class.")
    ] = False,
    data_root: options.DataRoot = Path("data"),
    output: options.Output = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what prepare found: duplicates, conflicting labels, burned-in text, shortcuts."""
    from gcsam_med.datasets.prepared import AUDIT
    from gcsam_med.preparation import overlap, probe

    dataset = find(prepared, data_root)
    if against is not None:
        result, paths = overlap(dataset, find(against, data_root), output or dataset.root, console.track)
        _show_overlap(result)
        console.result({**result, "files": [str(p) for p in paths]}, f"Written: {paths[1]}")
        return
    found = probe(dataset, console.track) if probes else _read(dataset.root / AUDIT)
    show(found)
    console.result({**found, "path": str(dataset.root)}, f"Details: {dataset.root / 'audit.html'}")


def find(prepared: str, data_root: Path) -> PreparedDataset:
    """Open a prepared data set by its folder or its name."""
    from gcsam_med.datasets.prepared import PreparedDataset, open_prepared

    folder = Path(prepared)
    return PreparedDataset(folder) if folder.is_dir() else open_prepared(data_root, prepared)


def show(found: dict[str, Any]) -> None:
    """Draw an audit's main findings (stderr)."""
    s = found["summary"]
    leak = f"{100 * s['random_split_leak']:.0f} % of test images, were the split drawn image by image"
    several = f"{s['images_in_groups_of_several']} in {s['groups_of_several']} groups"
    rows = [
        ("exact duplicate pairs", s["exact_duplicate_pairs"]),
        ("near-duplicate pairs", s["near_duplicate_pairs"]),
        (
            "images in groups of several",
            several,
        ),
        ("duplicates in training", leak),
        ("same picture, different labels", s["label_conflicts"]),
        ("groups on both sides of the split", s["groups_on_both_sides"]),
        ("text or calipers burned in", s["images_with_marks"]),
        ("coloured overlay", s["images_with_coloured_overlay"]),
        ("shortcut suspects", s["shortcut_suspects"]),
        ("bad files left out", s["quarantined"]),
    ]
    console.table("Audit", ["what", "found"], rows)
    if found["conflicts"]:
        pairs = [(c["first"], c["second"], c["kind"], c["agreement"]) for c in found["conflicts"][:20]]
        console.table("One picture, two labels", ["first", "second", "kind", "agreement"], pairs)
    suspects = [x for x in found["shortcuts"] if x["suspicious"]][:10]
    if suspects:
        shown = [(x["feature"], x.get("class", ""), x.get("auc", x.get("cramers_v"))) for x in suspects]
        console.table("Tells the class without anatomy", ["feature", "class", "AUC or Cramer's V"], shown)
    if found.get("probes"):
        judged = [(p["view"], p["class"], p["auc"], "{} to {}".format(*p["ci95"])) for p in found["probes"]]
        console.table("Shortcut probes", ["sees only", "class", "AUC", "95 % CI"], judged)
    for p in found.get("probes", []):
        if p["predicts_class"]:
            console.warn(f"A model that sees only '{p['view']}' predicts '{p['class']}': AUC {p['auc']}.")


def _show_overlap(result: dict[str, Any]) -> None:
    s = result["summary"]
    rows = [(k.replace("_", " "), v) for k, v in s.items()]
    console.table("Overlap", ["what", "found"], rows)
    if s["shared_of_first"]:
        console.warn(
            f"{s['shared_of_first']} pictures of '{s['first']}' are also in '{s['second']}': "
            "neither is an external test set for the other."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError):
        raise InputError(f"{path} is missing or damaged.", "Prepare the data set again.") from None
    if "summary" not in found:
        raise InputError(f"{path} was written by an older version.", "Run prepare with --force.")
    return found

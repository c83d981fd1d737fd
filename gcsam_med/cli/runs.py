"""`gcsam-med runs`: a table of runs, and two of them side by side; and the run that a command means."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

import typer

from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import from_models
from gcsam_med.errors import InputError, unknown_name
from gcsam_med.files import is_name
from gcsam_med.reading import read_json_or_empty
from gcsam_med.runs.table import COLUMNS, run_folders, summaries

Run = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RUN]",
        help="A run: its folder, or its name under runs/; default: the newest finished one.",
        autocompletion=completion.of("runs"),
    ),
]
_NARROW = ("run", "epochs", "validation", "looks", "test")
_WIDE = 170  # columns of a terminal that show them all
Folder = Annotated[Path, typer.Option("--folder", help="Folder of the runs.")]


@from_models
def runs_command(
    names: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[A B]", help="Compare these two runs.", autocompletion=completion.of("runs")),
    ] = None,
    folder: Folder = Path("runs"),
    sort: Annotated[
        str | None, typer.Option("--sort", help="Column; default: newest first.", metavar="|".join(COLUMNS))
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="COLUMN=TEXT", help="Only runs with this text in the column."),
    ] = None,
) -> None:
    """List all runs with their results; or show where two runs differ."""
    if names:
        if len(names) != 2:
            raise InputError("Two runs are compared.", "For more: gcsam-med compare RUN...")
        _compare_two(find_run(names[0]), find_run(names[1]))
        return
    rows = [row for root in run_folders(folder) for row in summaries(root)]
    for text in filters or []:
        column, equals, wanted = text.partition("=")
        _check_column(column)
        if not equals:
            raise InputError(
                f"--filter takes COLUMN=TEXT, but got '{text}'.", "For example: --filter data=busi"
            )
        rows = [row for row in rows if wanted in str(row[column])]
    if sort is not None:
        _check_column(sort)
        rows.sort(key=lambda row: (row[sort] is None, str(row[sort]) if sort != "epochs" else row[sort]))
    if not rows:
        console.say(f"There are no runs under {folder}.")
    else:
        _show(rows, folder)
    console.result({"runs": rows}, then="gcsam-med runs A B" if len(rows) > 1 else "")


def _show(rows: list[dict[str, Any]], folder: Path) -> None:
    """Draw all columns where there is room, else those that the usual name of a run does not tell."""
    wide = console.voice.out.width >= _WIDE
    columns = (*COLUMNS, "report") if wide else _NARROW
    console.table("", columns, [[_shown(row, name, folder) for name in columns] for row in rows], result=True)
    if not wide:
        console.say("All columns: a wider terminal, or --json.")


def _shown(row: dict[str, Any], column: str, folder: Path) -> str:
    value = row[column]
    if column == "run" and Path(value).is_relative_to(folder):
        return str(Path(value).relative_to(folder))
    if column == "epochs" and not row["finished"]:
        return str(row["data"]) if row["model"] is None else "unfinished"
    if column == "test" and value is not None and row.get("test_ci95"):
        low, high = row["test_ci95"]
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    return _cell(value)


def find_run(given: Path | None) -> Path:
    """Find the run that is meant: a folder, a name under ``runs/``, or the newest finished one.

    Raises
    ------
    InputError
        If there is none; the nearest names are named.
    """
    if given is None:
        finished = [root for root in run_folders(Path("runs")) if (root / "result.json").is_file()]
        if not finished:
            raise InputError(
                "There is no finished run under runs/.", "Name a run folder, or make one: gcsam-med train"
            )
        console.say(f"Run: {finished[0]} (the newest finished one)")
        return finished[0]
    if given.exists():
        return given
    if is_name(str(given)) and (Path("runs") / given / "config.yaml").is_file():
        return Path("runs") / given
    known = [root.name for root in run_folders(Path("runs"))]
    near = difflib.get_close_matches(given.name, known, n=2, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"There is no run folder {given}.", f"{hint}Runs are listed by: gcsam-med runs")


def _compare_two(first: Path, second: Path) -> None:
    from gcsam_med.runs import RunFolder

    one, two = RunFolder(first), RunFolder(second)
    before, after = (run.config().model_dump(mode="json") for run in (one, two))
    settings = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    found = [
        read_json_or_empty(run.evaluation("test") / "metrics.json").get("metrics", {}) for run in (one, two)
    ]
    metrics = {
        name: tuple(each.get(name, {}).get("value") for each in found)
        for name in dict.fromkeys([*found[0], *found[1]])
    }
    columns = ("", first.name, second.name)
    if settings:
        rows = [(name, *map(_cell, pair)) for name, pair in settings.items()]
        console.table("Settings that differ", columns, rows, result=True)
    else:
        console.say("All settings are the same.")
    if metrics:
        console.table("Test", columns, [(n, *map(_cell, pair)) for n, pair in metrics.items()], result=True)
    else:
        console.say("Neither run is evaluated on test.")
    payload = {"runs": [str(first), str(second)], "settings": settings, "metrics": metrics}
    console.result(payload, then=f"gcsam-med compare {first} {second}" if all(found) else "")


def _check_column(name: str) -> None:
    if name not in COLUMNS:
        raise unknown_name("column", name, COLUMNS)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""All drawing on the terminal: messages and progress to stderr, results to stdout."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from gcsam_med.cli.streams import Surviving
from gcsam_med.errors import DataFaults, GcsamMedError

T = TypeVar("T")


def _stream(stderr: bool) -> Console:
    stream = Surviving(sys.stderr if stderr else sys.stdout)
    return Console(
        file=cast("IO[str]", stream), width=stream.width, highlight=False, soft_wrap=not stream.isatty()
    )


@dataclass
class Voice:
    """How much is said, and in which form. One a process; the options -q, -v, --json, --debug set it."""

    quiet: bool = False  #: Say nothing but results, warnings and errors.
    verbose: bool = False  #: Say more.
    as_json: bool = False  #: Results as one JSON document on stdout.
    debug: bool = False  #: Show tracebacks.
    err: Console = field(default_factory=lambda: _stream(stderr=True))
    out: Console = field(default_factory=lambda: _stream(stderr=False))

    def reset(self) -> None:
        """Forget what a former command in this process set (tests run many)."""
        self.__init__()  # type: ignore[misc]


voice = Voice()


# Names come from files that anybody may have made. A terminal acts on control characters; lone surrogates
# stand for bytes that are no text.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: object, style: str = "") -> Text:
    """Text to draw as it stands: nothing in it is markup, and nothing moves the terminal's cursor."""
    return Text(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text)), style=style)


def say(text: str, style: str = "") -> None:
    """Tell how the work goes (stderr); nothing with --quiet."""
    if not voice.quiet:
        voice.err.print(plain(text, style))


def detail(text: str) -> None:
    """Tell more (stderr), with --verbose only."""
    if voice.verbose and not voice.quiet:
        voice.err.print(plain(text, "dim"))


def warn(text: str) -> None:
    """Warn (stderr), even with --quiet."""
    voice.err.print(Text.assemble(("warning: ", "bold yellow"), plain(text)))


def fail(error: GcsamMedError) -> None:
    """Print what went wrong and what to do: one or two lines, and a table of faults if there are many."""
    voice.err.print(Text.assemble(("error: ", "bold red"), plain(error.message)))
    if isinstance(error, DataFaults):
        rows = [(f.path, f.reason, f.detail) for f in error.faults[:50]]
        voice.err.print(_drawn("", ["file", "reason", "what"], rows))
        if len(error.faults) > 50:
            voice.err.print(f"... and {len(error.faults) - 50} more.")
    if error.advice:
        voice.err.print(plain(error.advice))


def result(payload: Mapping[str, Any], text: str = "", then: str = "") -> None:
    """Give the command's result on stdout: `payload` as JSON with --json, else `text`.

    `then` is a command to run next; it is named on stderr.
    """
    if voice.as_json:
        voice.out.file.write(json.dumps(payload, indent=2, default=str, allow_nan=False) + "\n")
        voice.out.file.flush()
    elif text:
        voice.out.print(plain(text), soft_wrap=True)
    if then:
        say(f"Next: {then}")


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, result: bool = False
) -> None:
    """Draw a table: of a result on stdout (nothing with --json), else on stderr (nothing with --quiet)."""
    if (result and voice.as_json) or (not result and voice.quiet):
        return
    (voice.out if result else voice.err).print(_drawn(title, columns, rows))


def _drawn(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    drawn = Table(
        title=plain(title) if title else None, title_justify="left", show_edge=False, pad_edge=False
    )
    for i, column in enumerate(columns):
        # Names are not split, and no word of a heading is.
        widest = max(map(len, column.split()), default=0)
        drawn.add_column(plain(column), no_wrap=i == 0, min_width=widest, overflow="fold")
    for row in rows:
        drawn.add_row(*(plain(cell) for cell in row))
    return drawn


def duration(seconds: float) -> str:
    """Time as people say it: ``40 s``, ``12 min``, ``2 h 10 min``."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{minutes} min" if not hours else f"{hours} h {minutes} min"


def confirmed(question: str) -> bool:
    """Ask on a terminal, yes by default; without a terminal nothing is asked."""
    if not (sys.stdin.isatty() and voice.err.is_terminal):
        return True
    voice.err.print(plain(f"{question} [Y/n] "), end="")
    return not sys.stdin.readline().strip().lower().startswith("n")


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Show a bar on a terminal while `items` are worked through; one plain line elsewhere.

    See `gcsam_med.progress.Track`.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if voice.quiet or not voice.err.is_terminal:
        say(f"{what}: {total if total is not None else '...'}")
        yield from items
        return
    with progress() as bars:
        yield from bars.track(items, total=total, description=plain(what).plain)


def progress() -> Progress:
    """A progress display in the house's form, on stderr."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=voice.err,
        transient=True,
    )

"""What was predicted so far, so that a stopped prediction goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gcsam_med.errors import InputError

JOURNAL = "predictions.jsonl"


class Journal:
    """One JSON line an input, after a first line with the settings.

    Parameters
    ----------
    folder : Path
        Output folder, already there.
    settings : mapping
        What determines the results; a journal of other settings is not continued.
    overwrite : bool
        Start anew instead of going on.

    Raises
    ------
    InputError
        If the folder holds predictions made with other settings and `overwrite` is off.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = folder / JOURNAL
        self.done: dict[str, list[dict[str, Any]]] = {}
        lines = [] if overwrite else list(_lines(self.path))
        if lines and lines[0].get("settings") != dict(settings):
            raise InputError(
                f"{folder} holds predictions made with another model or other options.",
                "Give another --output, or replace them with --overwrite.",
            )
        for line in lines[1:]:
            self.done[line["key"]] = line["rows"]
        # Written anew: a line that a crash cut short would spoil the one after it.
        self._file = self.path.open("w", encoding="utf-8")
        self._write({"settings": dict(settings)})
        for key, rows in self.done.items():
            self._write({"key": key, "rows": rows})
        self._file.flush()

    def add(self, key: str, rows: list[dict[str, Any]]) -> None:
        """Note an input as done."""
        self.done[key] = rows
        self._write({"key": key, "rows": rows})
        self._file.flush()

    def forget(self, key: str) -> None:
        """Take an input as not done, because its files are gone."""
        self.done.pop(key, None)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read whole lines; stop at the first that is not."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                return
            if not isinstance(line, dict) or not (
                {"settings"} <= line.keys() or {"key", "rows"} <= line.keys()
            ):
                return
            yield line

"""Files that are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

MOST_NAME = 100
"""Characters of a name, see `is_name`; it may have twice as many bytes, which is what file systems count."""
MOST_LEVELS = 20  # of YAML
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


def is_name(text: str) -> bool:
    """Whether `text` can name a data set, a run or a study: a plain file name, and nothing else.

    No separator, no dot in front, no control character, no space at an end, at most `MOST_NAME` characters.
    """
    return (
        0 < len(text) <= MOST_NAME
        and len(text.encode("utf-8", "replace")) <= 2 * MOST_NAME
        and not text.startswith(".")
        and text == text.strip()
        and not any(c in "/\\" or unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)
    )


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` so that after a crash it holds either its former content or `data`, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_regular(path: Path, most: int) -> bytes:
    """Read a file that should be a plain one of at most `most` bytes.

    A pipe would be waited for without end, and a sparse file that claims terabytes would take all memory.

    Raises
    ------
    OSError
        If it cannot be read, is no plain file, or is larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"larger than the {most:,} bytes that it may have")
        return file.read()


def read_json(path: Path, most: int = 64 * 2**20) -> Any:
    """Read a JSON file of at most `most` bytes; see `read_regular`.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no JSON, or nested too deep.
    """
    try:
        return json.loads(read_regular(path, most))
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse_yaml(text: str) -> Any:
    """Read YAML of plain values. Aliases are refused: a few lines of them can stand for gigabytes.

    Raises
    ------
    ValueError
        If it is no YAML, uses an alias, or is nested deeper than `MOST_LEVELS`.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_LEVELS:
                raise ValueError(f"is not valid YAML: nested more than {MOST_LEVELS} deep")
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"is not valid YAML: it uses the alias *{event.anchor}; write the value out")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("is not valid YAML: " + str(error).replace("\n", " ")[:300]) from error


def read_yaml(path: Path, most: int) -> dict[str, Any]:
    """Read a YAML mapping from a file of at most `most` bytes; see `read_regular` and `parse_yaml`."""
    try:
        text = read_regular(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("is not valid YAML: it is not UTF-8 text") from error
    content = parse_yaml(text)
    if not isinstance(content, dict):
        raise ValueError("should hold a mapping of settings")
    # YAML lets the last of two equal keys win without a word.
    pairs = yaml.compose(text, Loader=yaml.SafeLoader).value  # type: ignore[union-attr]
    twice = [key for key, count in Counter(str(key.value) for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"sets {', '.join(twice)} more than once")
    return content


def is_leftover(path: Path) -> bool:
    """Whether `path` is the temporary file of a `write_durably` that was cut off, or is under way."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote left; only for who alone writes in `folder`."""
    if folder.is_dir():
        for path in folder.iterdir():
            if is_leftover(path):
                path.unlink(missing_ok=True)

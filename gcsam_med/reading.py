"""The one way to read a file that this process did not just write.

Whatever lies in a data set, a run, a study or a user's folder may have been damaged, exchanged or made by
others. So a file is opened once, without waiting for a pipe; what was opened must be a plain file below a
bound of size; and its content must fit a schema (pydantic), with finite numbers and matching shapes. Where it
does not, the error names the file and the way out. Errors do not quote content: it may name a patient.

No other module opens a file for reading (``tests/test_reading.py``).
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar

from gcsam_med.errors import GcsamMedError, InputError
from gcsam_med.files import SEAL, sealed

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

T = TypeVar("T")
Fault = type[GcsamMedError]

MOST_JSON, MOST_TABLE, MOST_LINES = 64 * 2**20, 4 * 2**30, 256 * 2**20
"""Bounds in bytes of JSON and YAML, of a table, and of a file of lines."""
MOST_LEVELS, MOST_YAML_LEVELS = 100, 20
_NOT_PLAIN = "it is not a plain file"


def open_plain(path: Path, most: int | None = None, *, follow: bool = True) -> io.BufferedReader:
    """Open a plain file of at most `most` bytes for reading.

    With `follow` off, a link may lead to a file of the same folder only.

    Raises
    ------
    OSError
        If it cannot be opened, is no plain file (a pipe, a device, a folder), or is larger.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    except OSError as error:
        if follow or error.errno not in (errno.ELOOP, errno.EMLINK):
            raise
        target = path.resolve()
        if target.parent != path.parent.resolve():
            raise OSError(errno.ELOOP, "it is a link to another folder") from None
        descriptor = os.open(target, flags | os.O_NOFOLLOW)
    file = os.fdopen(descriptor, "rb")
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, _NOT_PLAIN)
        if most is not None and found.st_size > most:
            raise OSError(errno.EFBIG, f"it is larger than the {most:,} bytes that it may have")
    except BaseException:
        file.close()
        raise
    return file


def read_plain(path: Path, most: int, *, follow: bool = True) -> bytes:
    """Read a plain file whole; see `open_plain`."""
    with open_plain(path, most, follow=follow) as file:
        # Not more than was there when its size was checked, should it grow meanwhile.
        return file.read(os.fstat(file.fileno()).st_size)


def parse_json(data: bytes | str) -> Any:
    """Parse JSON of finite numbers, nested at most 100 deep.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        content = json.loads(data, parse_float=_finite, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if _depth(content) > MOST_LEVELS:
        raise ValueError("it is nested too deep")
    return content


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _depth(content: Any) -> int:
    """Levels of lists and mappings, without recursion."""
    deepest, waiting = 0, [(content, 1)]
    while waiting:
        value, level = waiting.pop()
        if isinstance(value, dict | list) and level <= MOST_LEVELS + 1:
            deepest = max(deepest, level)
            waiting += [(v, level + 1) for v in (value.values() if isinstance(value, dict) else value)]
    return deepest


def read_json(
    path: Path, schema: type[T], advice: str, *, fault: Fault = InputError, most: int = MOST_JSON
) -> T:
    """Read a JSON file that must fit a schema: a pydantic model, or a type such as ``dict[str, float]``.

    `advice` says what to do if the file is missing, damaged or foreign; `fault` is the error to raise, an
    `InputError` (exit code 2) or a `CheckpointError` (4); `most` is the largest size in bytes. A seal (see
    `files.sealed`) is checked and taken away.
    """
    with faults(path, advice, fault):
        content = parse_json(read_plain(path, most, follow=False))
        seal = content.pop(SEAL, None) if isinstance(content, dict) else None
        found = validate(content, schema)
        if seal is not None and sealed(content)[SEAL] != seal:
            raise ValueError("it was changed since it was written")
        return found


def is_ours(path: Path) -> bool:
    """Whether a file is a JSON object that this program wrote, as its seal or schema says."""
    try:
        found = parse_json(read_plain(path, MOST_JSON, follow=False))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and not {SEAL, "schema"}.isdisjoint(found)


def read_json_or_empty(path: Path) -> dict[str, Any]:
    """Read a JSON object that a report can do without; empty where it is missing, damaged or foreign."""
    try:
        return read_json(path, dict[str, Any], "")
    except InputError:
        return {}


def read_json_lines(path: Path, schema: type[T]) -> list[T]:
    """Read a file of one JSON value a line; lines that a crash cut, or that do not fit, are left out.

    A missing file has no lines.

    Raises
    ------
    OSError
        If it is there and cannot be read.
    """
    try:
        data = read_plain(path, MOST_LINES, follow=False)
    except FileNotFoundError:
        return []
    found: list[T] = []
    for line in data.split(b"\n"):
        try:
            found.append(validate(parse_json(line), schema))
        except ValueError:
            continue
    return found


def validate(content: Any, schema: type[T]) -> T:
    """Check a value against a schema.

    Raises
    ------
    ValueError
        If it does not fit; the message names the place, and does not quote the value.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        result: T = TypeAdapter(schema).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        text = str(first["msg"]).removeprefix("Value error, ").lower()
        raise ValueError(
            f"it does not fit at '{where}' ({text})" if where else f"it does not fit ({text})"
        ) from None
    except (OverflowError, RecursionError, TypeError) as error:
        raise ValueError(f"it does not fit ({type(error).__name__})") from None
    return result


def parse_yaml(text: str) -> Any:
    """Read YAML of plain values. Aliases are refused: a few lines of them can stand for gigabytes.

    Raises
    ------
    ValueError
        If it is no YAML, uses an alias, or is nested deeper than `MOST_YAML_LEVELS`.
    """
    import yaml

    depth, loader = 0, _yaml_loader()
    try:
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_YAML_LEVELS:
                raise ValueError(f"is not valid YAML: nested more than {MOST_YAML_LEVELS} deep")
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"is not valid YAML: it uses the alias *{event.anchor}; write the value out")
        opened = loader(text)
        try:
            return opened.get_single_data()
        finally:
            opened.dispose()
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("is not valid YAML: " + str(error).replace("\n", " ")[:300]) from error


def _yaml_loader() -> Any:
    """The safe loader, in C where it was built: some twenty times as fast."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, most: int) -> dict[str, Any]:
    """Read a YAML mapping from a file of at most `most` bytes; see `read_plain` and `parse_yaml`."""
    import yaml

    try:
        text = read_plain(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("is not valid YAML: it is not UTF-8 text") from error
    content = parse_yaml(text)
    if not isinstance(content, dict):
        raise ValueError("should hold a mapping of settings")
    # YAML lets the last of two equal keys win without a word.
    pairs = yaml.compose(text, Loader=_yaml_loader()).value  # type: ignore[union-attr]
    twice = [key for key, count in Counter(str(key.value) for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"sets {', '.join(twice)} more than once")
    return content


def read_csv(
    path: Path,
    columns: Sequence[str],
    advice: str,
    *,
    most: int = MOST_TABLE,
    sha256: str | None = None,
) -> pd.DataFrame:
    """Read a CSV file (UTF-8) that must have these columns; every value is a str, empty if missing.

    `sha256` is what its bytes must have as hash, where it is known.
    """
    import pandas as pd

    with faults(path, advice):
        content = read_plain(path, most, follow=False)
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("it was changed since it was written")
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8")
        missing = [column for column in columns if column not in table]
        if missing:
            raise ValueError(f"it has no column {missing[0]}")
        if table.isna().any(axis=None):
            raise ValueError("a row is cut short")
        return table


def read_safetensors(
    path: Path, advice: str, *, fault: Fault = InputError, most: int
) -> tuple[dict[str, np.ndarray], Mapping[str, str]]:
    """Read a safetensors file: arrays by name, all of finite numbers, and its metadata."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with faults(path, advice, fault):
        data = read_plain(path, most, follow=False)
        try:
            arrays = load(data)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"it is not a valid safetensors file: {str(error)[:200]}") from None
        for name, array in arrays.items():
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                raise ValueError(f"'{name[:60]}' holds a number that is not finite")
        length = int.from_bytes(data[:8], "little")
        header = parse_json(data[8 : 8 + length])
        return arrays, validate(header.get("__metadata__", {}), dict[str, str])


def open_image(file: IO[bytes], formats: tuple[str, ...] = ("PNG",)) -> Image.Image:
    """Open a picture with Pillow; a cut one raises, when opened or when loaded.

    Other libraries switch that off for the whole process as soon as they are imported (WeasyPrint does).
    """
    from PIL import Image, ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    return Image.open(file, formats=formats)


@contextmanager
def faults(path: Path, advice: str, fault: Fault = InputError) -> Iterator[None]:
    """Turn what goes wrong while `path` is read into an error that names it and the way out."""
    try:
        yield
    except FileNotFoundError:
        raise fault(f"{path} is not there.", advice) from None
    except OSError as error:
        raise fault(f"{path} cannot be read: {error.strerror or error}.", advice) from None
    except UnicodeDecodeError:
        raise fault(f"{path} is damaged: it is not UTF-8 text.", advice) from None
    except ValueError as error:
        text = " ".join(str(error).split())[:300].rstrip(".")
        raise fault(f"{path} is damaged or was not written by gcsam-med: {text}.", advice) from None

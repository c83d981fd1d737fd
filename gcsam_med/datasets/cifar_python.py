"""Find pictures and labels in the Python version of CIFAR without running what the file contains.

Such a file is a little program; loading it the usual way runs it, and it may do anything. Here the standard
library's disassembler lists its instructions, and only those that build numbers, texts, lists and
dictionaries are followed. Where the program would import or call something, an inert `Opaque` stands instead:
the picture array is one, and its bytes are among what was handed to it.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gcsam_med.errors import InputError

MAX_BYTES = 512 * 2**20


@dataclass
class Opaque:
    """Stands for an object that the file wants built and that is not built."""

    state: Any = None


@dataclass
class _Blob:
    """Bytes in the file, with the place where they begin."""

    value: bytes
    start: int


@dataclass
class _Machine:
    """The few instructions that build plain data."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, data: bytes) -> Any:
        """Follow the instructions of `data` and return what they build."""
        for opcode, argument, position in pickletools.genops(data):
            if self._step(opcode.name, argument, position or 0, data):
                return self.stack.pop()
        raise ValueError("no end")

    def _step(self, name: str, argument: Any, position: int, data: bytes) -> bool:
        if name == "STOP":
            return True
        if name in ("PROTO", "FRAME"):
            return False
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name.startswith(("PUT", "BINPUT", "LONG_BINPUT")):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif isinstance(argument, int | float) or name in ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"):
            self.stack.append(argument)
        elif name in _BYTES:
            self._bytes(name, argument, position, data)
        elif name in _CALLS:
            self._call(name)
        else:
            self._build(name)
        return False

    def _bytes(self, name: str, argument: Any, position: int, data: bytes) -> None:
        # Python 2 wrote its byte strings as text opcodes; the disassembler decodes them as latin-1.
        value = argument.encode("latin-1") if isinstance(argument, str) else bytes(argument)
        start = data.find(value, position, position + len(value) + 16) if len(value) > 1024 else -1
        self.stack.append(_Blob(value, start) if start >= 0 else value.decode("latin-1"))

    def _call(self, name: str) -> None:
        if name == "GLOBAL":
            self.stack.append(Opaque())
        elif name == "STACK_GLOBAL":
            del self.stack[-2:]
            self.stack.append(Opaque())
        elif name == "REDUCE":
            arguments = self.stack.pop()
            self.stack[-1] = Opaque(arguments)
        else:  # BUILD hands the object its state
            state = self.stack.pop()
            self.stack[-1].state = state

    def _build(self, name: str) -> None:
        if name in ("APPEND", "SETITEM"):
            items = [self.stack.pop()] if name == "APPEND" else [self.stack.pop(-2), self.stack.pop()]
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items = self.stack[-count:]
            del self.stack[-count:]
        else:
            start = self.marks.pop()
            items = self.stack[start:]
            del self.stack[start:]
        if name.startswith("TUPLE"):
            self.stack.append(tuple(items))
        elif name in ("LIST", "DICT"):
            self.stack.append(items if name == "LIST" else dict(zip(items[::2], items[1::2], strict=True)))
        elif name in ("APPEND", "APPENDS"):
            self.stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
        else:
            raise ValueError(name)


_CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_BYTES = frozenset(
    {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_CALLS = frozenset({"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"})


def read_batch(path: Path, key: str, picture_bytes: int) -> tuple[list[int], int]:
    """Find a batch's labels and where its pictures begin.

    Parameters
    ----------
    path : Path
        A batch file of the Python version.
    key : str
        ``labels`` or ``fine_labels``.
    picture_bytes : int
        Bytes of one picture.

    Returns
    -------
    labels : list of int
        One a picture.
    start : int
        Offset of the first picture in the file.

    Raises
    ------
    InputError
        If the file is not such a batch.
    """
    content = _read(path)
    labels, array = content.get(key), content.get("data")
    parts = array.state if isinstance(array, Opaque) and isinstance(array.state, tuple) else ()
    blob = next((part for part in parts if isinstance(part, _Blob)), None)
    if not isinstance(labels, list) or not all(isinstance(x, int) and 0 <= x < 256 for x in labels):
        raise _not_a_batch(path)
    if blob is None or len(blob.value) != len(labels) * picture_bytes:
        raise _not_a_batch(path)
    return labels, blob.start


def read_names(path: Path, key: str) -> list[str]:
    """Class names from the Python version's meta file.

    Raises
    ------
    InputError
        If the file holds none.
    """
    names = _read(path).get(key)
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise _not_a_batch(path)
    return names


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _not_a_batch(path)
        content = _Machine().run(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}.") from None
    except (ValueError, IndexError, KeyError, AttributeError, TypeError, UnicodeDecodeError):
        raise _not_a_batch(path) from None
    if not isinstance(content, dict):
        raise _not_a_batch(path)
    return content


def _not_a_batch(path: Path) -> InputError:
    return InputError(
        f"{path.name} is not a batch file of CIFAR's Python version.",
        "Unpack the archive again, or use the binary version.",
    )

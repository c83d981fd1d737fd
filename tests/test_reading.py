"""Files of others are read in one way: plain, bounded, of a schema."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from safetensors.numpy import save

from gcsam_med.errors import CheckpointError, InputError
from gcsam_med.reading import open_plain, parse_json, read_csv, read_json, read_json_lines, read_safetensors

PACKAGE = Path(__file__).parents[1] / "gcsam_med"
# Besides: the package's own source, the kernel's limits below /proc and /sys, and the null device.
OWN_FILES = {"reading.py", "files.py", "cli/__init__.py", "devices.py", "cli/streams.py"}
# What opens a file by its path, whatever module it is a name of, ...
READERS = {
    "read_text", "read_bytes", "safe_open", "load_file", "fromfile", "memmap", "open_memmap", "genfromtxt",
    "loadtxt", "dcmread", "read_partial", "ZipFile", "is_zipfile", "is_tarfile", "TarFile", "GzipFile",
    "BZ2File", "LZMAFile", "FileIO", "imread", "open",
}  # fmt: skip
# ... and of these modules only.
READERS_OF = {
    **{module: {"load"} for module in ("json", "pickle", "tomllib", "joblib", "np", "numpy", "torch")},
    "yaml": {"load", "safe_load", "full_load", "load_all"},
    "csv": {"reader", "DictReader"},
    "shutil": {"copy", "copy2", "copyfile", "copytree"},
    "sqlite3": {"connect"},
    "ElementTree": {"parse"},
}
# Not bounded in depth, or not finite, even of text; or content with cut images (Pillow).
PARSERS = {
    ("Image", "open"),
    ("json", "loads"),
    ("yaml", "safe_load"),
    ("yaml", "load"),
    ("tomllib", "loads"),
}
OPENERS = {"open_plain", "BytesIO", "StringIO", "_Bounded", "ZipFile", "open"}
NO_FILES = {"RunFolder", "webbrowser", "archive", "cls", "self"}
"""Owners of methods of these names that read no file by its path, such as an opened archive."""


def _in_memory(call: ast.Call, opened: set[str]) -> bool:
    """Whether what is read is bytes that `reading` gave, or a file that it opened."""
    given = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "fileobj")]
    return any(
        (isinstance(one, ast.Call) and _name(one.func) in OPENERS - {"open", "ZipFile"})
        or (isinstance(one, ast.Name) and one.id in opened)
        for one in given
    )


def _name(callee: ast.expr) -> str:
    return callee.id if isinstance(callee, ast.Name) else getattr(callee, "attr", "")


def _opened(tree: ast.AST) -> set[str]:
    """Names that stand for files which were opened by `open_plain`, or for bytes in memory."""
    found = set()
    for node in ast.walk(tree):
        pairs = []
        if isinstance(node, ast.withitem):
            pairs = [(node.context_expr, node.optional_vars)]
        elif isinstance(node, ast.Assign):
            pairs = [(node.value, target) for target in node.targets]
        for value, target in pairs:
            if isinstance(value, ast.Call) and _name(value.func) in OPENERS and isinstance(target, ast.Name):
                found.add(target.id)
    return found


def _writes(call: ast.Call) -> bool:
    """Whether it is `path.open` with a mode that only writes, and no appending through a link."""
    mode = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "mode"), None)
    modes = [mode.body, mode.orelse] if isinstance(mode, ast.IfExp) else [mode]
    return all(isinstance(m, ast.Constant) and not {"r", "+", "a"} & set(str(m.value)) for m in modes)


def _reads(tree: ast.AST) -> list[str]:
    """Calls that open a file for reading by its path, or parse without bounds."""
    found, opened = [], _opened(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name, owner = _name(call.func), _name(getattr(call.func, "value", ast.Constant(None)))
        method = isinstance(call.func, ast.Attribute)
        if "files('gcsam_med" in ast.unparse(call):  # a template that came with the package
            continue
        known = name in READERS or name in READERS_OF.get(owner, ())
        known |= owner in ("pd", "pandas") and name.startswith("read_")
        if (owner, name) in PARSERS:
            found.append(f"{owner}.{name}")
        elif (
            not known
            or owner in NO_FILES
            or _in_memory(call, opened)
            or (name == "read_bytes" and not method)
        ):
            continue
        elif not (name == "open" and method and _writes(call)):
            found.append(f"{owner}.{name}" if owner else name)
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_no_other_module_opens_a_file_for_reading(path: Path) -> None:
    """Oracle: the syntax tree."""
    if path.relative_to(PACKAGE).as_posix() not in OWN_FILES:
        assert _reads(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "open(p)",
        "p.open()",
        "p.open('rb')",
        "p.read_text()",
        "(a / b).read_bytes()",
        "json.load(f)",
        "json.loads(t)",
        "np.load(p)",
        "pd.read_csv(a / b)",
        "Image.open(a / b)",
        "os.open(p, 0)",
        "load_file(p)",
        "torch.load(a / b)",
        "torch.load(p)",
        "Image.open(p)",
        "PIL.Image.open(p)",
        "Image.open(io.BytesIO(data))",
        "io.open(p)",
        "gzip.open(p)",
        "zipfile.ZipFile(p)",
        "zipfile.is_zipfile(p)",
        "tarfile.open(p)",
        "np.fromfile(p)",
        "np.lib.format.open_memmap(p)",
        "pydicom.dcmread(p)",
        "safe_open(p, 'pt')",
        "csv.reader(p.open())",
        "yaml.safe_load(t)",
        "tomllib.load(f)",
        "shutil.copy(p, q)",
        "p.open('r+')",
        "p.open('a')",
    ],
)
def test_the_guard_sees_what_it_should(code: str) -> None:
    assert _reads(ast.parse(code))


class Facts(BaseModel):
    schema_version: int = Field(alias="schema", ge=1, le=1)
    rate: float
    name: str = ""


def test_a_file_that_fits_is_read(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"schema": 1, "rate": 0.5}')
    assert read_json(file, Facts, "Again.").rate == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "damaged or was not written"),
        ("[" * 100_000, "nested too deep"),
        ('{"schema": 999, "rate": 1}', "'schema'"),
        ('{"schema": 1, "rate": NaN}', "no JSON number"),
        ('{"schema": 1, "rate": 1e999}', "too large"),
        ('{"schema": 1, "rate": "Anna Muster"}', "'rate'"),
        ('{"schema": 1, "rate": {}}', "'rate'"),
        ("\x80{}", "not UTF-8"),
    ],
)
def test_a_file_that_does_not_fit_is_named_and_not_quoted(tmp_path, text, said):
    """Oracle: exit code and words; the value, which may be a name, is not in the message."""
    file = tmp_path / "a.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=said) as caught:
        read_json(file, Facts, "Make it again.", fault=CheckpointError)
    assert str(file) in caught.value.message
    assert caught.value.advice == "Make it again."
    assert "Anna" not in str(caught.value)


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path):
    """Oracle: a pipe without a writer, a device, a folder, a link out, a sparse giant: each an InputError."""
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in/pipe")
    (tmp_path / "out.json").write_text("{}")
    (tmp_path / "in/link").symlink_to(tmp_path / "out.json")
    (tmp_path / "in/device").symlink_to("/dev/zero")
    with (tmp_path / "in/giant").open("wb") as file:
        file.truncate(2**40)
    for name in ("pipe", "link", "device", "giant", ".", "none"):
        with pytest.raises(InputError):
            read_json(tmp_path / "in" / name, dict[str, int], "Again.")
    (tmp_path / "in/own.json").write_text("{}")
    (tmp_path / "in/near").symlink_to("own.json")
    assert read_json(tmp_path / "in/near", dict[str, int], "") == {}
    with pytest.raises(OSError, match="plain"):
        open_plain(tmp_path / "in/pipe")


def test_lines_that_are_not_whole_are_left_out(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": 1}\n{"a": 2\n[]\n\xff\n{"a": 3}')
    assert read_json_lines(file, dict[str, int]) == [{"a": 1}, {"a": 3}]
    assert read_json_lines(tmp_path / "none", dict[str, int]) == []


def test_arrays_are_finite_and_tables_have_their_columns(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(save({"mean": np.array([1, np.nan], dtype=np.float32)}))
    with pytest.raises(InputError, match="not finite"):
        read_safetensors(file, "Again.", most=10_000)
    file.write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="damaged"):
        read_safetensors(file, "Again.", most=10_000)
    table = tmp_path / "a.csv"
    table.write_text("case_id,label\na,NA\n")
    assert read_csv(table, ["label"], "")["label"].tolist() == ["NA"]
    with pytest.raises(InputError, match="no column dice"):
        read_csv(table, ["dice"], "Again.")


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_json_comes_back(value):
    """Oracle: json."""
    assert parse_json(json.dumps(value)) == value

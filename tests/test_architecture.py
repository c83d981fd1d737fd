"""The house keeps its rules: layers, no code from data, a light command line, short files."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "gcsam_med").rglob("*.py"))
MOST_LINES = 600

# Ways in which reading data could run code from it.
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "jit"),
    ("yaml", "load"),
    ("yaml", "full_load"),
    ("yaml", "unsafe_load"),
    ("os", "system"),
    ("os", "popen"),
    ("pd", "read_pickle"),
    ("pandas", "read_pickle"),
}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_layers_point_down() -> None:
    """Oracle: import-linter on the contracts in pyproject.toml."""
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _unsafe(tree: ast.AST) -> Iterator[str]:
    """Say what in a module could run code that data carry."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_IMPORTS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_IMPORTS:
            yield f"from {node.module}"
        elif isinstance(node, ast.Attribute):
            owner = getattr(node.value, "id", "")
            yield from [f"{owner}.{node.attr}"] * ((owner, node.attr) in FORBIDDEN_ATTRIBUTES)
    for call in _calls(tree):
        keywords = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        owner = getattr(getattr(call.func, "value", None), "id", "")
        method = getattr(call.func, "attr", "")
        if name in FORBIDDEN_CALLS:
            yield f"{name}()"
        if (owner, method) == ("torch", "load") and keywords.get("weights_only") is not True:
            yield "torch.load without weights_only=True"
        if keywords.get("weights_only", True) is False or keywords.get("allow_pickle", False) is not False:
            yield "weights_only=False or allow_pickle=True"
        if keywords.get("shell", False) is not False:
            yield "shell=True"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_no_data_can_run_code(path: Path) -> None:
    assert list(_unsafe(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "exec(x)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=flag)",
        "torch.jit.load(f)",
        "yaml.load(f, Loader=L)",
        "np.load(f, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
        "os.system(x)",
    ],
)
def test_the_guard_sees_what_it_should(code: str) -> None:
    assert list(_unsafe(ast.parse(code)))


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_help_loads_nothing_heavy() -> None:
    """Oracle: `sys.modules` of a process of its own after `gcsam-med --help`."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json, sys\nfrom gcsam_med.cli import run\ncode = run(['--help'])\n"
            "sys.stderr.write(json.dumps([code, sorted(sys.modules)]))",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, modules = json.loads(done.stderr)
    heavy = {
        "torch",
        "torchvision",
        "monai",
        "numpy",
        "pandas",
        "scipy",
        "sklearn",
        "matplotlib",
        "pydantic",
        "PIL",
    }
    assert code == 0
    assert "Usage" in done.stdout
    assert heavy & set(modules) == set()


def test_every_module_says_what_it_is() -> None:
    silent = [_name(p) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert silent == []

"""The pages are a site without a warning, their notebook runs, and their pictures show their commands."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Oracle: Sphinx, with every warning an error: links, pages left out, docstrings, pictures."""
    build = ["--quiet", "--fail-on-warning", "--keep-going", "-b", "html", "-d", str(tmp_path / "trees")]
    done = _run([sys.executable, "-m", "sphinx", *build, str(DOCS), str(tmp_path / "site")], ROOT)
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "--mc-dropout" in commands
    assert "Peak learning rate" in (tmp_path / "site" / "reference" / "settings.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_as_it_stands(notebook: Path, tmp_path: Path) -> None:
    """Oracle: Jupyter's own client: no cell fails; and the page that is shown has been run to its end."""
    import nbformat

    shown = nbformat.read(notebook, as_version=4)
    cells = [cell for cell in shown.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    code = (
        "import sys, nbformat\nfrom nbclient import NotebookClient\n"
        "page = nbformat.read(sys.argv[1], as_version=4)\n"
        "NotebookClient(page, timeout=500, resources={'metadata': {'path': '.'}}).execute()\n"
    )
    done = _run([sys.executable, "-W", "ignore", "-c", code, str(notebook)], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_pictures_of_the_tutorial_show_its_commands() -> None:
    """Oracle: each command's words stand in the picture of its name, which loads nothing from elsewhere."""
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    commands = re.findall(r"^gcsam-med ((\w+) .+)$", page, flags=re.MULTILINE)
    shown = {name: line for line, name in commands if "--resume" not in line}
    assert set(shown) == {"prepare", "train", "evaluate", "predict"}
    for name, line in shown.items():
        picture = (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8")
        assert not re.findall(r"(?:href|src|url)[=(]\s*['\"]?https?:", picture)
        text = html.unescape(re.sub(r"<[^>]+>", "", picture))
        bare = re.sub(r"[\s'\"]", "", text)
        assert re.sub(r"[\s'\"]", "", line) in bare, name


def test_every_picture_is_shown() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    pictures = [path for path in (DOCS / "images").iterdir() if path.is_file()]
    assert pictures
    assert [path.name for path in pictures if f"images/{path.name}" not in pages] == []

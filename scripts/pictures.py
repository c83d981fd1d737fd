"""Make the pictures of the tutorial anew: run its commands on synthetic images and keep what they show.

::

    python scripts/pictures.py --work /tmp/tutorial --chromium chromium

Each command's terminal becomes an SVG in docs/images; the report becomes a PNG if Chromium is there. Takes a
few minutes on two cores. The commands are those of docs/tutorial.md, word for word; a test sees to that.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console

from gcsam_med.cli import console, run

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL, IMAGES = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "images"
WIDTH = 100


def commands(page: str) -> list[list[str]]:
    """Return the commands of a page's console blocks, split into words, without ``gcsam-med``."""
    blocks = re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("gcsam-med ")]


def photograph(words: list[str]) -> str:
    """Run one command and return its terminal as an SVG that loads nothing from elsewhere."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        screen = Console(record=True, width=WIDTH, file=nowhere, force_terminal=False, highlight=False)
        screen.print(f"[bold]$ gcsam-med {shlex.join(words)}[/]", soft_wrap=False)
        former, console._stream = console._stream, lambda stderr: screen
        try:
            code = run(words)
        finally:
            console._stream = former
    if code != 0:
        sys.exit(f"gcsam-med {shlex.join(words)} left with exit code {code}: {screen.export_text()}")
    name = words[0]
    svg = screen.export_svg(title=f"gcsam-med {name}", unique_id=name)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace(
        "Fira Code, monospace", "monospace"
    )


def shoot(browser: str, page: Path, picture: Path, height: int) -> None:
    """Take a picture of the top of an HTML page."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--window-size=1100,{height}", f"--user-data-dir={folder}/profile", f"--screenshot={shot}",
             page.resolve().as_uri()],
            check=True,
            capture_output=True,
            timeout=120,
        )  # fmt: skip
        with Image.open(shot) as image:
            image.convert("RGB").quantize(96).save(picture, optimize=True)


def main() -> None:
    """Run the tutorial."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder to work in; what is there is kept")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(exist_ok=True)
    os.chdir(given.work)
    for words in commands(TUTORIAL.read_text(encoding="utf-8")):
        if "--resume" in words:
            continue
        if words[0] == "train" and Path("runs/tutorial/result.json").is_file():
            continue
        svg = photograph(words)
        (IMAGES / f"{words[0]}.svg").write_text(svg, encoding="utf-8")
        print(f"{words[0]}.svg")
    overlay = sorted(Path("out/tutorial/overlays").iterdir())[0]
    shutil.copy(overlay, IMAGES / "overlay.png")
    if given.chromium:
        shoot(given.chromium, Path("runs/tutorial/evaluation/test/report.html"), IMAGES / "report.png", 1500)
        print("report.png")


if __name__ == "__main__":
    main()

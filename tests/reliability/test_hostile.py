"""Hostile inputs through all commands: no traceback, no hang, the right exit code, nothing outside.

With GCSAM_MED_TABLE=FILE the table of `docs/reliability.md` is written there.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from types import FrameType

import pandas as pd
import pytest

from gcsam_med.cli import run as command
from tests.reliability.fuzzing import fuzz
from tests.reliability.hostile.cases import CASES
from tests.reliability.hostile.project import COMMANDS, Project

SECONDS = 20  # what takes longer on a busy machine hangs
FIVE = ("prepare", "train", "evaluate", "predict", "compare")


class Hang(BaseException):
    """Not an Exception, so that nothing takes it for a fault of the input."""


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang


@pytest.mark.parametrize("name", CASES)
def test_hostile_input(
    name: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the exit code of the contract, one or two lines of message, and files where they belong."""
    case = CASES[name]
    escaped = Path("/tmp/escaped-from-gcsam-med")
    seen = {}
    for verb, codes in case.codes.items():
        project = Project(tmp_path / verb)
        shutil.copytree(sound, project.root)
        for config in project.root.glob("runs/*/config.yaml"):
            config.write_text(config.read_text().replace(str(sound), str(project.root)))
        monkeypatch.chdir(project.root)
        more = case.spoil(project) or []
        arguments = COMMANDS[verb](project)
        if not project.source.exists():  # the source became an archive
            archive = next(project.root.glob("source.*"))
            arguments = [str(archive) if a == str(project.source) else a for a in arguments]
        former = signal.signal(signal.SIGALRM, _hang)
        signal.alarm(SECONDS)
        try:
            code = command([*arguments, *more])
        except Hang:
            code = -1
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, former)
        said = "".join(capfd.readouterr())
        seen[verb] = code
        assert "Traceback" not in said, said
        assert "A bug in gcsam-med" not in said, said
        assert code in codes, (verb, code, said)
        assert "\x1b" not in said, "the terminal's codes are passed on"
        assert not list(project.root.rglob("canary"))
        assert not list(escaped.parent.glob(f"{escaped.name}*"))
        _check_what_was_written(project)
    _enter(name, case.codes, seen)


def _check_what_was_written(project: Project) -> None:
    for page in project.root.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<script>alert" not in text, page
        assert "<img src=x" not in text, page
        assert "<b onclick" not in text, page
    for name in ("cases.csv", "predictions.csv", "comparison.csv"):
        for path in project.root.rglob(name):
            if path.stat().st_mtime < (project.root / "runs").stat().st_ctime - 3600:
                continue
            if not path.is_file():
                continue
            try:
                table = pd.read_csv(path, dtype=str, keep_default_na=False)
            except ValueError:
                continue  # the hostile input itself: we write tables that can be read
            cells = [*table.columns, *table.to_numpy().ravel()]
            assert not [c for c in cells if c.startswith(("=", "@")) or "\x1b" in c], path


@pytest.mark.parametrize(
    "kind", ["calibration.json", "model.json", "result.json", "cases.csv", "config.yaml"]
)
def test_a_file_that_was_changed_at_random_gives_no_other_answer(
    kind: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the answer of the sound project, or a refusal. `scripts/fuzz.py` tries all kinds."""
    monkeypatch.chdir(tmp_path)
    said = lambda: "".join(capfd.readouterr())  # noqa: E731
    found = fuzz(Project(sound), tmp_path / "changed", kind, range(2), said, verbs=1)
    assert found == []


def test_there_are_enough(request: pytest.FixtureRequest) -> None:
    """At least 60 inputs, and each of the five commands meets many."""
    counts = {verb: sum(verb in case.codes for case in CASES.values()) for verb in COMMANDS}
    assert len(CASES) >= 60
    assert all(counts[verb] >= 3 for verb in FIVE), counts


def _enter(name: str, expected: dict[str, tuple[int, ...]], seen: dict[str, int]) -> None:
    file = os.environ.get("GCSAM_MED_TABLE")
    if file:
        cells = ", ".join(f"{verb} {code}" for verb, code in seen.items())
        wanted = ", ".join(f"{verb} {' or '.join(map(str, codes))}" for verb, codes in expected.items())
        with Path(file).open("a") as table:
            table.write(f"| {name.replace('|', '/')} | {wanted} | {cells} |\n")

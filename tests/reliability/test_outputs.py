"""What stands where a command is to write: a link, or a file or folder of somebody else; all commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gcsam_med.cli import run as command
from tests.reliability.fuzzing import undrawn
from tests.reliability.hostile.project import COMMANDS, Project

WORK = "years of work"


def _to(verb: str, place: str, *more: str) -> Callable[[Project], list[str]]:
    """A command of `COMMANDS`, its output given as last option."""

    def arguments(p: Project) -> list[str]:
        given = COMMANDS[verb](p)
        if "--output" in given:
            cut = given.index("--output")
            given = given[:cut] + given[cut + 2 :]
        return [*given, "--output", str(p.root / place), *more]

    return arguments


def _study(p: Project) -> list[str]:
    given = "compare --dataset toy --task segmentation --models tiny --optimizers adam --epochs 1"
    return [*given.split(), "--data-root", str(p.data), "--output", str(p.root / "new")]


def _plan(p: Project) -> list[str]:
    return ["plan", str(p.run), "--margin", "0.1", "--output", str(p.root / "new")]


def _audit(p: Project) -> list[str]:
    assert command([*COMMANDS["prepare"](p), "-q"]) == 0
    given = ["audit", "made", "--against", "made", "--data-root", str(p.data)]
    return [*given, "--output", str(p.root / "new")]


def _protocol(p: Project) -> list[str]:
    given = ["protocol", "freeze", str(p.run), "--external", "toy", "--outcome", "dice"]
    return [*given, "--data-root", str(p.data), "--out", str(p.root / "new.json")]


# command: how it is called, the folder or file that it writes, and of a folder, a file in it
WRITERS: dict[str, tuple[Callable[[Project], list[str]], str, str]] = {
    "prepare": (COMMANDS["prepare"], "data/prepared/made", "manifest.csv"),
    "train": (_to("train", "new"), "new", "config.yaml"),
    "evaluate": (_to("evaluate", "new"), "new", "report.html"),
    "evaluate in a run": (COMMANDS["evaluate"], "runs/one/evaluation", ""),
    "predict": (_to("predict", "new"), "new", "predictions.csv"),
    "predict masks": (_to("predict", "new"), "new/masks", "0.png"),
    "compare": (_to("compare", "new"), "new", "comparison.html"),
    "compare, a study": (_study, "new", "study.json"),
    "plan": (_plan, "new", "power.svg"),
    "sharpness": (_to("sharpness", "new"), "new/one", "sharpness.json"),
    "export": (_to("export", "new"), "new", "README.md"),
    "audit": (_audit, "new", "overlap-made.html"),
    "preview": (_to("preview", "new.png"), "new.png", ""),
    "protocol": (_protocol, "new.json", ""),
}
IN_THE_WAY = ("link to a file", "link to a folder", "file", "folder")
# Beside files of others a study is trained, which takes long and is no matter of writing.
TRIED = [
    (name, there)
    for name in WRITERS
    for there in IN_THE_WAY
    if (name, there) != ("compare, a study", "folder")
]


@pytest.mark.parametrize(("name", "there"), TRIED)
def test_nothing_of_others_is_written(
    name: str, there: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Oracle: others' files byte for byte, no new file beside them, exit code 2; beside another file in the
    output folder a command may also do its work.
    """
    call, target, inner = WRITERS[name]
    project = Project(tmp_path / "project")
    shutil.copytree(sound, project.root)
    for config in project.root.glob("runs/*/config.yaml"):
        config.write_text(config.read_text().replace(str(sound), str(project.root)))
    monkeypatch.chdir(project.root)
    arguments = call(project)
    elsewhere, place = tmp_path / "elsewhere", project.root / target
    elsewhere.mkdir()
    kept = elsewhere / "thesis"
    if place.is_dir():
        shutil.rmtree(place)
    if there == "link to a file":
        kept.write_text(WORK)
        (place / inner).parent.mkdir(parents=True, exist_ok=True)
        (place / inner).symlink_to(kept)
    elif there == "link to a folder":
        kept.write_text(WORK)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(elsewhere)
    else:
        kept = place / ("thesis" if there == "folder" else inner)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(WORK)
    with undrawn():
        code = command(arguments)
    said = "".join(capfd.readouterr())
    assert kept.read_text() == WORK, said
    assert [p.name for p in elsewhere.iterdir()] in (["thesis"], []), said
    assert "Traceback" not in said, said
    assert "A bug in" not in said, said
    assert code == 2 or (code == 0 and there == "folder"), said

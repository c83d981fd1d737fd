"""Files of ours that were tampered with at random, through the commands that read them.

Oracle: the exit code of the contract, no traceback, an end within a time; and where a command says that all
is well, what it says of the sound project: no number may come out of a file that was changed. Figures are
drawn empty: no file is read for them, and they take most of the time.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from starlette.testclient import TestClient

from gcsam_med.cli import run as command
from gcsam_med.errors import GcsamMedError
from gcsam_med.files import write_json
from gcsam_med.training import train
from gcsam_med.view.library import Library
from gcsam_med.view.rooms import routes
from gcsam_med.view.server import HOST, application
from tests.builders import make_prepared, picture
from tests.reliability.hostile.project import COMMANDS, Project, seal
from tests.reliability.kills import Trial

VALUES: tuple[Any, ...] = (
    None, True, "", "x" * 300, "../../x", "=1+1", "[/]", "²", -1, 0, 7, 2**70, 1e308, -0.5,
    [], {}, [[]], [1, "a"],
)  # fmt: skip
Outcome = dict[str, Any]


@contextmanager
def undrawn() -> Iterator[None]:
    """Save every figure as an empty one."""
    drawn, picture = Figure.savefig, io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "PNG")

    def savefig(self: Figure, file: Any, *, format: str = "png", **how: object) -> None:
        svg = '<svg viewBox="0 0 8 8"></svg>'
        file.write(svg if format == "svg" else picture.getvalue())

    Figure.savefig = savefig  # type: ignore[method-assign]
    try:
        yield
    finally:
        Figure.savefig = drawn  # type: ignore[method-assign]


def build(root: Path) -> Project:
    """A data set, two finished and evaluated runs, predictions, a study, a table and divisions; tiny."""
    torch.set_num_threads(1)
    project = Project(root)
    make_prepared(project.data, n=75, size=32)  # of 40 training images on, the model has references
    rng = np.random.default_rng(0)
    rows = ["image,label"]
    for number in range(16):
        label = ("benign", "malignant")[number % 2]
        path = project.source / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(label, 40, 48, rng)[0]).save(path)
        rows.append(f"source/{label}/{number}.png,{label}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    for number, folder in enumerate((project.run, project.other)):
        config = Trial("adam", 0.0, number).config(project.data)
        train(config.model_copy(update={"epochs": 1}), folder)
        _done(["evaluate", str(folder), "--device", "cpu", "--resamples", "100"])
    _done([*COMMANDS["predict"](project)[:3], "--output", str(project.run / "predictions" / "source")])
    _done(COMMANDS["predict"](project))
    _done(COMMANDS["prepare"](project))
    _done(COMMANDS["sharpness"](project))
    planned = (
        "--dataset toy --task segmentation --models tiny --optimizers adam,sgd --seeds 0 --epochs 1 "
        f"--device cpu --data-root {project.data}"
    )
    _done([*_study(project), *planned.split()])
    shutil.copy(project.data / "prepared" / "made" / "splits.json", root / "splits.json")
    seal(project)
    return project


def _study(p: Project) -> list[str]:
    return ["compare", "--output", str(p.root / "study"), "--resamples", "100"]


def view(project: Project) -> dict[str, str]:
    """The pages of the local server, 60 at most; empty text where one is refused.

    Raises
    ------
    RuntimeError
        If one shows a bug.
    """
    base = f"http://{HOST}:8000"
    pages: dict[str, str] = {}
    try:
        served = application(routes(Library(project.root / "runs", project.data)), 8000, "token")
    except GcsamMedError:
        return pages
    client = TestClient(served, base_url=base, raise_server_exceptions=False)
    client.get("/static/view.css", params={"token": "token"})
    waiting = ["/"]
    while waiting and len(pages) < 60:
        path = waiting.pop(0)
        answer = client.get(path)
        if answer.status_code >= 500:
            raise RuntimeError(f"{path}: {answer.text[-200:]}")
        pages[path] = answer.text if answer.status_code == 200 else ""
        for found in re.findall(r'(?:href|src|data-base)="(/[^"#]*)"', answer.text):
            link = found.replace("&amp;", "&")
            if link not in pages and link not in waiting:
                waiting.append(link)
    return pages


def _done(arguments: list[str]) -> None:
    assert command([*arguments, "-q"]) == 0, arguments


def _table(p: Project) -> list[str]:
    given = ["--dataset", "table", "--source", str(p.root / "table.csv"), "--name", "tab", "--size", "32"]
    return ["prepare", *given, "--workers", "0", "--data-root", str(p.data)]


def _divided(p: Project) -> list[str]:
    return [*COMMANDS["prepare"](p), "--name", "divided", "--splits", str(p.root / "splits.json")]


MORE: dict[str, Callable[[Project], list[str]]] = {
    "study": _study,
    "table": _table,
    "splits": _divided,
    "calibrate": lambda p: ["calibrate", str(p.run), "--device", "cpu"],
    "train": lambda p: [*COMMANDS["train"](p), "--quiet"],
    "runs": lambda p: ["runs"],
    "deep": lambda p: [*COMMANDS["evaluate"](p), "--deep-check"],
    "audit-made": lambda p: ["audit", "made", "--data-root", str(p.data)],
    "against": lambda p: ["audit", "made", "--against", "made", "--data-root", str(p.data)],
}

KINDS: dict[str, tuple[str, str]] = {
    # kind: the file, and the commands that read it
    "dataset.json": ("data/prepared/toy/dataset.json", "evaluate train doctor"),
    "dataset.json again": ("data/prepared/made/dataset.json", "prepare audit-made"),
    "manifest.csv": ("data/prepared/toy/manifest.csv", "evaluate train view"),
    "images.npy": ("data/prepared/toy/images.npy", "deep train"),
    "original mask": ("data/prepared/toy/original_masks/000000.png", "deep"),
    "audit.json": ("data/prepared/made/audit.json", "prepare audit-made"),
    "fingerprints.csv": ("data/prepared/made/fingerprints.csv", "against"),
    "identity.key": ("data/private/identity.key", "table"),
    "sources.json": ("data/prepared/made/sources.json", "prepare"),
    "config.yaml": ("runs/one/config.yaml", "evaluate predict compare export runs view"),
    "history.csv": ("runs/one/history.csv", "evaluate runs view"),
    "environment.json": ("runs/one/environment.json", "evaluate resume runs"),
    "checkpoint": ("runs/one/checkpoints/step-00000008.pt", "resume"),
    "checkpoints/index.json": ("runs/one/checkpoints/index.json", "resume"),
    "result.json": ("runs/one/result.json", "evaluate compare runs view"),
    "sharpness.json": ("runs/one/sharpness/sharpness.json", "evaluate compare"),
    "model.json": ("runs/one/model/model.json", "evaluate predict compare export calibrate sharpness"),
    "calibration.json": ("runs/one/model/calibration.json", "evaluate predict export"),
    "training_images.json": ("runs/one/model/training_images.json", "predict evaluate"),
    "weights": ("runs/one/model/weights.safetensors", "evaluate predict export"),
    "features": ("runs/one/model/training_features.safetensors", "predict evaluate"),
    "evaluations.jsonl": ("runs/one/evaluations.jsonl", "evaluate compare"),
    "metrics.json": ("runs/one/evaluation/test/metrics.json", "compare export runs view"),
    "cases.csv": ("runs/one/evaluation/test/cases.csv", "compare view"),
    "predictions.jsonl": ("out/predictions.jsonl", "predict"),
    "predictions.csv": ("runs/one/predictions/source/predictions.csv", "view"),
    "predictions.json": ("runs/one/predictions/source/predictions.json", "view"),
    "study.json": ("study/study.json", "study"),
    "splits": ("splits.json", "splits"),
    "table": ("table.csv", "table"),
    "protocol.json": ("protocol.json", "show seal"),
    "protocol.log": ("protocol.log", "show seal"),
    "fingerprints.csv of a part": ("data/prepared/far/fingerprints.csv", "merge"),
}
# What a person writes may be changed by a person: another content is another question, not a wrong answer.
INPUTS = {"splits", "table", "evaluations.jsonl"}


@dataclass(frozen=True)
class Finding:
    """What a command did that it must not do."""

    kind: str
    verb: str
    number: int  #: Seed of the tampering.
    how: str
    what: str


class Hang(BaseException):
    """Not an Exception, so that nothing takes it for a fault of the input."""


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang


def tamper(path: Path, rng: random.Random) -> str:
    """Change a file: a byte, a key, a value's type, or its length; say how."""
    data = path.read_bytes()
    ways = ["byte", "cut"]
    if path.suffix == ".json":
        ways += ["key", "type", "type", "type"]
    elif path.suffix == ".jsonl":
        ways += ["line", "line"]
    elif path.suffix == ".csv":
        ways += ["cell", "cell", "column"]
    way = rng.choice(ways)
    if way == "byte":
        place = rng.randrange(len(data))
        changed = bytes([data[place] ^ (1 << rng.randrange(8))])
        path.write_bytes(data[:place] + changed + data[place + 1 :])
    elif way == "cut":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif way in ("key", "type"):
        content = json.loads(data)
        spoil_json(content, way, rng)
        path.write_text(json.dumps(content))
    elif way == "line":
        lines = data.decode().splitlines()
        place = rng.randrange(len(lines))
        content = json.loads(lines[place])
        spoil_json(content, rng.choice(("key", "type")), rng)
        lines[place] = json.dumps(content)
        path.write_text("\n".join(lines) + "\n")
    else:
        rows = list(csv.reader(io.StringIO(data.decode())))
        column = rng.randrange(len(rows[0]))
        if way == "column":
            rows = [[cell for i, cell in enumerate(row) if i != column] for row in rows]
        else:
            rows[rng.randrange(len(rows))][column] = str(rng.choice(VALUES))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        path.write_text(text.getvalue())
    return way


def spoil_json(content: Any, way: str, rng: random.Random) -> None:
    """Remove or rename a key, or exchange a value, anywhere in a JSON value."""
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value))
        places += [(value, key) for key in keys]
        waiting += [value[key] for key in keys if isinstance(value[key], dict | list)]
    holder, key = rng.choice(places)
    if way == "type":
        holder[key] = rng.choice(VALUES)
    elif isinstance(holder, dict) and rng.random() < 0.5:
        holder[f"{key}x"] = holder.pop(key)
    else:
        del holder[key]


def outcome(project: Project, verb: str) -> Outcome:
    """The numbers that a command has given."""
    if verb in ("evaluate", "deep"):
        content = json.loads((project.run / "evaluation" / "test" / "metrics.json").read_text())
        return {key: content[key] for key in ("metrics", "n_cases", "operating_point", "dataset", "run")}
    if verb in ("compare", "study"):
        folder = project.root / ("compared" if verb == "compare" else "study")
        content = json.loads((folder / "comparison.json").read_text())
        return {key: content[key] for key in ("arms", "pairs")}
    if verb == "seal":
        found = project.root / "protocol-results" / "far" / "result.json"
        return {key: value for key, value in json.loads(found.read_text()).items() if key != "seal"}
    if verb == "predict":
        folder = project.root / "out"
        files = sorted((folder / "masks").glob("*.png"))
        return {p.name: p.read_bytes() for p in (*files, folder / "predictions.csv")}
    return {}


def attempt(sound: Project, place: Path, kind: str, verb: str, number: int) -> tuple[int, str, Outcome]:
    """Copy the project, tamper with one file (not if `number` is negative), run one command."""
    shutil.rmtree(place, ignore_errors=True)
    # Large files are never written in place, only replaced: a link is a copy.
    shutil.copytree(sound.root, place, copy_function=_copy)
    project = Project(place)
    for file in place.rglob("config.yaml"):
        when = file.stat().st_mtime_ns
        file.write_text(file.read_text().replace(str(sound.root), str(place)))
        os.utime(file, ns=(when, when))
    plan = place / "study" / "study.json"
    if plan.is_file():
        write_json(plan, json.loads(plan.read_text().replace(str(sound.root), str(place))), indent=1)
    path = place / KINDS[kind][0]
    shutil.copy2(path, path.with_name("copied"))
    path.with_name("copied").replace(path)
    when = path.stat().st_mtime_ns
    how = tamper(path, random.Random(f"{kind} {number}")) if number >= 0 else ""
    if KINDS[kind][0].startswith("runs/"):
        os.utime(path, ns=(when, when))  # pages list what is newest first: another order is no other answer
    os.chdir(place)
    if verb == "view":
        try:
            return 0, how, view(project)
        except RuntimeError as error:
            sys.stdout.write(f"A bug in {error}\n")
            return 1, how, {}
    arguments = (COMMANDS | MORE)[verb](project)
    code = command(arguments)
    return code, how, outcome(project, verb) if code == 0 else {}


def _copy(source: str, target: str) -> None:
    if source.endswith((".png", ".npy", ".pt", ".safetensors", ".svg", ".html")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _differing(verb: str, numbers: Outcome, whole: Outcome) -> list[str]:
    """What is another answer than without the change."""
    if verb != "view":
        return [key for key in whole.keys() | numbers.keys() if numbers.get(key) != whole.get(key)]
    # The server looks at one file at a time: what it may show otherwise is a page that is bound to its files.
    return [
        path
        for path, text in numbers.items()
        if path.startswith("/cases/") and text not in ("", whole.get(path, text))
    ]


def fuzz(
    sound: Project,
    place: Path,
    kind: str,
    numbers: Iterable[int],
    said: Callable[[], str],
    *,
    seconds: int = 300,
    verbs: int | None = None,
) -> list[Finding]:
    """Tamper with a kind of file, once a number, for the commands (or the first `verbs`) that read it.

    `said` gives what was printed since it was last asked.
    """
    found = []
    readers = KINDS[kind][1].split()[:verbs]
    whole = {verb: attempt(sound, place, kind, verb, -1) for verb in readers}
    said()
    assert all(code == 0 for code, _, _ in whole.values()), (kind, whole)
    for number in numbers:
        verb = readers[number % len(readers)]
        former = signal.signal(signal.SIGALRM, _hang)
        signal.alarm(seconds)
        how = ""
        try:
            code, how, given = attempt(sound, place, kind, verb, number)
        except Hang:
            code, given = -1, {}
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, former)
        text = said()
        if code == -1:
            found.append(Finding(kind, verb, number, how, "hangs"))
        elif code not in (0, 2, 3, 4) or "Traceback" in text or "A bug in" in text:
            found.append(Finding(kind, verb, number, how, f"code {code}: {text[-300:]}"))
        elif code == 0 and kind not in INPUTS and (differing := _differing(verb, given, whole[verb][2])):
            found.append(Finding(kind, verb, number, how, f"another answer: {differing[:3]}"))
    return found

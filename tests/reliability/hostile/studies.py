# ruff: noqa: E501
"""Protocols, plans, merged sets, studies and readers: their files and options, as a stranger may give them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from tests.reliability.hostile.project import (
    FORMULA,
    SCRIPT,
    TERMINAL,
    Case,
    Project,
    codes_for,
    link_at,
    option,
    pipe_at,
    sparse_at,
    text_at,
)
from tests.reliability.hostile.settings import BOMB


def _forged(change: Callable[[dict[str, Any]], object]) -> Callable[[Project], None]:
    """Change the protocol, its seal and its log, which names its hash: who makes them anew is believed."""

    def spoil(p: Project) -> None:
        from gcsam_med.compare.protocol import _append
        from gcsam_med.files import write_json

        content = json.loads(p.protocol.read_text())
        change(content)
        write_json(p.protocol, content)
        p.protocol.with_suffix(".log").unlink()
        sealed = json.loads(p.protocol.read_text())["seal"]
        try:
            _append(p.protocol, "frozen", {"protocol_sha256": sealed})
        except Exception:  # the log is written all the same
            text = json.dumps({"protocol_sha256": sealed})
            p.protocol.with_suffix(".log").write_text(text)

    return spoil


def _logged(event: str, what: dict[str, Any]) -> Callable[[Project], None]:
    """Add a line whose hash fits."""

    def spoil(p: Project) -> None:
        from gcsam_med.compare.protocol import _append

        _append(p.protocol, event, what)

    return spoil


def _lines(change: Callable[[list[str]], list[str]]) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        log = p.protocol.with_suffix(".log")
        log.write_text("\n".join(change(log.read_text().splitlines())))

    return spoil


def _study(text: str) -> Callable[[Project], list[str]]:
    def spoil(p: Project) -> list[str]:
        (p.root / "study.yaml").write_text(text)
        return ["--study", str(p.root / "study.yaml"), "--dry-run"]

    return spoil


def _manifest(p: Project, column: str, values: Callable[[int], str]) -> None:
    path = p.data / "prepared" / "far" / "manifest.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[column] = [values(i) for i in range(len(table))]
    table.to_csv(path, index=False)
    p.reseal("far")


def _column(column: str, values: Callable[[int], str]) -> Callable[[Project], None]:
    return lambda p: _manifest(p, column, values)


def _reader(values: Callable[[int], str], name: str = "rating") -> Callable[[Project], list[str]]:
    def spoil(p: Project) -> list[str]:
        _manifest(p, name, values)
        return ["--reader", name]

    return spoil


def studies() -> Iterator[tuple[str, Case]]:
    yield from _protocols()
    yield from _merged()
    yield from _compared()
    for name, values in {
        "of text": lambda i: f"word {i}",
        "of formulas": lambda i: FORMULA,
        "of scripts": lambda i: SCRIPT + str(i % 2),
        "of one value": lambda i: "3",
        "of NaN and infinity": lambda i: ("nan", "inf", "-inf")[i % 3],
        "of 10^300": lambda i: f"{i}e300",
        "that is empty": lambda i: "",
        "with a level a case": str,
    }.items():
        yield f"reader: a column {name}", Case(_reader(values), codes_for("reader", 0, 2))
    for name, value in {
        "case_id": "case_id",
        "the label": "label",
        "a path out": "../x",
        "nothing": "",
    }.items():
        yield f"reader: {name}", Case(option("--reader", value), codes_for("reader", 0, 2))
    for name, given in {
        "--margin nan": ["--margin", "nan"],
        "--margin 1e308": ["--margin", "1e308"],
        "--seeds 3-99999999": ["--seeds", "3-99999999"],
        "--resamples 10^12": ["--resamples", str(10**12)],
        "--arms of the same name": ["--arms", "adam,adam"],
        "a folder without a run": ["/etc"],
    }.items():
        yield f"plan: {name}", Case(lambda p, given=given: given, codes_for("plan", 2))
    yield "plan: all cases alike", Case(lambda p: None, codes_for("plan", 0, 2))
    for name, spoil in {
        "the source is a link to nothing": _gone,
        "the output is a link": lambda p: (p.root / "guided").symlink_to(p.root / "source"),
        "the output holds something else": text_at(lambda p: _made(p.root / "guided") / "thesis", "years"),
        "a configuration that is a bomb": lambda p: _config(p, BOMB),
        "dataset.json of a former run with a size of 10^9": lambda p: _former(p, 10**9),
        "dataset.json of a former run with a size of text": lambda p: _former(p, "x"),
    }.items():
        yield f"run: {name}", Case(spoil, codes_for("guided", 0, 2))


def _made(folder: Any) -> Any:
    folder.mkdir()
    return folder


def _gone(p: Project) -> list[str]:
    (p.root / "gone").symlink_to(p.root / "nowhere")
    return ["--source", str(p.root / "gone")]


def _config(p: Project, text: str) -> list[str]:
    (p.root / "evil.yaml").write_text(text)
    return ["--config", str(p.root / "evil.yaml")]


def _former(p: Project, size: object) -> None:
    folder = p.data / "prepared" / "folder"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps({"options": {"size": size}}))


def _exchanged(p: Project) -> None:
    other = p.root / "runs" / "r1" / "model" / "weights.safetensors"
    (p.root / "runs" / "r0" / "model" / "weights.safetensors").write_bytes(other.read_bytes())


def _protocols() -> Iterator[tuple[str, Case]]:
    there, log = (lambda p: p.protocol), (lambda p: p.protocol.with_suffix(".log"))
    for name, spoil in {
        "is a pipe": pipe_at(there),
        "claims 4 TiB": sparse_at(there),
        "is nested 100,000 deep": text_at(there, "[" * 100_000),
        "is a list": text_at(there, "[1]"),
        "is a link to /dev/zero": link_at(there, "/dev/zero"),
        "with another margin": lambda p: p.edit(there(p), lambda t: t.replace("0.05", "0.5")),
        "without its log": lambda p: log(p).unlink(),
        "whose log is a pipe": pipe_at(log),
        "whose log is a link out": link_at(log, "/etc/hostname"),
        "whose log claims 4 TiB": sparse_at(log),
        "whose log is no JSON": text_at(log, b"\xff\x00"),
        "whose log lost its first line": _lines(lambda lines: [*lines[1:], "{}"]),
        "whose log has a line twice": _lines(lambda lines: [*lines, *lines]),
        "with a run named as a path out": _forged(lambda c: c["runs"][0].update(name="../../escaped")),
        "with a result of text": _forged(lambda c: c["runs"][0].update(internal={"value": "x", "ci95": "y"})),
        "without a set": _forged(lambda c: c.update(external=[])),
        "with a set named as a path out": _forged(lambda c: c["external"][0].update(name="../../escaped")),
    }.items():
        yield f"protocol {name}", Case(spoil, codes_for("show seal", 2))
    for name, spoil in {
        "with a run that is a device": _forged(lambda c: c["runs"][0].update(path="/dev/zero")),
        "with a run in another folder": _forged(lambda c: c["runs"][0].update(path="/etc")),
        "with data in another folder": _forged(lambda c: c.update(data_root="/etc")),
        "with cases that are not there": _forged(lambda c: c["external"][0].update(kept=["x", "y"])),
        "without cases": _forged(lambda c: c["external"][0].update(kept=[])),
        "whose log has a look at nothing": _logged("look", {}),
        "whose log has a look at a list": _logged("look", {"external": ["far"]}),
        "whose results are a link": lambda p: (p.root / "protocol-results").symlink_to(p.root / "source"),
        "whose set was changed": lambda p: _manifest(p, "birads", lambda i: "9"),
        "whose weights were exchanged": _exchanged,
        "on device nonsense": option("--device", "nonsense"),
    }.items():
        yield f"protocol {name}", Case(spoil, codes_for("seal", 0, 2, 3, 4))
    for name, value in {
        "terminal's codes": TERMINAL,
        "a script": SCRIPT,
        "bytes": os.fsdecode(b"\xff"),
    }.items():
        yield f"protocol amended with {name}", Case(option("--amend", value), codes_for("seal", 0))
    for name, given in {
        "a set by path": ["--external", "../far"],
        "the set of training": ["--external", "home"],
        "a set twice": ["--external", "far,far"],
        "no set": ["--external", ","],
        "--margin nan": ["--margin", "nan"],
        "--margin 1e308": ["--margin", "1e308"],
        "--outcome dice": ["--outcome", "dice"],
        "--out in a device": ["--out", "/dev/null/p.json"],
        "--out .": ["--out", "."],
        "--out of nothing": ["--out", ""],
        "--out p.log": ["--out", "p.log"],
        "--out a folder": ["--out", "runs"],
    }.items():
        codes = (0, 2) if name == "a set twice" else (2, 3)
        yield f"protocol frozen with {name}", Case(lambda p, given=given: given, codes_for("freeze", *codes))


def _merged() -> Iterator[tuple[str, Case]]:
    far = lambda name: lambda p: p.data / "prepared" / "far" / name  # noqa: E731
    for name, given in {
        "one set twice": ["--merge", "home,home"],
        "a set by path": ["--merge", "home,../far"],
        "no set": ["--merge", ","],
        "a set that is not there": ["--merge", "home,nothing"],
        "--name .": ["--name", "."],
        "--name of a part": ["--name", "far"],
        "--name as a path out": ["--name", "../../escaped"],
        "--size": ["--size", "64"],
    }.items():
        yield f"merge: {name}", Case(lambda p, given=given: given, codes_for("merge", 2))
    for name, spoil in {
        "fingerprints are missing": lambda p: far("fingerprints.csv")(p).unlink(),
        "fingerprints of fewer cases": lambda p: p.edit(
            far("fingerprints.csv")(p), lambda t: "\n".join(t.splitlines()[:5]) + "\n"
        ),
        "fingerprints are a pipe": pipe_at(far("fingerprints.csv")),
        "thumbnails are cut": text_at(far("thumbs.npy"), b"\x93NUMPY"),
        "the audit is a list": text_at(far("audit.json"), "[1]"),
        "the audit has pairs of text": text_at(
            far("audit.json"),
            '{"schema": 1, "summary": {"hash_distance_searched": "x"}, "duplicates": "abc"}',
        ),
        "the audit is empty": text_at(far("audit.json"), "{}"),
        "pixels were changed": text_at(far("images.npy"), b"\x93NUMPY"),
        "a centre named as a path out": _column("centre", lambda i: "../../escaped"),
        "a mask is a link out": link_at(far("original_masks/000000.png"), "/dev/zero"),
    }.items():
        yield f"merge: {name}", Case(spoil, codes_for("merge", 2))
    for name, text in {
        "a formula": FORMULA.replace("/", ""),
        "a script": "<b onclick=x>",
        "a dot": ".x",
    }.items():
        yield (
            f"merge: a centre named as {name}",
            Case(_column("centre", lambda i, t=text: t), codes_for("merge", 0, 2)),
        )


def _compared() -> Iterator[tuple[str, Case]]:
    for name, given in {
        "--leave-out each of one centre": ["--leave-out", "each"],
        "--leave-out of a centre that is not there": ["--leave-out", "../x"],
        "--leave-out on val": ["--leave-out", "each", "--split", "val"],
        "--datasets of one, twice": ["--datasets", "toy,toy"],
        "--datasets by path": ["--datasets", "toy,../toy"],
        "--margin nan": ["--margin", "nan"],
        "--arm as a path out": ["--arm", "../x", "lr=1"],
        "--arm without a value": ["--arm", "a", "lr="],
        "--arm with NaN": ["--arm", "a", "lr=nan"],
        "--arm with a seed of its own": ["--arm", "a", "seed=1"],
        "--arm named as another": ["--arm", "adam", "lr=0.1"],
        "--tune nonsense": ["--tune", "nonsense"],
        "--seeds of 10^12": ["--seeds", f"0-{10**12}"],
        "--folds of 10^12": ["--folds", f"0-{10**12}"],
    }.items():
        # A setting without a value is the default.
        codes = (0, 2) if name == "--arm without a value" else (2,)
        yield f"study: {name}", Case(lambda p, given=given: given, codes_for("study", *codes))
    part = "parts: {a: {compare: {}, settings: {dataset: toy, model: unet}, train_images: 9, val_images: 9}}"
    for name, text in {
        "is a bomb": BOMB,
        "of tags": "!!python/object/apply:os.system ['touch canary']",
        "without parts": "parts: {}",
        "with a part named as a path out": part.replace("{a:", "{../../escaped:"),
        "with 10^400 images": part.replace("train_images: 9", "train_images: 1" + "0" * 400),
        "with a batch of 0": part.replace("model: unet", "model: unet, batch_size: 0"),
        "with an unknown setting": part.replace("model: unet", "nonsense: 1"),
        "with an unknown network": part.replace("model: unet", "model: nonsense"),
        "with 10^9 seeds": part.replace("compare: {}", "compare: {seeds: 0-999999999}"),
    }.items():
        yield f"study file {name}", Case(_study(text), codes_for("parts", 2))

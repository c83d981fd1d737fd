"""Runs and their evaluations, as a stranger may share them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

from tests.reliability.hostile.project import (
    ESCAPE,
    FORMULA,
    SCRIPT,
    Case,
    Project,
    codes_for,
    json_at,
    link_at,
    pipe_at,
    sparse_at,
    text_at,
)
from tests.reliability.hostile.settings import BOMB


def runs() -> Iterator[tuple[str, Case]]:
    config, card = (lambda p: p.run / "config.yaml"), (lambda p: p.run / "model" / "model.json")
    weights = lambda p: p.run / "model" / "weights.safetensors"  # noqa: E731
    calibration = lambda p: p.run / "model" / "calibration.json"  # noqa: E731
    reference = lambda p: p.run / "model" / "training_images.json"  # noqa: E731
    for name, spoil in {
        "run: config.yaml of tags": text_at(config, "!!python/object/apply:os.system ['touch canary']"),
        "run: config.yaml is a bomb": text_at(config, BOMB),
        "run: config.yaml of another data set by path": lambda p: p.edit(
            config(p), lambda t: t.replace("dataset: toy", f"dataset: {ESCAPE}")
        ),
    }.items():
        yield name, Case(spoil, codes_for("evaluate sharpness resume", 2))
    for name, spoil in {
        "run: model.json nested 100,000 deep": text_at(card, "[" * 100_000),
        "run: model.json is a pipe": pipe_at(card),
        "run: model.json claims 4 TiB": sparse_at(card),
        "run: model.json asks for a square of 10^9": json_at(card, size=10**9),
        "run: model.json with a later layout": json_at(card, schema=2),
        "run: weights are a pipe": pipe_at(weights),
        "run: weights claim 4 TiB": sparse_at(weights),
        "run: weights are a link to /dev/zero": link_at(weights, "/dev/zero"),
        "run: weights are a pickle": text_at(
            weights, b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch canary\x85R."
        ),
    }.items():
        yield name, Case(spoil, codes_for("evaluate predict sharpness export", 4))
    for name, path in {"calibration": calibration, "training images": reference}.items():
        for kind, text in {
            "of 100,000 levels": "[" * 100_000,
            "of NaN": '{"threshold": NaN}',
            "a list": "[1]",
        }.items():
            verbs = "evaluate predict export" if name == "calibration" else "predict"
            yield f"run: {name} {kind}", Case(text_at(path, text), codes_for(verbs, 4))
        yield f"run: {name} as a pipe", Case(pipe_at(path), codes_for("predict", 4))
    history, log = (lambda p: p.run / "history.csv"), (lambda p: p.run / "evaluations.jsonl")
    facts = lambda p: p.run / "environment.json"  # noqa: E731
    for name, spoil in {
        "run: history.csv of random bytes": text_at(history, bytes(range(256)) * 9),
        "run: history.csv with scripts": text_at(
            history, f"epoch,train_loss,{SCRIPT}\n1,{SCRIPT},{FORMULA}\n"
        ),
        "run: history.csv is a pipe": pipe_at(history),
        "run: evaluation log of nonsense": text_at(log, "[" * 100_000 + "\n{}\nnull\n1\n" + '{"time": {}}\n'),
        "run: evaluation log is a pipe": pipe_at(log),
        "run: environment.json of 100,000 levels": text_at(facts, "[" * 100_000),
        "run: environment.json with scripts": text_at(
            facts, json.dumps({"gcsam_med": SCRIPT, "device": FORMULA})
        ),
        "run: environment.json is a pipe": pipe_at(facts),
    }.items():
        yield name, Case(spoil, codes_for("evaluate", 0, 2, 3) | codes_for("resume", 0, 2))
    yield "run: a figure's folder is a link out", Case(_evaluation_link, codes_for("evaluate", 0, 2, 3))
    yield "run: compare with cases.csv of scripts", Case(_scripts_in_cases, codes_for("compare", 0, 2))
    figures = lambda p: p.run / "evaluation" / "test" / "metrics.json"  # noqa: E731
    cases = lambda p: p.run / "evaluation" / "test" / "cases.csv"  # noqa: E731
    result = lambda p: p.run / "result.json"  # noqa: E731
    for name, spoil in {
        "metrics.json nested deep": text_at(figures, "[" * 100_000),
        "metrics.json is a list": text_at(figures, "[1]"),
        "metrics.json is a pipe": pipe_at(figures),
        "metrics.json claims 4 TiB": sparse_at(figures),
        "metrics.json without metrics": json_at(figures, metrics={}, run={}),
        "metrics.json with metrics that are text": json_at(figures, metrics={"dice": {"value": SCRIPT}}),
        "metrics.json of another task": json_at(figures, task="classification"),
        "metrics.json of other data": json_at(figures, dataset="other"),
        "cases.csv of random bytes": text_at(cases, bytes(range(256)) * 9),
        "cases.csv is a pipe": pipe_at(cases),
        "cases.csv of one line": text_at(cases, "case_id,group_id,label,dice\n"),
        "cases.csv with a Dice of 10^9": text_at(cases, "case_id,group_id,label,dice\na,a,benign,1e9\n"),
        "cases.csv with one case twice": text_at(
            cases, "case_id,group_id,label,dice\na,a,benign,0.5\na,a,benign,0.5\n"
        ),
        "result.json of text": json_at(result, epochs=SCRIPT),
        "result.json is empty": text_at(result, ""),
    }.items():
        yield f"compare: {name}", Case(spoil, codes_for("compare", 2))


def _evaluation_link(p: Project) -> None:
    shutil.rmtree(p.run / "evaluation", ignore_errors=True)
    (p.run / "evaluation").symlink_to("/proc")


def _scripts_in_cases(p: Project) -> None:
    path = p.run / "evaluation" / "test" / "cases.csv"
    if path.is_file():
        p.edit(path, lambda t: t.replace("benign", SCRIPT.replace('"', '""')))

"""Settings files and options."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.reliability.hostile.project import ESCAPE, TERMINAL, Case, Project, codes_for, config_of, option

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(10)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join(['*' + chr(97 + i)] * 9)}]}}\n" for i in range(10)
)


def settings() -> Iterator[tuple[str, Case]]:
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
        codes = codes_for("train", 2)
        arguments = config_of(text)
        yield f"--config: {name}", Case(arguments, codes)
    yield "--config is a pipe", Case(_config_pipe, codes_for("train", 2))
    yield "--config is a folder", Case(lambda p: ["--config", str(p.root)], codes_for("train", 2))
    yield "--set without a value", Case(option("--set", "lr"), codes_for("train", 2))
    yield (
        "--set of YAML tags",
        Case(option("--set", "lr=!!python/object/apply:os.system ['touch canary']"), codes_for("train", 2)),
    )
    yield "--set nested 50,000 deep", Case(option("--set", "lr=" + "[" * 50_000), codes_for("train", 2))
    yield "--weights /dev/zero", Case(lambda p: ["--weights", "/dev/zero"], codes_for("train", 2))
    yield (
        "--output below a file",
        Case(
            lambda p: ["--output", str(p.toy / "dataset.json" / "x.png")],
            codes_for("train evaluate compare preview export", 2, 3),
        ),
    )
    yield (
        "--output that is a file",
        Case(
            lambda p: ["--output", str(p.toy / "dataset.json")],
            codes_for("train evaluate compare preview export", 2, 3),
        ),
    )
    for name, text in {"a path": ESCAPE, "a terminal's codes": TERMINAL, "nothing": ""}.items():
        yield f"--format of {name}", Case(option("--format", text), codes_for("export", 2))


def _config_pipe(p: Project) -> list[str]:
    os.mkfifo(p.root / "pipe.yaml")
    return ["--config", str(p.root / "pipe.yaml")]

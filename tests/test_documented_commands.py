"""Every command that README, docs and configs show is one that the program takes.

Oracle: the command line's own parser, the models of options, the tables of names, and the files themselves.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from gcsam_med.cli import app
from gcsam_med.config import EvaluateOptions, PredictOptions, PrepareOptions, RunConfig, load_config
from gcsam_med.datasets import DATASETS
from gcsam_med.datasets.busbra import TEST_FOLD
from gcsam_med.fields import validated
from gcsam_med.networks.table import NETWORKS
from gcsam_med.optim import OPTIMIZERS

ROOT = Path(__file__).resolve().parents[1]
# `make docs` writes the reference of the commands, with placeholders, into a folder of its own.
WRITTEN = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "generated"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def _commands() -> Iterator[tuple[str, str]]:
    """Where a command stands, and its line, of blocks of code and of the heads of configurations."""
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = re.search(r"(?:^|[$;|&(] *|srun |python -m |exec )(gcsam[-_]med [a-z].*)", line)
                if words:
                    yield page.name, words[1]
    for file in CONFIGS:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("#") and "gcsam-med " in line:
                yield file.name, line[line.index("gcsam-med ") :]


MODELS = {
    "prepare": PrepareOptions,
    "train": RunConfig,
    "evaluate": EvaluateOptions,
    "predict": PredictOptions,
}
COMMANDS = list(dict.fromkeys(_commands()))


def _words(line: str) -> list[str]:
    """The arguments, without what a shell does with them and what stands for something."""
    words = shlex.split(line.replace("&&", ";"), comments=True)[1:]
    ends = [
        i for i, word in enumerate(words) if word in ("|", "&", ";", ">", "2>", "...") or word.endswith(";")
    ]
    return [word.rstrip(";") for word in words[: ends[0] if ends else None]]


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) > 80
    assert {"README.md", "own-data.md", "paper.md", "quick-laptop.yaml"} <= {where for where, _ in COMMANDS}


@pytest.mark.parametrize(("where", "line"), COMMANDS, ids=lambda text: text[:60])
def test_the_program_takes_what_the_pages_show(where: str, line: str) -> None:
    """The parser takes it, its names are known, and its configuration and settings hold."""
    words = _words(line)
    group = typer.main.get_command(app)
    if not words or words[0].startswith("-"):
        return
    command = group.get_command(None, words[0])
    values = command.make_context(words[0], words[1:]).params
    if words[0] == "prepare":
        assert values["merge"] or values["dataset"] in DATASETS or "NAME" in values["dataset"]
        source = values.get("source")
        given = [bool(source), bool(values.get("download")), bool(values.get("demo"))]
        assert values["merge"] or sum(given) == 1, "where are the images?"
    config = values.get("config")
    if config is not None and config.parts[0] == "configs":
        assert (ROOT / config).is_file()
        fold, told = values.get("fold"), load_config(ROOT / config, {})
        if told.dataset == "busbra" and fold is not None:
            assert int(fold) < TEST_FOLD - 1
    for pair in values.get("sets") or ():
        key = pair.partition("=")[0]
        assert key in RunConfig.model_fields, f"no setting '{key}'"
        validated(RunConfig, {"dataset": "x", key: pair.partition("=")[2]})
    if (model := MODELS.get(words[0])) is not None:
        known = {"dataset": "x"} if model is RunConfig else {}
        given = {name: v for name, v in values.items() if name in model.model_fields and v is not None}
        validated(model, known | {name: v for name, v in given.items() if v is not False})
    if values.get("optimizer"):
        assert values["optimizer"] in OPTIMIZERS
    if values.get("model") and words[0] == "train":
        assert values["model"] in NETWORKS


def test_settings_are_looked_at() -> None:
    """The parameter that holds --set has the name that the test above looks for."""
    command = typer.main.get_command(app).get_command(None, "train")
    names = {parameter.name for parameter in command.params if "--set" in parameter.opts}
    assert names == {"sets"}

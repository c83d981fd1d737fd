"""`list`: every name of the three tables, on the terminal and as JSON."""

from __future__ import annotations

import json

import pytest

from gcsam_med.cli import run
from gcsam_med.datasets import DATASETS
from gcsam_med.networks import NETWORKS
from gcsam_med.optim import OPTIMIZERS

TABLES = {"datasets": DATASETS, "models": NETWORKS, "optimizers": OPTIMIZERS}


@pytest.mark.parametrize("what", TABLES)
def test_table_names_every_entry(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", what]) == 0
    first_words = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(TABLES[what]) <= first_words


@pytest.mark.parametrize("what", TABLES)
def test_json_is_one_document_with_every_entry_in_order(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", what, "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    entries = json.loads(captured.out)[what]
    assert list(entries) == list(TABLES[what])
    assert captured.err == ""


def test_unknown_list_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "optimisers"]) == 2
    assert "Did you mean 'optimizers'?" in capsys.readouterr().err

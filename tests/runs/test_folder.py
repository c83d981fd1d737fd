"""Where the files of a run are, and folders that are none."""

from __future__ import annotations

import pytest

from gcsam_med.errors import InputError
from gcsam_med.runs import RunFolder
from tests.builders import make_prepared, make_run


def test_the_files_are_where_the_contract_says(tmp_path):
    """Oracle: the names that other tools check."""
    run = RunFolder(tmp_path / "x")
    relative = {
        "config.yaml": run.config_file,
        "history.csv": run.history_file,
        "environment.json": run.environment_file,
        "log.txt": run.log_file,
        "checkpoints": run.checkpoints,
        "model": run.model,
        "evaluation/test": run.evaluation("test"),
    }
    assert {name: path.relative_to(run.root).as_posix() for name, path in relative.items()} == {
        name: name for name in relative
    }
    own = [run.curves_file, run.evaluation_log_file]
    assert all(path.parent == run.root for path in own)


def test_a_run_is_opened_with_its_configuration(tmp_path):
    root = make_run(tmp_path, make_prepared(tmp_path, n=30), seed=5)
    assert RunFolder.open(root).config().seed == 5


def test_what_is_no_run_is_refused_with_what_to_do(tmp_path):
    """Oracle: the three ways a folder can fail to be a run that is ready."""
    with pytest.raises(InputError, match="There is no run folder") as caught:
        RunFolder.open(tmp_path / "none")
    assert "gcsam-med train" in caught.value.advice
    with pytest.raises(InputError, match=r"has no config\.yaml"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.yaml").write_text("dataset: busi\n")
    with pytest.raises(InputError, match="no trained model yet") as caught:
        RunFolder.open(tmp_path)
    assert "--resume" in caught.value.advice

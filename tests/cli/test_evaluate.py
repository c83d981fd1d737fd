import json

import pytest

from gcsam_med.cli import run
from tests.builders import copied_run

ARGUMENTS = ["--resamples", "100", "--device", "cpu"]


def test_a_table_the_report_s_path_and_the_files(tmp_path, capsys):
    """Oracle: the contract: results to stdout, progress to stderr, the folder of the split."""
    folder = copied_run(tmp_path, "binary")
    assert run(["evaluate", str(folder), *ARGUMENTS]) == 0
    out, err = capsys.readouterr()
    assert "AUC" in out
    assert "95 % interval" in out
    assert str(folder / "evaluation" / "test" / "report.html") in out
    assert "Synthetic images" in err
    names = {p.name for p in (folder / "evaluation" / "test").iterdir()}
    assert names == {"report.html", "metrics.json", "cases.csv", "figures", "tables"}


def test_json_prints_metrics_json_and_nothing_else(tmp_path, capsys):
    """Oracle: stdout is the file's content, its seal and the hash of cases.csv too."""
    folder = copied_run(tmp_path, "segmentation")
    assert run(["evaluate", str(folder), "--json", "--output", str(tmp_path / "o"), *ARGUMENTS]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert {"seal", "cases_sha256"} <= written.keys()
    assert printed == {**written, "created": printed["created"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no run folder nowhere"),
        (["{run}", "--split", "tset"], "Unknown value of --split 'tset'"),
        (["{run}", "--dataset", "nothing"], "No prepared data set 'nothing'"),
    ],
)
def test_a_user_s_mistake_is_exit_2_and_said_in_two_lines(tmp_path, capsys, arguments, message):
    """Oracle: the contract's exit codes."""
    folder = copied_run(tmp_path, "binary")
    assert run(["evaluate", *(a.format(run=folder) for a in arguments)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2


def test_a_damaged_model_is_exit_4(tmp_path, capsys):
    """Oracle: the contract's exit codes."""
    folder = copied_run(tmp_path, "binary")
    weights = folder / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run(["evaluate", str(folder)]) == 4
    assert "not the file that was saved" in capsys.readouterr().err

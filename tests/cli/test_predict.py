import json

import numpy as np
import pytest
from PIL import Image

from gcsam_med.cli import run
from tests.builders import copied_run, picture, trained_runs


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    Image.fromarray(picture("benign", 50, 60, np.random.default_rng(0))[0]).save(path)
    return path


def test_one_image(image, tmp_path, capsys):
    """Oracle: exit 0, the mask's path by its name, and a word on the threshold."""
    out = tmp_path / "out"
    assert run(["predict", str(trained_runs()["segmentation"]), str(image), "--output", str(out)]) == 0
    assert (out / "masks" / "a.png").is_file()
    assert (out / "overlays" / "a.png").is_file()
    assert "1 images predicted, 0 skipped" in capsys.readouterr().out


def test_bad_files_are_named_counted_and_exit_2(image, tmp_path, capsys):
    """Oracle: the contract; the good file is predicted all the same."""
    (image.parent / "bad.png").write_text("x")
    runs = trained_runs()
    arguments = [
        "predict",
        str(runs["segmentation"]),
        str(image.parent),
        "-o",
        str(tmp_path / "out"),
        "--json",
    ]
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert (content["predicted"], content["failed"]) == (1, 1)
    assert "bad.png" in err


def test_several_runs_and_flips(image, tmp_path, capsys):
    """Oracle: an ensemble writes how far its members differ."""
    run_folder = str(trained_runs()["binary"])
    arguments = ["predict", run_folder, run_folder, str(image), "-o", str(tmp_path / "out"), "--tta", "flip"]
    assert run(arguments) == 0
    assert "disagreement" in (tmp_path / "out" / "predictions.csv").read_text().splitlines()[0]
    capsys.readouterr()


def test_a_run_is_named_or_the_newest_and_has_a_place_for_predictions(image, tmp_path, capsys, monkeypatch):
    """Oracle: the files below the run, whether it is named, or left out as the newest finished one."""
    monkeypatch.chdir(tmp_path)
    run_folder = copied_run(tmp_path, "binary")
    assert run(["predict", run_folder.name, str(image)]) == 0
    table = run_folder / "predictions" / "a" / "predictions.csv"
    assert table.is_file()
    table.unlink()
    assert run(["predict", str(image), "--overwrite"]) == 0
    assert table.is_file()
    assert "the newest finished one" in capsys.readouterr().err
    assert run(["predict", "binari", str(image)]) == 2
    assert "Did you mean binary?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "--output", "o"], "nothing to predict"),
        (["{run}", "nowhere.png", "--output", "o"], "There is no file"),
        (["{image}", "{image}", "--output", "o"], "no finished run under runs/"),
        (["{run}", "{image}", "--output", "o", "--tta", "rotate"], "Unknown value of --tta 'rotate'"),
        (
            ["{run}", "{image}", "--output", "o", "--frames", "last"],
            "--frames: should be",
        ),
    ],
)
def test_mistakes_are_exit_2(image, tmp_path, capsys, monkeypatch, arguments, message):
    """Oracle: the contract's exit codes, and the message."""
    monkeypatch.chdir(tmp_path)
    filled = [a.format(run=trained_runs()["segmentation"], image=image) for a in arguments]
    assert run(["predict", *filled]) == 2
    assert message in capsys.readouterr().err

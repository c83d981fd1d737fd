"""What is written of a run for people and for tracking servers."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import pytest

from gcsam_med.errors import MissingExtra
from gcsam_med.training import train
from gcsam_med.training.state import draw_curves, write_history
from tests.builders import make_prepared
from tests.training.test_loop import Recorder, settings


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_the_history(tmp_path: Path) -> None:
    """Oracle: the values the run told its callback, read back by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_prepared(tmp_path, n=36, size=32)
    recorder = Recorder()
    train(settings(tmp_path, tensorboard=True), tmp_path / "run", recorder)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    found = [(e.step, e.value) for e in events.Scalars("val_dice")]
    assert found == [(e.row["epoch"], pytest.approx(e.row["val_dice"])) for e in recorder.epochs]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_holds_settings_and_history_but_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the values the run told its callback, read back by MLflow's own client."""
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    make_prepared(tmp_path, n=36, size=32)
    recorder = Recorder()
    train(settings(tmp_path, mlflow=True), tmp_path / "run", recorder)
    mlflow.end_run()
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    assert run.data.params["optimizer"] == "gcsam"
    assert "data_root" not in run.data.params
    assert run.data.metrics["val_dice"] == pytest.approx(recorder.epochs[-1].row["val_dice"])


@pytest.mark.parametrize(
    ("setting", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")]
)
def test_a_missing_tracker_names_the_extra(
    setting: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    make_prepared(tmp_path, n=36, size=32)
    with pytest.raises(MissingExtra, match="tracking"):
        train(settings(tmp_path, **{setting: True}), tmp_path / "run")


def test_history_and_curves(tmp_path: Path) -> None:
    rows = [{"epoch": i, "train_loss": 1 / i, "val_loss": 1.1 / i, "val_dice": 1 - 1 / i} for i in (1, 2, 3)]
    write_history(tmp_path / "h.csv", rows)
    draw_curves(tmp_path / "c.png", rows, "dice")
    lines = (tmp_path / "h.csv").read_text().splitlines()
    assert lines[:2] == ["epoch,train_loss,val_loss,val_dice", "1,1,1.1,0"]
    assert (tmp_path / "c.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_users_matplotlibrc_changes_no_figure(tmp_path):
    """LaTeX for all text ends a run on a machine without it. Oracle: the same bytes as without."""
    rows = [{"epoch": 1, "train_loss": 0.9, "val_loss": 0.8, "val_dice": 0.1}]
    draw_curves(tmp_path / "plain.png", rows, "dice")
    with matplotlib.rc_context({"text.usetex": True, "font.size": 30, "savefig.bbox": "tight"}):
        draw_curves(tmp_path / "theirs.png", rows, "dice")
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "plain.png").read_bytes()

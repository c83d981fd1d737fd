"""What only a GPU can show of a run: captured steps that resume exactly, and a loop that never waits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.errors import EnvironmentFault, Interrupted
from gcsam_med.training import resume, train
from gcsam_med.training.batches import Batches
from gcsam_med.training.build import build_parts
from gcsam_med.training.plan import make_plan
from gcsam_med.training.steps import Steps
from tests.builders import make_prepared
from tests.optim.test_cuda import no_waiting
from tests.training.test_loop import Recorder, assert_same_bits, settings, weights
from tests.training.test_resume import StopAfter

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


CLASSIFYING = {"model": "resnet18", "task": "classification"}


@pytest.fixture(autouse=True)
def _look_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcsam_med.training.loop._PROGRESS_SECONDS", -1.0)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_prepared(root, n=60, size=64)
    return root


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "adam"}, {"optimizer": "looksam"}, {"capture": False}, CLASSIFYING],
    ids=["gcsam", "adam", "looksam", "eager", "resnet18"],
)
def test_a_stopped_run_goes_on_with_the_same_bits(
    changes: dict[str, object],
    data_root: Path,
    tmp_path: Path,
) -> None:
    """Oracle: the run that was not stopped, with dropout in both passes."""
    config = settings(data_root, device="cuda", dropout=0.3, epochs=2, batch_size=5, **changes)
    noted = Recorder()
    train(config, tmp_path / "whole", noted)
    assert not noted.notes
    with pytest.raises(Interrupted):
        train(config, tmp_path / "stopped", StopAfter(3))
    resume(tmp_path / "stopped")
    assert_same_bits(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


@pytest.mark.parametrize(
    "changes", [{}, {"model": "resnet18", "task": "classification"}, {"optimizer": "adam"}]
)
def test_captured_equals_eager_to_rounding(
    changes: dict[str, object], data_root: Path, tmp_path: Path
) -> None:
    """Oracle: the same run without graphs, in float32; by SGD, since Adam enlarges rounding."""
    common = {"base": "sgd", "lr": 0.01, "precision": "fp32", "epochs": 1}
    config = settings(data_root, device="cuda", **common, **changes)
    train(config, tmp_path / "graph")
    train(config.model_copy(update={"capture": False}), tmp_path / "eager")
    one, other = weights(tmp_path / "graph"), weights(tmp_path / "eager")
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("resident", [True, False])
def test_a_step_of_a_run_does_not_wait_for_the_device(
    resident: bool, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: torch, which raises on a call that waits, over reading, augmentation and steps."""
    if not resident:
        monkeypatch.setattr("gcsam_med.training.batches.RESIDENT_SHARE", 0.0)
    config = settings(data_root, device="cuda", precision="bf16", batch_size=6, epochs=9)
    plan = make_plan(config, PreparedDataset(data_root / "prepared" / "toy"))
    parts = build_parts(plan)
    parts.network.train()
    batches = Batches(plan, device=parts.device)
    assert (batches.cases.resident is not None) == resident
    steps, stream = Steps(plan.config, parts, pytest.fail), batches.stream(0, 6 * batches.steps_per_epoch)
    for step in range(2 * batches.steps_per_epoch):
        steps(next(stream), step)
    with no_waiting():
        losses = [steps(next(stream), 99).loss for _ in range(2 * batches.steps_per_epoch)]
    stream.close()
    assert all(bool(loss.isfinite()) for loss in losses)


def test_out_of_memory_is_answered_with_advice(data_root: Path, tmp_path: Path) -> None:
    """The message names a smaller batch; a checkpoint of before is unharmed and goes on."""
    config = settings(data_root, device="cuda", epochs=2, batch_size=6)
    with pytest.raises(Interrupted):
        train(config.model_copy(update={"checkpoint_steps": 1}), tmp_path / "run", StopAfter(6))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 24 * 2**20) / total)
    try:
        with pytest.raises(EnvironmentFault, match="Out of memory") as found:
            train(settings(data_root, device="cuda", epochs=1, batch_size=36), tmp_path / "large")
        assert "--batch-size 18" in str(found.value.advice)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    resume(tmp_path / "run")
    train(config, tmp_path / "whole")
    assert_same_bits(weights(tmp_path / "whole"), weights(tmp_path / "run"))

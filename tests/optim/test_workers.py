"""Two workers under DistributedDataParallel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gcsam_med.optim import build, training_step
from tests.optim import oracle

pytestmark = pytest.mark.filterwarnings("ignore:This process .*multi-threaded:DeprecationWarning")

STEPS = 3
RHO, LR = 0.2, 0.05


def _worker(rank: int, folder: str, name: str, fault_step: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        network = oracle.network()
        model = DistributedDataParallel(network)
        optimizer, sharpness = build(name, network.parameters(), rho=RHO, base="sgd", base_options={"lr": LR})
        skipped = []
        for step, (x, y) in enumerate(oracle.batches(STEPS)):
            mine = (x[rank::2], y[rank::2])
            micro = list(zip(mine[0].split(2), mine[1].split(2), strict=True))
            seen: list[int] = []

            def loss_of(batch: tuple[Tensor, Tensor], step: int = step, seen: list[int] = seen) -> Tensor:
                seen.append(1)
                loss = oracle.loss_of(model, batch) * (len(batch[0]) / 3)
                fault = step == fault_step and rank == 1 and len(seen) == 1
                return loss * float("inf") if fault else loss

            skipped.append(training_step(model, optimizer, sharpness, micro, loss_of).skipped)
        state = {"weights": [p.detach() for p in network.parameters()], "skipped": skipped}
        torch.save(state, Path(folder) / f"{rank}.pt")
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
    # The result is on disk. Gloo's threads now and then abort a process that is torn down in good order.
    os._exit(0)


def _run(folder: Path, name: str, fault_step: int = -1) -> list[dict]:
    # By fork: torch is imported already.
    mp.start_processes(_worker, (str(folder), name, fault_step), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _expected(name: str) -> list[Tensor]:
    """Each worker ascends by its own gradient (m-sharpness); GSAM by the mean, which joins the descent."""
    model = oracle.network()
    data = oracle.batches(STEPS)
    halves = [oracle.gradient_of(model, [(x[r::2], y[r::2]) for x, y in data]) for r in range(2)]
    weights = [p.detach().clone() for p in model.parameters()]
    optimizer = oracle.Base("sgd", LR)
    for step in range(STEPS):
        own = [half(weights, step) for half in halves]
        mean = [(a + b) / 2 for a, b in zip(*own, strict=True)]
        ascends = own if name == "gcsam" else [mean, mean]
        method = "gcsam" if name == "gcsam" else "sam"
        worst = [
            half(oracle.axpy(1.0, oracle.epsilon(method, weights, g, RHO), weights), step)
            for half, g in zip(halves, ascends, strict=True)
        ]
        descent = [(a + b) / 2 for a, b in zip(*worst, strict=True)]
        if name == "gsam":
            share = oracle.dot(mean, descent) / oracle.dot(descent, descent)
            descent = oracle.axpy(-0.4, oracle.axpy(-share, descent, mean), descent)
        weights = optimizer.step(weights, descent)
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gcsam", "gsam"])
def test_two_workers_follow_the_equations_and_stay_identical(name: str, tmp_path: Path) -> None:
    """Oracle: the equations of m-sharpness in one process; accumulation over uneven micro-batches."""
    first, second = _run(tmp_path, name)
    torch.testing.assert_close(first["weights"], _expected(name), rtol=1e-10, atol=1e-10)
    assert all(torch.equal(a, b) for a, b in zip(first["weights"], second["weights"], strict=True))


@pytest.mark.slow
def test_a_fault_of_one_worker_is_skipped_by_both(tmp_path: Path) -> None:
    """Oracle: replicas that are finite and identical, and skip the same step."""
    first, second = _run(tmp_path, "gcsam", fault_step=1)
    assert first["skipped"] == second["skipped"] == [False, True, False]
    assert all(torch.equal(a, b) for a, b in zip(first["weights"], second["weights"], strict=True))
    assert all(bool(w.isfinite().all()) for w in first["weights"])


def test_the_oracle_tells_local_from_shared_ascents() -> None:
    """Oracle: m-sharpness is not the ascent by the mean gradient, else the first test could not fail."""
    model = oracle.network()
    assert isinstance(model, nn.Module)
    difference = [a - b for a, b in zip(_expected("gcsam"), _expected("sam"), strict=True)]
    assert float(oracle.norm(difference)) > 1e-6

"""What only a GPU can show: a step that never waits for the device, and an ascent in a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from gcsam_med.optim import OPTIMIZERS, Sharpness, build, training_step
from gcsam_med.optim.capture import CapturedSteps, CaptureError, host_must_not_wait
from tests.optim.test_ascent import bits
from tests.optim.test_step import Faulty, data, small_net

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.synchronize()
    with host_must_not_wait():
        yield


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_does_not_wait_for_the_device(name: str, scaled: bool) -> None:
    """Oracle: torch, which raises on a call that waits."""
    model = small_net().cuda()
    optimizer, sharpness = build(name, model.parameters(), base_options={"lr": 0.01, "fused": True})
    scaler = torch.amp.GradScaler("cuda", init_scale=256.0) if scaled else None
    x, y = (part.cuda() for part in data())

    def step() -> Tensor:
        loss_of = lambda batch: nn.functional.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
        return training_step(model, optimizer, sharpness, [(x, y)], loss_of, scaler=scaler, max_norm=1.0).loss

    for _ in range(6):
        step()  # allocates, and chooses algorithms
    with no_waiting():
        losses = [step() for _ in range(6)]
    assert all(bool(loss.isfinite()) for loss in losses)


@pytest.mark.parametrize("bad_pass", [0, 1])
@pytest.mark.parametrize("base", ["adam", "adamw", "sgd"])
def test_a_fault_is_skipped_on_the_device(base: str, bad_pass: int) -> None:
    """Oracle: the bytes of weights, optimizer state and buffers before the bad step."""
    model = small_net().cuda()
    faulty = Faulty(float("nan"), set())
    full = nn.Sequential(model, faulty)
    optimizer, sharpness = build(
        "gcsam", model.parameters(), base=base, base_options={"lr": 0.01, "fused": True}
    )
    batch = tuple(part.cuda() for part in data())
    loss_of = lambda b: nn.functional.cross_entropy(full(b[0]), b[1])  # noqa: E731
    assert not training_step(full, optimizer, sharpness, [batch], loss_of).skipped
    before = [t.cpu() for t in [*model.parameters(), *model.buffers()]]
    faulty.calls = {faulty.count + bad_pass}
    assert training_step(full, optimizer, sharpness, [batch], loss_of).skipped
    assert bits([t.cpu() for t in [*model.parameters(), *model.buffers()]]) == bits(before)
    assert not training_step(full, optimizer, sharpness, [batch], loss_of).skipped
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("centralize", ["none", "ascent"])
def test_an_ascent_and_its_way_back_are_captured(centralize: str) -> None:
    """Oracle: the eager ascent along another gradient, copied into the same place; the bytes before."""
    weights = [torch.randn(s, device="cuda", requires_grad=True) for s in [(64, 32, 3, 3), (64,), (10, 64)]]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    sharpness = Sharpness(weights, 0.05, centralize=centralize)
    with sharpness.perturbed():
        pass  # allocates
    top = [torch.empty_like(w) for w in weights]
    before = bits([w.cpu() for w in weights])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), sharpness.perturbed():
        for out, weight in zip(top, weights, strict=True):
            out.copy_(weight.detach())
    for weight in weights:
        weight.grad.copy_(torch.randn_like(weight))
    graph.replay()
    assert bits([w.cpu() for w in weights]) == before
    with sharpness.perturbed():
        torch.testing.assert_close(top, [w.detach() for w in weights])


# --- Captured steps


class Pair(NamedTuple):
    images: Tensor
    targets: Tensor
    share: float


def captured_and_eager(
    name: str, steps: int, *, capture: bool, count: int = 8, dropout: float = 0.3, **options: Any
) -> tuple[list[Tensor], list[float], nn.Module]:
    """Weights and losses after `steps` steps, whose batches differ in size and values."""
    torch.manual_seed(0)
    model = small_net(dropout).cuda()
    optimizer, sharpness = build(
        name, model.parameters(), base_options={"lr": 0.01, "fused": True}, **options
    )
    loss_of = lambda batch: nn.functional.cross_entropy(model(batch.images), batch.targets)  # noqa: E731
    take = CapturedSteps(model, optimizer, sharpness, loss_of, max_norm=1.0)
    losses = []
    for step in range(steps):
        x, y = (part.cuda() for part in data(count + step % 2, seed=step))
        for group in optimizer.param_groups:
            group["lr"] = 0.01 / (step + 1)
        if sharpness is not None:
            sharpness.rho_factor = 1 / (step + 1)
        if capture:
            result = take(Pair(x, y, 1.0), step)
        else:
            torch.manual_seed(step)
            result = training_step(model, optimizer, sharpness, [Pair(x, y, 1.0)], loss_of, max_norm=1.0)
        losses.append(float(result.loss))
        assert not result.skipped
    return [t.detach().cpu() for t in [*model.parameters(), *model.buffers()]], losses, model


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_steps_are_the_eager_ones(name: str) -> None:
    """Oracle: `training_step` without a graph, with dropout, two batch sizes, and rates that change."""
    options = {"every": 2} if name in ("gcsam", "looksam") else {}
    eager, expected, _ = captured_and_eager(name, 9, capture=False, **options)
    replayed, losses, _ = captured_and_eager(name, 9, capture=True, **options)
    assert losses == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(replayed, eager, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["adam", "gcsam", "looksam"])
def test_captured_steps_are_bit_equal_in_two_runs(name: str) -> None:
    """Oracle: the same steps once more."""
    first, losses, _ = captured_and_eager(name, 7, capture=True)
    second, again, _ = captured_and_eager(name, 7, capture=True)
    assert bits(first) == bits(second)
    assert losses == again


@pytest.mark.parametrize("bad_pass", [0, 1])
def test_a_fault_in_a_captured_step_is_skipped(bad_pass: int) -> None:
    """Oracle: the bytes before; the fault is NaN in the images, or in the second pass's gradient."""
    model = small_net().cuda()
    optimizer, sharpness = build("gcsam", model.parameters(), base_options={"lr": 0.01, "fused": True})
    fault = torch.zeros((), device="cuda")
    calls = []

    def loss_of(batch: Pair) -> Tensor:
        calls.append(0)
        loss = nn.functional.cross_entropy(model(batch.images), batch.targets)
        return loss + (fault if len(calls) % 2 == bad_pass else 0.0) * loss

    take = CapturedSteps(model, optimizer, sharpness, loss_of)
    x, y = (part.cuda() for part in data())
    assert not take(Pair(x, y, 1.0), 0).skipped
    before = bits([t.cpu() for t in [*model.parameters(), *model.buffers()]])
    fault.fill_(float("nan"))
    assert take(Pair(x, y, 1.0), 1).skipped
    assert bits([t.cpu() for t in [*model.parameters(), *model.buffers()]]) == before
    fault.fill_(0.0)
    assert not take(Pair(x, y, 1.0), 2).skipped


@pytest.mark.parametrize("name", ["adam", "gcsam"])
def test_a_replay_does_not_wait_for_the_device(name: str) -> None:
    """Oracle: torch, which raises on a call that waits."""
    model = small_net().cuda()
    optimizer, sharpness = build(name, model.parameters(), base_options={"lr": 0.01, "fused": True})
    loss_of = lambda batch: nn.functional.cross_entropy(model(batch.images), batch.targets)  # noqa: E731
    take = CapturedSteps(model, optimizer, sharpness, loss_of, max_norm=1.0)
    x, y = (part.cuda() for part in data())
    take(Pair(x, y, 1.0), 0)
    with no_waiting():
        losses = [take(Pair(x, y, 1.0), step).loss for step in range(1, 5)]
    assert all(bool(loss.isfinite()) for loss in losses)


def test_what_cannot_be_captured_is_refused_unharmed() -> None:
    """Oracle: the bytes before; and the same step without a graph, which works."""
    model = small_net().cuda()
    optimizer, sharpness = build("gcsam", model.parameters(), base_options={"lr": 0.01, "fused": True})

    def loss_of(batch: Pair) -> Tensor:
        loss = nn.functional.cross_entropy(model(batch.images), batch.targets)
        return loss if loss.item() > 0 else 2 * loss

    before = bits([t.cpu() for t in [*model.parameters(), *model.buffers()]])
    batch = Pair(*(part.cuda() for part in data()), 1.0)
    with pytest.raises(CaptureError):
        CapturedSteps(model, optimizer, sharpness, loss_of)(batch, 0)
    assert bits([t.cpu() for t in [*model.parameters(), *model.buffers()]]) == before
    assert sharpness.steps == 0
    assert not training_step(model, optimizer, sharpness, [batch], loss_of).skipped

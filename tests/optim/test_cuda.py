"""What only a GPU can show: a step that never waits for the device, and an ascent in a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from gcsam_med.optim import OPTIMIZERS, Sharpness, build, training_step
from tests.optim.test_ascent import bits
from tests.optim.test_step import Faulty, data, small_net

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


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

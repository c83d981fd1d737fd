"""SAM and GCSAM as drop-in classes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gcsam_med.optim import GCSAM, SAM
from tests.optim import oracle
from tests.optim.test_ascent import bits

Data = tuple[Tensor, Tensor]


def two_steps(model: nn.Module, optimizer: SAM, batch: Data) -> None:
    oracle.loss_of(model, batch).backward()
    optimizer.first_step(zero_grad=True)
    oracle.loss_of(model, batch).backward()
    optimizer.second_step(zero_grad=True)


def closure_after_a_first_pass(model: nn.Module, optimizer: SAM, batch: Data) -> None:
    def closure() -> Tensor:
        loss = oracle.loss_of(model, batch)
        loss.backward()
        return loss

    closure()
    optimizer.step(closure)
    optimizer.zero_grad()


def closure_for_both_passes(model: nn.Module, optimizer: SAM, batch: Data) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = oracle.loss_of(model, batch)
        loss.backward()
        return loss

    before = oracle.loss_of(model, batch)
    assert optimizer.step(closure) == before


def context(model: nn.Module, optimizer: SAM, batch: Data) -> None:
    oracle.loss_of(model, batch).backward()
    with optimizer.sharpness.perturbed():
        optimizer.zero_grad()
        oracle.loss_of(model, batch).backward()
    optimizer.sharpness.finish_gradients()
    optimizer.base_optimizer.step()
    optimizer.zero_grad()


WAYS = [two_steps, closure_after_a_first_pass, closure_for_both_passes, context]
KINDS: list[tuple[str, type[SAM], dict[str, Any]]] = [
    ("sam", SAM, {}),
    ("asam", SAM, {"adaptive": True}),
    ("gcsam", GCSAM, {}),
    ("gcsam_raw", GCSAM, {"norm": "raw"}),
    ("gcsam_both", GCSAM, {"centralize": "both"}),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("method", "kind", "options"), KINDS)
def test_every_way_of_calling_follows_the_equations(
    way: Any, method: str, kind: type[SAM], options: dict[str, Any]
) -> None:
    """Oracle: the papers' equations, literally, in float64."""
    data = oracle.batches(6)
    model = oracle.network()
    start = [p.detach().clone() for p in model.parameters()]
    expected = oracle.run(method, "adam", start, oracle.gradient_of(model, data), 6, rho=0.1, lr=0.02)
    optimizer = kind(model.parameters(), torch.optim.Adam, rho=0.1, lr=0.02, **options)
    for batch, weights in zip(data, expected, strict=True):
        way(model, optimizer, batch)
        torch.testing.assert_close([p.detach() for p in model.parameters()], weights, rtol=1e-10, atol=1e-10)


def test_closure_clears_gradients_so_that_the_next_step_starts_afresh() -> None:
    """Oracle: None."""
    model, batch = oracle.network(), oracle.batches(1)[0]
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1)
    closure_for_both_passes(model, optimizer, batch)
    assert all(p.grad is None for p in model.parameters())


def test_closure_that_fails_leaves_weights_and_refuses_to_step() -> None:
    """Oracle: the bytes of the weights, and an error on a step without an ascent."""
    model, batch = oracle.network(), oracle.batches(1)[0]
    optimizer = GCSAM(model.parameters(), torch.optim.Adam, rho=0.5)
    before = bits(list(model.parameters()))
    oracle.loss_of(model, batch).backward()

    def closure() -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        optimizer.step(closure)
    assert bits(list(model.parameters())) == before
    with pytest.raises(RuntimeError, match="closure"):
        optimizer.step()


@pytest.mark.parametrize("bad_pass", [0, 1])
@pytest.mark.parametrize("fault", [float("inf"), float("nan")])
def test_a_fault_in_either_pass_is_skipped_and_counted(bad_pass: int, fault: float) -> None:
    """Oracle: the bytes of the weights before; the step after it moves them."""
    model, batch = oracle.network(), oracle.batches(1)[0]
    optimizer = GCSAM(model.parameters(), torch.optim.Adam, lr=0.1)
    before = bits(list(model.parameters()))
    for number in (0, 1):
        oracle.loss_of(model, batch).backward()
        if number == bad_pass:
            model[0].weight.grad[0, 0, 0, 0] = fault
        (optimizer.first_step if number == 0 else optimizer.second_step)(zero_grad=True)
    assert bits(list(model.parameters())) == before
    assert optimizer.skipped == 1
    two_steps(model, optimizer, batch)
    assert optimizer.skipped == 1
    assert bits(list(model.parameters())) != before
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_scheduler_and_added_groups_reach_the_base_optimizer() -> None:
    """Oracle: one list of groups; the rate set by a scheduler; no warning about the order of calls."""
    model, batch = oracle.network(), oracle.batches(1)[0]
    parameters = list(model.parameters())
    optimizer = SAM(parameters[:2], torch.optim.SGD, rho=0.1, lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    before = bits(parameters)
    two_steps(model, optimizer, batch)
    scheduler.step()
    assert bits(parameters)[2:] == before[2:]
    optimizer.add_param_group({"params": parameters[2:], "lr": 0.3})
    two_steps(model, optimizer, batch)
    scheduler.step()
    assert bits(parameters)[4] != before[4]
    assert [g["lr"] for g in optimizer.base_optimizer.param_groups] == pytest.approx([0.025, 0.15])
    assert [(g["rho"], g["momentum"]) for g in optimizer.param_groups] == [(0.1, 0.9)] * 2
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.param_groups[0]["lr"] = 7.0
    assert optimizer.base_optimizer.param_groups[0]["lr"] == 7.0


@pytest.mark.parametrize("overflow", [None, 0, 1])
def test_gradient_scaler_with_the_two_steps(overflow: int | None) -> None:
    """Oracle: the same steps without a scaler; the bytes before, when one pass overflows."""
    batch = oracle.batches(1)[0]
    results = []
    for scaler in (torch.amp.GradScaler("cpu", init_scale=1024.0), None):
        model = oracle.network()
        before = bits(list(model.parameters()))
        optimizer = GCSAM(model.parameters(), torch.optim.Adam, lr=0.1)
        scale = scaler.scale if scaler else lambda loss: loss
        for number in (0, 1):
            scale(oracle.loss_of(model, batch)).backward()
            if scaler and number == overflow:
                model[4].bias.grad[0] = float("inf")
            if number == 0:
                optimizer.first_step(zero_grad=True)
        optimizer.restore()
        if scaler:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        if scaler:
            scaler.step(optimizer)
            scaler.update()
            assert scaler.get_scale() == (1024.0 if overflow is None else 512.0)
        else:
            optimizer.step()
        results.append(bits(list(model.parameters())))
    assert results[0] == (results[1] if overflow is None else before)


def test_state_of_a_plain_base_optimizer_is_told_apart() -> None:
    """Oracle: the error names what is missing."""
    model = oracle.network()
    plain = torch.optim.Adam(model.parameters())
    optimizer = SAM(model.parameters(), torch.optim.Adam)
    with pytest.raises(KeyError, match="sharpness"):
        optimizer.load_state_dict(plain.state_dict())

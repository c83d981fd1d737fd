"""Interrupted and resumed: nothing is lost between two steps."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from gcsam_med.optim import BASES, GCSAM, OPTIMIZERS, SAM, build, training_step
from tests.optim import oracle

STEPS = 20


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _flat(state: Any) -> list[Any]:
    """All numbers in a nested state, tensors as bytes."""
    if isinstance(state, Tensor):
        return [state.dtype, state.shape, state.contiguous().flatten().view(torch.uint8).numpy().tobytes()]
    if isinstance(state, dict):
        return [item for key in state for item in (key, *_flat(state[key]))]
    if isinstance(state, list | tuple):
        return [item for value in state for item in _flat(value)]
    return [state]


class Run:
    """A network in training, whose whole state can be saved."""

    def __init__(self, name: str, base: str) -> None:
        self.model = oracle.network()
        options = {"every": 3} if name in ("looksam", "gcsam") else {}
        self.optimizer, self.sharpness = build(
            name, self.model.parameters(), base=base, base_options={"lr": 0.02}, **options
        )

    def step(self, batch: tuple[Tensor, Tensor]) -> None:
        training_step(
            self.model, self.optimizer, self.sharpness, [batch], lambda b: oracle.loss_of(self.model, b)
        )

    def save(self) -> dict[str, Any]:
        ascent = None if self.sharpness is None else self.sharpness.state_dict()
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "ascent": ascent}
        return _through_a_file(state)

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.sharpness is not None:
            self.sharpness.load_state_dict(state["ascent"])


@pytest.mark.parametrize(
    ("name", "base"), [(n, b) for n in OPTIMIZERS for b in BASES if n not in BASES or n == b]
)
def test_resuming_at_any_step_gives_the_same_bits(name: str, base: str) -> None:
    """Oracle: the uninterrupted run.

    From every saved step a fresh run takes one step, and must arrive with all of its state at the next saved
    step: by induction at every later one.
    """
    data = oracle.batches(STEPS)
    whole = Run(name, base)
    states = [whole.save()]
    for batch in data:
        whole.step(batch)
        states.append(whole.save())
    for number, batch in enumerate(data):
        resumed = Run(name, base)
        resumed.load(states[number])
        resumed.step(batch)
        assert _flat(resumed.save()) == _flat(states[number + 1])


@pytest.mark.parametrize("kind", [SAM, GCSAM])
@pytest.mark.parametrize("base", BASES)
def test_drop_in_resumes_at_any_step(kind: Any, base: str) -> None:
    """Oracle: the uninterrupted run; the base optimizer's moments are in the state."""
    data = oracle.batches(6)

    def begin() -> tuple[torch.nn.Module, SAM]:
        model = oracle.network()
        options = {"momentum": 0.9} if base == "sgd" else {}
        return model, kind(model.parameters(), BASES[base], rho=0.1, lr=0.02, **options)

    def step(model: torch.nn.Module, optimizer: SAM, batch: tuple[Tensor, Tensor]) -> None:
        oracle.loss_of(model, batch).backward()
        optimizer.first_step(zero_grad=True)
        oracle.loss_of(model, batch).backward()
        optimizer.second_step(zero_grad=True)

    model, optimizer = begin()
    states = [_through_a_file({"model": model.state_dict(), "optimizer": optimizer.state_dict()})]
    for batch in data:
        step(model, optimizer, batch)
        states.append(_through_a_file({"model": model.state_dict(), "optimizer": optimizer.state_dict()}))
    for number, batch in enumerate(data):
        model, optimizer = begin()
        model.load_state_dict(states[number]["model"])
        optimizer.load_state_dict(states[number]["optimizer"])
        step(model, optimizer, batch)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        assert _flat(_through_a_file(state)) == _flat(states[number + 1])

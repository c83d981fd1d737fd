"""What the ascent allocates, counted by torch's own memory hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gcsam_med.optim import GSAM, LookSAM, Sharpness
from gcsam_med.optim.walk import CPU_SHARE

SHAPES = [(256, 256, 3, 3), (256,), (1000, 512), (64, 3, 7, 7), (512, 512)]


def _network() -> list[Tensor]:
    weights = [torch.randn(shape, requires_grad=True) for shape in SHAPES]
    for w in weights:
        w.grad = torch.randn_like(w)
    return weights


def _allocations(sharpness: Sharpness) -> list[int]:
    """Sizes in bytes of all that an ascent and its way back allocate on the CPU."""
    with torch.profiler.profile(profile_memory=True) as profile, sharpness.perturbed():
        pass
    events = profile.profiler.kineto_results.events()
    return [event.nbytes() for event in events if event.name() == "[memory]" and event.nbytes() > 0]


@pytest.mark.parametrize(
    "options",
    [{}, {"centralize": "ascent"}, {"centralize": "ascent", "norm": "raw"}, {"adaptive": True, "eta": 0.01}],
)
def test_one_copy_of_the_weights_once_and_then_nothing(options: dict[str, Any]) -> None:
    """Oracle: every allocation the profiler sees: one copy and a little scratch; then crumbs."""
    weights = _network()
    copy = sum(w.numel() * w.element_size() for w in weights)
    sharpness = Sharpness(weights, 0.05, **options)
    scratch = (2 if "adaptive" in options else 1) * copy / CPU_SHARE + copy / 100
    assert copy <= sum(_allocations(sharpness)) <= copy + scratch
    again = _allocations(sharpness)
    assert max(again) <= 1 << 15
    assert sum(again) <= copy / 100


@pytest.mark.parametrize("kind", [LookSAM, GSAM])
def test_methods_that_keep_a_gradient_take_a_second_copy_once(kind: type[Sharpness]) -> None:
    """Oracle: every allocation, as the profiler sees it; two copies, as the table of methods says."""
    weights = _network()
    copy = sum(w.numel() * w.element_size() for w in weights)
    sharpness = kind(weights, 0.05, every=1)
    assert 2 * copy <= sum(_allocations(sharpness)) <= copy * (2 + 1 / CPU_SHARE + 1 / 100)
    sharpness.finish_gradients()
    assert sum(_allocations(sharpness)) <= copy / 100

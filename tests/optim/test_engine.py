"""The engine under an ascent: every layout and type, exact norms, bounded memory, no look by the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcsam_med.optim import GSAM, LookSAM, Sharpness
from gcsam_med.optim import sharpness as module
from gcsam_med.optim.ascent import squares
from tests.optim.test_ascent import bits

SHAPES = st.lists(
    st.one_of(
        st.just(()),
        st.tuples(st.integers(1, 400)),
        st.tuples(st.integers(1, 60), st.integers(1, 300)),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(SHAPES, st.integers(0, 1000), st.booleans(), st.booleans(), st.sampled_from([1, 500, 1 << 20]))
def test_every_element_moves_by_the_equation_and_comes_back(
    shapes: list[tuple[int, ...]], seed: int, adaptive: bool, raw: bool, bucket: int
) -> None:
    """Oracle: the equation parameter by parameter, for odd layouts of weights and gradients, two groups and
    buckets of any size; the bytes before."""
    generator = torch.Generator().manual_seed(seed)
    weights = []
    for number, shape in enumerate(shapes):
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        if weight.ndim == 4 and number % 2:
            weight = weight.to(memory_format=torch.channels_last)
        if weight.ndim == 2 and number % 3 == 2:
            weight = weight.t().contiguous().t()
        if weight.ndim and number % 3 == 1:
            gradient = gradient.movedim(0, -1).contiguous().movedim(-1, 0)
        weight.requires_grad_()
        weight.grad = gradient
        weights.append(weight)
    groups = [{"params": weights[::2], "rho": 0.3}, {"params": weights[1::2], "rho": 0.2}]
    rhos = [0.3 if n % 2 == 0 else 0.2 for n in range(len(weights))]
    sizes = [w.detach().abs() + 0.5 if adaptive else torch.ones_like(w) for w in weights]
    rows = [
        g.mean(tuple(range(1, g.ndim)), keepdim=True) if g.ndim > 1 else 0 for g in (w.grad for w in weights)
    ]
    centred = [w.grad - mean for w, mean in zip(weights, rows, strict=True)]
    measured = [w.grad for w in weights] if raw else centred
    length = sum(float((t * g).square().sum()) for t, g in zip(sizes, measured, strict=True)) ** 0.5
    before, values = bits(weights), [w.detach().clone() for w in weights]
    sharpness = Sharpness(
        groups if len(weights) > 1 else groups[:1],
        centralize="ascent",
        norm="raw" if raw else "centralized",
        adaptive=adaptive,
        eta=0.5,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CPU_BUCKET", bucket)
        with sharpness.perturbed():
            for w, value, rho, t, g in zip(weights, values, rhos, sizes, centred, strict=True):
                move = rho / length * t * t * g if length else torch.zeros_like(g)
                torch.testing.assert_close(w.detach(), value + move, rtol=1e-9, atol=1e-9)
    assert bits(weights) == before


@pytest.mark.parametrize("make", [torch.randn, torch.rand, torch.ones, lambda n: torch.randn(n) ** 3])
@pytest.mark.parametrize("length", [1, 255, 1000, 300_007])
def test_squared_lengths(make: Any, length: int) -> None:
    """Oracle: float64; the sum of a constant is where float32 loses most."""
    torch.manual_seed(0)
    vector = 0.3 * make(length)
    (found,) = squares([vector])
    assert float(found) == pytest.approx(float(vector.double().square().sum()), rel=1e-6)


@pytest.mark.parametrize("mean", [0.5, 1.5, 1e4])
def test_norm_survives_a_large_mean(mean: float) -> None:
    """Oracle: float64. The difference |g|^2 - n mean^2 in float32 would lose every digit of the last one."""
    torch.manual_seed(0)
    g = torch.randn(64, 500) + mean
    weights = torch.zeros_like(g).requires_grad_()
    weights.grad = g
    sharpness = Sharpness([weights], 0.05, centralize="ascent")
    with sharpness.perturbed():
        assert float(weights.detach().double().norm()) == pytest.approx(0.05, rel=1e-6)
    exact = g.double() - g.double().mean(1, keepdim=True)
    assert float(sharpness.norm) == pytest.approx(float(exact.norm()), rel=1e-6)


OPTIONS = [
    {},
    {"centralize": "ascent"},
    {"centralize": "ascent", "norm": "raw"},
    {"adaptive": True, "eta": 0.01},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS)
def test_nothing_is_read_by_the_host(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Oracle: meta tensors take the way of an accelerator and raise if the host asks for a number."""
    shapes = [(64, 32, 3, 3), (64,), (64, 64)] * 4
    weights = [torch.empty(shape, device="meta", dtype=dtype, requires_grad=True) for shape in shapes]
    for weight in weights:
        weight.grad = torch.empty_like(weight)
    for kind in (Sharpness, GSAM, LookSAM):
        sharpness = kind(weights, 0.05, **options)
        for _ in range(2):
            with sharpness.perturbed():
                pass
            sharpness.finish_gradients()


def _allocations(sharpness: Sharpness) -> tuple[int, int]:
    """Bytes that an ascent and its way back leave allocated on the CPU, and the largest piece."""
    with torch.profiler.profile(profile_memory=True) as profile, sharpness.perturbed():
        pass
    events = [e.nbytes() for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return sum(events), max(events)


@pytest.mark.parametrize(
    ("kind", "options", "copies"), [(Sharpness, o, 1) for o in OPTIONS] + [(GSAM, {}, 2), (LookSAM, {}, 2)]
)
def test_copies_of_the_weights_are_made_once(kind: Any, options: dict[str, Any], copies: int) -> None:
    """Oracle: every allocation the profiler sees: one copy, two where a gradient is kept; then room for one
    parameter or bucket at a time, given back."""
    weights = [
        torch.randn(s, requires_grad=True) for s in [(256, 256, 3, 3), (256,), (1000, 512), (512, 512)]
    ]
    for w in weights:
        w.grad = torch.randn_like(w)
    copy = sum(w.numel() * w.element_size() for w in weights)
    sharpness = kind(weights, 0.05, **options)
    assert _allocations(sharpness)[0] == pytest.approx(copies * copy, rel=0.01)
    sharpness.finish_gradients()
    sharpness.steps = 0
    kept, largest = _allocations(sharpness)
    assert kept <= copy / 100
    assert largest <= max(w.numel() * w.element_size() for w in weights)

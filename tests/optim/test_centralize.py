"""Gradient centralization as a projection."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gcsam_med.optim import Sharpness, centralize, is_centralized


@st.composite
def gradients(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(1, 5), min_size=0, max_size=5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = 10.0 ** draw(st.integers(-6, 6))
    offset = draw(st.sampled_from([0.0, 1.0, 1e3]))
    return scale * (torch.randn(shape, generator=generator, dtype=torch.float64) + offset)


@settings(deadline=None)
@given(gradients())
def test_centring_is_a_projection_that_never_lengthens(g: Tensor) -> None:
    """Oracle: what defines an orthogonal projection: idempotent, no longer, and the rest is orthogonal."""
    once = centralize(g)
    size = float(g.abs().max()) if g.numel() else 0.0
    torch.testing.assert_close(centralize(once), once, rtol=0, atol=1e-12 * size)
    assert float(once.norm()) <= float(g.norm()) * (1 + 1e-12)
    assert abs(float((once * (g - once)).sum())) <= 1e-10 * size**2 * max(1, g.numel())


@settings(deadline=None)
@given(gradients())
def test_rows_lose_their_mean(g: Tensor) -> None:
    """Oracle: the mean of each row, taken with Python's sum."""
    result = centralize(g)
    if g.ndim < 2:
        assert result is g
        return
    for row, out in zip(g, result, strict=True):
        mean = sum(row.flatten().tolist()) / row.numel()
        torch.testing.assert_close(out, row - mean, rtol=1e-9, atol=1e-12 * float(g.abs().max()))


def test_conv_only_spares_matrices() -> None:
    """Oracle: the rule of the authors' code, more than three dimensions."""
    shapes = [(3,), (3, 4), (1, 5, 4), (3, 2, 3, 3), (3, 2, 3, 3, 3)]
    assert [is_centralized(torch.empty(s)) for s in shapes] == [False, True, True, True, True]
    assert [is_centralized(torch.empty(s), conv_only=True) for s in shapes] == [
        False,
        False,
        False,
        True,
        True,
    ]


@settings(deadline=None)
@given(gradients(), st.sampled_from([0.01, 0.05, 1.0]))
def test_a_gradient_centred_already_gives_sam(g: Tensor, rho: float) -> None:
    """Oracle: the ascent of SAM along the same gradient."""
    moved = []
    for how in ("none", "ascent"):
        weights = torch.zeros_like(g).requires_grad_()
        weights.grad = centralize(g)
        sharpness = Sharpness([weights], rho, centralize=how)
        if not g.numel():
            return
        with sharpness.perturbed():
            moved.append(weights.detach().clone())
    if float(centralize(g).norm()) > 1e-9 * float(g.norm()):  # else nothing but rounding is left
        torch.testing.assert_close(moved[0], moved[1], rtol=1e-6, atol=1e-6 * rho)

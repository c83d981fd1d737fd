"""Sharpness against an explicit Hessian on a small network, and the trust-region solution on quadratics."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gcsam_med.metrics.hessian import (
    Objective,
    filter_direction,
    hessian_spectrum,
    hessian_trace,
    loss_landscape,
    worst_loss,
)


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(27, 2)
    ).to(dtype)


def sample(dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    x, y = torch.randn(10, 1, 5, 5).to(dtype), torch.randint(0, 2, (10,))
    return [(x[:7], y[:7]), (x[7:], y[7:])]


def cross_entropy(net: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(net(batch[0]), batch[1], reduction="sum") / 10


def explicit_hessian(model: nn.Module) -> Tensor:
    """Column by column, by torch.autograd.functional, over all samples at once."""
    model = copy.deepcopy(model).eval()
    shapes = {name: p.shape for name, p in model.named_parameters()}
    x, y = (torch.cat(parts) for parts in zip(*sample(), strict=True))

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([s.numel() for s in shapes.values()])
        named = {n: part.view(s) for (n, s), part in zip(shapes.items(), parts, strict=True)}
        return nn.functional.cross_entropy(functional_call(model, named, (x,)), y)

    return torch.autograd.functional.hessian(loss, nn.utils.parameters_to_vector(model.parameters()).detach())


class Quadratic(nn.Module):
    """Half w H w + g w."""

    def __init__(self, curvature: Tensor, slope: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(len(slope), dtype=torch.float64))
        self.curvature, self.slope = curvature, slope

    def forward(self) -> Tensor:
        return 0.5 * self.w @ self.curvature @ self.w + self.slope @ self.w


def quadratic(eigenvalues: list[float], slope: float, seed: int = 0) -> Objective:
    generator = torch.Generator().manual_seed(seed)
    n = len(eigenvalues)
    turn = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    curvature = turn @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ turn.T
    direction = torch.randn(n, generator=generator, dtype=torch.float64)
    return Objective(Quadratic(curvature, slope * direction / direction.norm()), lambda net, _: net(), [None])


def test_products_are_those_of_the_explicit_hessian() -> None:
    """Oracle: torch.autograd.functional.hessian, and torch.autograd.grad for the gradient."""
    model = network()
    objective = Objective(model, cross_entropy, sample())
    hessian = explicit_hessian(model)
    vectors = torch.randn(5, len(hessian), dtype=torch.float64)
    for v in vectors:
        torch.testing.assert_close(objective.hessian_times(v), hessian @ v, rtol=1e-9, atol=1e-12)
    step = 1e-6 * vectors[0]
    slope = objective.gradient(objective.weights)[1]
    central = (objective.loss(objective.weights + step) - objective.loss(objective.weights - step)) / 2
    assert float(slope @ step) == pytest.approx(central, rel=1e-6)


def test_the_model_is_left_as_it_was() -> None:
    """Oracle: its state and modes before, running statistics and gradients among them."""
    model = network()
    model[3].eval()
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    objective = Objective(model, cross_entropy, sample())
    hessian_spectrum(objective, steps=3)
    worst_loss(objective, 0.1, steps=3)
    loss_landscape(objective, filter_direction(objective, 0), points=3)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_eigenvalues_and_their_errors() -> None:
    """Oracle: torch.linalg.eigvalsh of the explicit Hessian; errors bound the true distance."""
    model = network()
    exact = torch.linalg.eigvalsh(explicit_hessian(model))
    found = hessian_spectrum(Objective(model, cross_entropy, sample()), 3, steps=60, tolerance=1e-8)
    assert found.largest == pytest.approx(exact.flip(0)[:3].tolist(), rel=1e-6)
    rough = hessian_spectrum(Objective(model, cross_entropy, sample()), 1, steps=6, tolerance=0.0)
    assert rough.products == 6
    for value, error in [(rough.largest[0], rough.largest_errors[0]), (rough.smallest, rough.smallest_error)]:
        assert float((exact - value).abs().min()) <= error * (1 + 1e-9) + 1e-12


def test_float32_keeps_no_false_copies_of_an_eigenvalue() -> None:
    """Oracle: the explicit Hessian in float64; plain Lanczos in float32 would find the largest one twice."""
    exact = torch.linalg.eigvalsh(explicit_hessian(network()))
    objective = Objective(network(torch.float32), cross_entropy, sample(torch.float32))
    found = hessian_spectrum(objective, 4, steps=60, tolerance=1e-6)
    np.testing.assert_allclose(found.largest, exact.flip(0)[:4], rtol=2e-3, atol=1e-5)


def test_repeated_and_negative_eigenvalues() -> None:
    """Oracle: the eigenvalues that the quadratic was made of."""
    found = hessian_spectrum(quadratic([-3.0, 1.0, 1.0, 1.0, 5.0], 1.0), 2)
    assert found.largest == pytest.approx((5.0, 1.0))
    assert found.smallest == pytest.approx(-3.0)
    assert found.products <= 4
    flat = hessian_spectrum(quadratic([2.0], 1.0), 3)
    assert flat.largest == pytest.approx((2.0,))


def test_trace_within_its_standard_error() -> None:
    """Oracle: the trace of the explicit Hessian; a diagonal Hessian has no variance at all."""
    model = network()
    exact = float(torch.trace(explicit_hessian(model)))
    found = hessian_trace(Objective(model, cross_entropy, sample()), 200)
    assert abs(found.value - exact) < 4 * found.standard_error
    assert found.standard_error < 0.1 * abs(exact)
    plain = Objective(
        Quadratic(torch.diag(torch.arange(4.0).double()), torch.ones(4).double()), lambda net, _: net(), [0]
    )
    found = hessian_trace(plain, 5)
    assert found.value == pytest.approx(6.0)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="two samples"):
        hessian_trace(plain, 1)


@pytest.mark.parametrize("slope", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("rho", [0.05, 1.0])
def test_worst_loss_on_a_convex_quadratic(slope: float, rho: float) -> None:
    """Oracle: the exact maximum on the sphere, (mu - H) eps = g with |eps| = rho, mu found by bisection."""
    objective = quadratic([0.1, 0.5, 2.0, 7.0], slope)
    model = objective._model
    assert isinstance(model, Quadratic)
    h, g = model.curvature.numpy(), model.slope.numpy()
    low = np.linalg.eigvalsh(h)[-1]
    high = low + np.linalg.norm(g) / rho
    for _ in range(200):
        mu = (low + high) / 2
        eps = np.linalg.solve(mu * np.eye(4) - h, g)
        low, high = (mu, high) if np.linalg.norm(eps) > rho else (low, mu)
    exact = g @ eps + 0.5 * eps @ h @ eps
    found = worst_loss(objective, rho, steps=200)
    assert found.increase == pytest.approx(exact, rel=1e-6)
    assert found.first_order <= found.increase
    assert found.loss == 0.0


def test_worst_loss_at_a_stationary_point_and_on_a_summit() -> None:
    """Oracle: half rho^2 times the largest eigenvalue; and zero where every way leads down."""
    assert worst_loss(quadratic([1.0, 4.0], 0.0), 0.1, steps=300).increase == pytest.approx(0.02)
    assert worst_loss(quadratic([-1.0, -4.0], 0.0), 0.1).increase == 0.0
    with pytest.raises(ValueError, match="rho"):
        worst_loss(quadratic([1.0], 0.0), 0.0)


def test_directions_are_as_long_as_the_filters() -> None:
    """Oracle: norms, filter by filter, in a loop; biases and norm layers stay."""
    model = network()
    objective = Objective(model, cross_entropy, sample())
    direction = objective.parts(filter_direction(objective, 3))
    for d, w in zip(direction, model.parameters(), strict=True):
        if w.ndim == 1:
            assert not d.any()
            continue
        for filter_d, filter_w in zip(d, w, strict=True):
            assert float(filter_d.norm()) == pytest.approx(float(filter_w.detach().norm()))
    assert not torch.equal(filter_direction(objective, 3), filter_direction(objective, 4))
    assert torch.equal(filter_direction(objective, 3), filter_direction(objective, 3))


def test_line_and_square_agree_with_losses_by_hand() -> None:
    """Oracle: the loss of a copy of the model with its weights overwritten."""
    model = network()
    objective = Objective(model, cross_entropy, sample())
    first, second = filter_direction(objective, 0), filter_direction(objective, 1)
    line = loss_landscape(objective, first, radius=0.5, points=5)
    square = loss_landscape(objective, first, second, radius=0.5, points=3)
    assert line.positions.tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert square.losses.shape == (3, 3)
    torch.testing.assert_close(square.losses[:, 1], line.losses[::2])
    moved = copy.deepcopy(model).eval()
    nn.utils.vector_to_parameters(objective.weights + 0.5 * first - 0.5 * second, moved.parameters())
    with torch.no_grad():
        expected = sum(float(cross_entropy(moved, batch)) for batch in sample())
    assert float(square.losses[2, 0]) == pytest.approx(expected)


def test_scale_of_the_weights_does_not_change_the_picture() -> None:
    """Oracle: all filters before BatchNorm doubled: the same function, and the same line."""
    pictures = []
    for factor in (1.0, 2.0):
        model = network()
        with torch.no_grad():
            for _ in range(200):
                model.train()(sample()[0][0])
            model[0].weight *= factor
            model[1].running_var *= factor**2
            model[1].running_mean.sub_(model[0].bias).mul_(factor).add_(model[0].bias)
            model[1].eps *= factor**2
        objective = Objective(model, cross_entropy, sample())
        pictures.append(loss_landscape(objective, filter_direction(objective, 0), points=7).losses)
    torch.testing.assert_close(*pictures, rtol=1e-9, atol=1e-12)


def test_attention_has_second_derivatives() -> None:
    """Oracle: finite differences of the gradient through scaled dot-product attention."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(4, 12).double()

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            return nn.functional.scaled_dot_product_attention(q, k, v)

    torch.manual_seed(0)
    x = torch.randn(2, 1, 5, 4, dtype=torch.float64)
    objective = Objective(Attention(), lambda net, batch: net(batch).square().mean(), [x])
    vector = objective.random_direction(torch.Generator().manual_seed(0))
    step = 1e-5 * vector
    ahead, behind = (objective.gradient(objective.weights + s * step)[1] for s in (1, -1))
    torch.testing.assert_close(objective.hessian_times(vector), (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-8)


def test_nothing_to_differentiate_is_refused() -> None:
    """Oracle: the error."""
    frozen = network().requires_grad_(False)
    with pytest.raises(ValueError, match="weight"):
        Objective(frozen, cross_entropy, sample())
    with pytest.raises(ValueError, match="batch"):
        Objective(network(), cross_entropy, [])

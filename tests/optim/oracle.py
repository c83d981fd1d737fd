"""The equations of the papers, literally, in float64: slow, plain, sharing nothing with what they test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Vector = list[Tensor]
Gradient = Callable[[Vector, int], Vector]


def network(seed: int = 0) -> nn.Module:
    """A convolution, a norm layer with vectors, and a linear layer, in float64."""
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.GroupNorm(1, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 9, 4), nn.Tanh()
    )
    return layers.double()


def batches(count: int, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Images of shape (6, 2, 5, 5) and targets of shape (6, 4)."""
    generator = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return [(make(6, 2, 5, 5), make(6, 4)) for _ in range(count)]


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error."""
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def gradient_of(model: nn.Module, data: Sequence[tuple[Tensor, Tensor]]) -> Gradient:
    """The gradient at given weights on a numbered batch, by torch.autograd.grad on a functional call."""
    names = [name for name, _ in model.named_parameters()]

    def gradient(weights: Vector, number: int) -> Vector:
        leaves = [w.detach().clone().requires_grad_() for w in weights]
        x, y = data[number]
        loss = nn.functional.mse_loss(functional_call(model, dict(zip(names, leaves, strict=True)), (x,)), y)
        return list(torch.autograd.grad(loss, leaves))

    return gradient


def dot(a: Vector, b: Vector) -> Tensor:
    return sum(((x * y).sum() for x, y in zip(a, b, strict=True)), torch.zeros((), dtype=torch.float64))


def norm(a: Vector) -> Tensor:
    return dot(a, a).sqrt()


def axpy(factor: Tensor | float, x: Vector, y: Vector) -> Vector:
    return [factor * a + b for a, b in zip(x, y, strict=True)]


def centred(g: Vector) -> Vector:
    """Each row of each gradient of more than one dimension less its mean, row by row."""
    return [a if a.ndim < 2 else torch.stack([row - row.sum() / row.numel() for row in a]) for a in g]


def epsilon(method: str, weights: Vector, g: Vector, rho: float, eta: float = 0.0) -> Vector:
    """The perturbation of each method that ascends along the gradient."""
    match method:
        case "sam":
            return [rho * a / norm(g) for a in g]
        case "gcsam":
            return [rho * a / norm(centred(g)) for a in centred(g)]
        case "gcsam_raw":
            return [rho * a / norm(g) for a in centred(g)]
        case "asam":
            sizes = [w.abs() + eta for w in weights]
            scaled = [t * a for t, a in zip(sizes, g, strict=True)]
            return [rho * t * a / norm(scaled) for t, a in zip(sizes, scaled, strict=True)]
        case _:
            raise ValueError(method)


class Base:
    """Adam, AdamW and SGD with momentum, from their papers; torch's defaults."""

    def __init__(self, name: str, lr: float) -> None:
        self.name, self.lr, self.steps = name, lr, 0
        self.first: Vector = []
        self.second: Vector = []

    def step(self, weights: Vector, g: Vector) -> Vector:
        self.steps += 1
        self.first = self.first or [torch.zeros_like(w) for w in weights]
        self.second = self.second or [torch.zeros_like(w) for w in weights]
        if self.name == "sgd":
            self.first = axpy(0.9, self.first, g)
            return axpy(-self.lr, self.first, weights)
        if self.name == "adamw":
            weights = [(1 - self.lr * 0.01) * w for w in weights]
        self.first = [0.9 * m + 0.1 * a for m, a in zip(self.first, g, strict=True)]
        self.second = [0.999 * v + 0.001 * a * a for v, a in zip(self.second, g, strict=True)]
        after = []
        for w, m, v in zip(weights, self.first, self.second, strict=True):
            step = (m / (1 - 0.9**self.steps)) / ((v / (1 - 0.999**self.steps)).sqrt() + 1e-8)
            after.append(w - self.lr * step)
        return after


def run(
    method: str,
    base: str,
    weights: Vector,
    gradient: Gradient,
    steps: int,
    *,
    rho: float,
    lr: float,
    **options: Any,
) -> list[Vector]:
    """The weights after each step."""
    optimizer = Base(base, lr)
    every = options.get("every", 1)
    orthogonal: Vector = []
    average: Vector = []
    history = []
    for step in range(steps):
        g = gradient(weights, step)
        ascends = step % every == 0
        if method in ("adam", "adamw", "sgd"):
            descent = g
        elif method == "gc":
            descent = centred(g)
        elif method == "msam":
            velocity = optimizer.first
            descent = gradient(axpy(-rho / norm(velocity), velocity, weights), step) if velocity else g
        elif method == "looksam":
            if ascends:
                descent = gradient(axpy(1.0, epsilon("sam", weights, g, rho), weights), step)
                orthogonal = axpy(-dot(g, descent) / dot(g, g), g, descent)
            else:
                descent = axpy(options["alpha"] * norm(g) / norm(orthogonal), orthogonal, g)
        elif method == "gsam":
            worst = gradient(axpy(1.0, epsilon("sam", weights, g, rho), weights), step)
            perpendicular = axpy(-dot(g, worst) / dot(worst, worst), worst, g)
            descent = axpy(-options["alpha"], perpendicular, worst)
        elif method == "friendly":
            average = [0.9 * m + 0.1 * a for m, a in zip(average or [0.0] * len(g), g, strict=True)]
            special = axpy(-options.get("sigma", 1.0), average, g)
            descent = gradient(axpy(1.0, epsilon("sam", weights, special, rho), weights), step)
        elif method == "gcsam_both":
            descent = centred(gradient(axpy(1.0, epsilon("gcsam", weights, g, rho), weights), step))
        elif ascends:
            offset = epsilon(method, weights, g, rho, options.get("eta", 0.0))
            descent = gradient(axpy(1.0, offset, weights), step)
        else:
            descent = g
        weights = optimizer.step(weights, descent)
        history.append(weights)
    return history

"""How sharp a minimum is: the Hessian's spectrum and trace, the worst loss nearby, the loss landscape.

These are the only metrics of the network itself, and the only ones to need torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from gcsam_med.progress import Track, silent

Network = Callable[..., Tensor]


class Objective:
    """Loss, gradient and Hessian products at any weights, without touching those of the model.

    The model is in evaluation mode meanwhile: running statistics stand still and dropout is off, so that
    every call sees the same function.

    Parameters
    ----------
    model : nn.Module
        The network itself, not wrapped. Its parameters that require a gradient, n numbers in all, are the
        weights.
    loss_of : callable
        From the network at some weights, called like the model, and a batch to a scalar. The values of the
        batches are added: for a mean over all cases weight each batch by its share of them.
    batches : sequence
        What the loss is taken over: a fixed sample.

    Attributes
    ----------
    weights : Tensor, shape (n,)
        A copy of the model's weights, in the order of ``named_parameters``.

    Raises
    ------
    ValueError
        Without weights or without batches.
    """

    def __init__(
        self, model: nn.Module, loss_of: Callable[[Network, Any], Tensor], batches: Sequence[Any]
    ) -> None:
        self._model = model
        self._loss_of = loss_of
        self._batches = batches
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self._parameters or not len(batches):
            raise ValueError("A loss surface needs a weight that requires a gradient, and a batch.")
        self.weights = torch.cat([p.detach().flatten() for p in self._parameters.values()])

    @property
    def batches(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def first_batch(self) -> Objective:
        """The same on the first batch alone."""
        return Objective(self._model, self._loss_of, self._batches[:1])

    def loss(self, weights: Tensor) -> float:
        """The loss at weights of shape (n,); infinite or NaN where the network is."""
        with torch.no_grad(), self._evaluating():
            network = self._network(self._named(weights))
            return sum(float(self._loss_of(network, batch)) for batch in self._batches)

    def gradient(self, weights: Tensor) -> tuple[float, Tensor]:
        """The loss and its gradient, shape (n,), at these weights."""
        total, gradient = 0.0, torch.zeros_like(self.weights)
        with torch.enable_grad(), self._evaluating():
            leaves = self._leaves(weights)
            for batch in self._batches:
                loss = self._loss_of(self._network(leaves), batch)
                gradient += _flat(torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True))
                total += float(loss.detach())
        return total, gradient

    def hessian_times(self, vector: Tensor) -> Tensor:
        """The Hessian at the model's weights times a vector of shape (n,), by differentiating twice.

        Attention runs by its plain formula meanwhile: its fused kernels have no second derivative.
        """
        product = torch.zeros_like(self.weights)
        parts = list(self._named(vector).values())
        with torch.enable_grad(), self._evaluating(), sdpa_kernel(SDPBackend.MATH):
            leaves = self._leaves(self.weights)
            values = list(leaves.values())
            for batch in self._batches:
                loss = self._loss_of(self._network(leaves), batch)
                slopes = torch.autograd.grad(loss, values, create_graph=True, materialize_grads=True)
                slope = torch.stack([(g * v).sum() for g, v in zip(slopes, parts, strict=True)]).sum()
                product += _flat(torch.autograd.grad(slope, values, materialize_grads=True))
        return product

    def random_direction(self, generator: torch.Generator) -> Tensor:
        """Standard normal numbers, shape (n,), the same on every device."""
        numbers = torch.randn(len(self.weights), generator=generator, dtype=torch.float64)
        return numbers.to(self.weights)

    def parts(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector of shape (n,), shaped like the parameters it runs over."""
        pieces = zip(self._parameters.values(), self._split(vector), strict=True)
        return [piece.view(p.shape) for p, piece in pieces]

    def _split(self, vector: Tensor) -> tuple[Tensor, ...]:
        return vector.split([p.numel() for p in self._parameters.values()])

    def _named(self, weights: Tensor) -> dict[str, Tensor]:
        named = zip(self._parameters.items(), self._split(weights), strict=True)
        return {name: part.view(p.shape).to(p.dtype) for (name, p), part in named}

    def _leaves(self, weights: Tensor) -> dict[str, Tensor]:
        return {name: part.detach().requires_grad_() for name, part in self._named(weights).items()}

    def _network(self, named: dict[str, Tensor]) -> Network:
        return lambda *inputs, **options: functional_call(self._model, named, inputs, options)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = [module for module in self._model.modules() if module.training]
        self._model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True


@dataclass(frozen=True)
class Spectrum:
    """The outer end of a Hessian's spectrum."""

    #: The largest eigenvalues, falling; fewer than asked for, if the network has fewer weights.
    largest: tuple[float, ...]
    largest_errors: tuple[float, ...]  #: For each, how far an eigenvalue can be at most.
    smallest: float  #: The smallest eigenvalue; below zero the weights are no minimum.
    smallest_error: float  #: How far an eigenvalue can be at most.
    products: int  #: Hessian products spent.


@dataclass(frozen=True)
class Trace:
    """An estimate of a Hessian's trace."""

    value: float  #: Mean over the random vectors: the sum of all eigenvalues, without bias.
    standard_error: float  #: Of that mean.
    samples: int  #: Random vectors.


@dataclass(frozen=True)
class WorstLoss:
    """The highest loss found within rho."""

    loss: float  #: At the weights.
    #: By how much the loss is higher at the worst place found: a lower bound of the true maximum, 0 or more.
    increase: float
    first_order: float  #: The same after one step along the gradient, as SAM takes it.
    rho: float  #: Radius.


def hessian_spectrum(
    objective: Objective,
    count: int = 1,
    *,
    steps: int = 40,
    tolerance: float = 1e-3,
    seed: int = 0,
    track: Track = silent,
) -> Spectrum:
    r"""The `count` largest eigenvalues of the Hessian, by Lanczos iteration.

    Each step multiplies the Hessian by one vector and is orthogonalized against all former ones, which keeps
    false copies of an eigenvalue away. The error of an eigenvalue is that of its Ritz pair,
    :math:`\beta_m \lvert s_{m} \rvert`, a bound that holds. It ends when the errors of those asked for are
    below `tolerance` times the largest eigenvalue in size, or after `steps` Hessian products, each of which
    keeps one vector of as many numbers as the network has weights in memory. `seed` draws the first vector.

    References
    ----------
    Golub and Van Loan, "Matrix Computations", section 10.1. For networks: Yao, Gholami, Keutzer, Mahoney,
    "PyHessian", 2020, arXiv 1912.07145.
    """
    vector = objective.random_direction(torch.Generator().manual_seed(seed))
    basis: list[Tensor] = []
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    spectrum = Spectrum((), (), math.nan, math.nan, 0)
    for _ in track(range(min(steps, len(vector))), "Hessian eigenvalues"):
        basis.append(vector / _length(vector))
        vector = objective.hessian_times(basis[-1])
        diagonal.append(_dot(vector, basis[-1]))
        for _ in range(2):  # twice is enough, says Kahan: once loses digits to rounding
            for former in basis:
                vector.addcmul_(former, torch.dot(vector, former), value=-1)
        off_diagonal.append(_length(vector))
        spectrum = _ritz(diagonal, off_diagonal, count)
        size = max(abs(spectrum.largest[0]), abs(spectrum.smallest))
        enough = len(diagonal) >= count and max(spectrum.largest_errors) <= tolerance * size
        if enough or off_diagonal[-1] <= torch.finfo(vector.dtype).eps * size:
            break
    return spectrum


def hessian_trace(objective: Objective, samples: int = 30, *, seed: int = 0, track: Track = silent) -> Trace:
    """The trace of the Hessian, by Hutchinson's estimator (1990): random signs, one product for each sample.

    Raises
    ------
    ValueError
        For fewer than two samples, which give no standard error.
    """
    if samples < 2:
        raise ValueError(f"A standard error needs at least two samples, but there are {samples}.")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in track(range(samples), "Hessian trace"):
        signs = torch.where(objective.random_direction(generator) < 0, -1.0, 1.0).to(objective.weights)
        found.append(_dot(signs, objective.hessian_times(signs)))
    values = torch.tensor(found, dtype=torch.float64)
    return Trace(float(values.mean()), float(values.std() / math.sqrt(samples)), samples)


def worst_loss(
    objective: Objective, rho: float, *, steps: int = 10, seed: int = 0, track: Track = silent
) -> WorstLoss:
    r"""The highest loss within rho of the weights, as far as gradients find it.

    Each step goes to the place on the sphere that the last gradient points to, :math:`\epsilon \leftarrow
    \rho \, \nabla L(w + \epsilon) / \lVert \cdot \rVert`; the first is SAM's (Foret et al., ICLR 2021, arXiv
    2010.01412, equation 1). Where the loss is convex each is at least as high as the last; the highest of all
    counts. `seed` draws the direction that is taken where the gradient is 0.

    Raises
    ------
    ValueError
        If rho is not above 0, or steps not at least 1.
    """
    if rho <= 0 or steps < 1:
        raise ValueError(f"rho must be above 0 and steps at least 1, but they are {rho} and {steps}.")
    start, gradient = objective.gradient(objective.weights)
    if _length(gradient) == 0:
        gradient = objective.random_direction(torch.Generator().manual_seed(seed))
    found: list[float] = []
    for number in track(range(1, steps + 1), "Worst loss nearby"):
        place = objective.weights + gradient * (rho / _length(gradient))
        if number == steps:
            found.append(objective.loss(place) - start)
            break
        loss, gradient = objective.gradient(place)
        found.append(loss - start)
        if _length(gradient) == 0 or not math.isfinite(loss):
            break
    return WorstLoss(start, max(0.0, *found), found[0], rho)


def _ritz(diagonal: list[float], off_diagonal: list[float], count: int) -> Spectrum:
    inner = torch.tensor(off_diagonal[:-1], dtype=torch.float64)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    matrix = matrix + torch.diag(inner, 1) + torch.diag(inner, -1)
    values, vectors = torch.linalg.eigh(matrix)
    errors = (off_diagonal[-1] * vectors[-1]).abs()
    top = range(len(values) - 1, max(-1, len(values) - 1 - count), -1)
    return Spectrum(
        largest=tuple(float(values[i]) for i in top),
        largest_errors=tuple(float(errors[i]) for i in top),
        smallest=float(values[0]),
        smallest_error=float(errors[0]),
        products=len(diagonal),
    )


@dataclass(frozen=True)
class Landscape:
    """Losses on a line or a square around the weights."""

    #: Shape (points,), float64: steps along each direction; 1 replaces a filter by a random one of its size.
    positions: Tensor
    #: Shape (points,) or (points, points), float64: the loss there; of a square, rows follow the first
    #: direction. Infinite or NaN where the network is.
    losses: Tensor


def filter_direction(objective: Objective, seed: int) -> Tensor:
    r"""A random direction in which every filter is as long as that of the network.

    .. math:: d_{i} \leftarrow \frac{d_{i}}{\lVert d_{i} \rVert} \lVert w_{i} \rVert

    for every filter i: the weights of one output channel or neuron; shape (n,). Networks that differ in the
    scale of their weights only, as those with norm layers can, get the same picture. Biases and norm layers
    stay. The same seed gives networks of one architecture the same random numbers.

    References
    ----------
    Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018,
    arXiv 1712.09913, section 4.
    """
    direction = objective.random_direction(torch.Generator().manual_seed(seed))
    pairs = zip(objective.parts(direction), objective.parts(objective.weights), strict=True)
    for part, weights in pairs:
        if part.ndim < 2:
            part.zero_()
            continue
        over = tuple(range(1, part.ndim))
        size = weights.square().sum(over, keepdim=True).sqrt()
        part.mul_(size / part.square().sum(over, keepdim=True).sqrt())
    return direction


def loss_landscape(
    objective: Objective,
    *directions: Tensor,
    radius: float = 1.0,
    points: int = 41,
    track: Track = silent,
) -> Landscape:
    """The loss on a line (one direction) or on a square (two) through the weights.

    Parameters
    ----------
    objective : Objective
        The loss and its weights.
    *directions : Tensor, shape (n,)
        From `filter_direction`, each with its own seed.
    radius : float
        How far to both sides.
    points : int
        Losses along each direction; an odd number has the weights themselves among them.
    track : Track
        Shows progress.
    """
    positions = torch.linspace(-radius, radius, points, dtype=torch.float64)
    places = list(product(positions.tolist(), repeat=len(directions)))
    losses = []
    for steps in track(
        places, "Loss along a line" if len(directions) == 1 else "Loss on a square", len(places)
    ):
        weights = objective.weights
        for step, direction in zip(steps, directions, strict=True):
            weights = weights + step * direction
        losses.append(objective.loss(weights))
    shape = (points,) * len(directions)
    return Landscape(positions, torch.tensor(losses, dtype=torch.float64).view(shape))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a.double() * b.double()).sum())


def _length(a: Tensor) -> float:
    return math.sqrt(_dot(a, a))

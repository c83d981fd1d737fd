"""How sharp a minimum is: the Hessian's spectrum and trace, and the worst loss nearby."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gcsam_med.metrics.batch_loss import Objective
from gcsam_med.progress import Track, silent


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
    #: By how much the loss is higher at the worst place found; a lower bound of the true maximum, never below
    #: 0.
    increase: float
    first_order: float  #: The same after one step along the gradient, as SAM takes it.
    rho: float  #: Radius.
    gradients: int  #: Gradients spent.


def hessian_spectrum(
    objective: Objective,
    count: int = 1,
    *,
    steps: int = 40,
    tolerance: float = 1e-3,
    seed: int = 0,
    track: Track = silent,
) -> Spectrum:
    r"""The largest eigenvalues of the Hessian, by Lanczos iteration.

    Each step multiplies the Hessian by one vector and is orthogonalized against all former ones, which keeps
    false copies of an eigenvalue away. The error of an eigenvalue is that of its Ritz pair,
    :math:`\beta_m \lvert s_{m} \rvert`, a bound that holds.

    Parameters
    ----------
    objective : Objective
        The loss and where.
    count : int
        How many.
    steps : int
        Hessian products at most; each keeps one vector as long as the network in memory.
    tolerance : float
        Stop when the errors of those asked for are below this part of the largest size.
    seed : int
        Of the first vector.
    track : Track
        Shows progress.

    Returns
    -------
    Spectrum
        With the errors reached.

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
                vector = vector - _dot(vector, former) * former
        off_diagonal.append(_length(vector))
        spectrum = _ritz(diagonal, off_diagonal, count)
        size = max(abs(spectrum.largest[0]), abs(spectrum.smallest))
        enough = len(diagonal) >= count and max(spectrum.largest_errors) <= tolerance * size
        if enough or off_diagonal[-1] <= torch.finfo(vector.dtype).eps * size:
            break
    return spectrum


def hessian_trace(objective: Objective, samples: int = 30, *, seed: int = 0, track: Track = silent) -> Trace:
    """The trace of the Hessian, by Hutchinson's estimator with random signs.

    Parameters
    ----------
    objective : Objective
        The loss and where.
    samples : int, >= 2
        Random vectors, one Hessian product each.
    seed : int
        Of the vectors.
    track : Track
        Shows progress.

    Returns
    -------
    Trace
        With its standard error.

    Raises
    ------
    ValueError
        For fewer than two samples, which give no standard error.

    References
    ----------
    Hutchinson, 1990. For networks: Yao, Gholami, Keutzer, Mahoney, "PyHessian", 2020, arXiv 1912.07145.
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
    \rho \, \nabla L(w + \epsilon) / \lVert \cdot \rVert`; the first is SAM's. Where the loss is convex each
    is at least as high as the last; the highest of all counts.

    Parameters
    ----------
    objective : Objective
        The loss and where.
    rho : float, > 0
        Radius.
    steps : int, >= 1
        Gradients at most.
    seed : int
        Of the direction taken where there is no slope.
    track : Track
        Shows progress.

    Returns
    -------
    WorstLoss
        The increase, SAM's first-order one beside it.

    References
    ----------
    Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization", ICLR 2021, arXiv 2010.01412, equation
    1.
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
    return WorstLoss(start, max(0.0, *found), found[0], rho, len(found))


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


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a.double() * b.double()).sum())


def _length(a: Tensor) -> float:
    return math.sqrt(_dot(a, a))

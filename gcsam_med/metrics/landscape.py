"""The loss along random directions from the weights, comparable between networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gcsam_med.metrics.batch_loss import Objective
from gcsam_med.progress import Track, silent


@dataclass(frozen=True)
class Landscape:
    """Losses on a line or a square around the weights."""

    #: Tensor, shape (points,), float64: Steps along each direction; 1 replaces a filter by a random one of
    #: its size.
    positions: Tensor
    #: Tensor, shape (points,) or (points, points), float64: The loss there; of a square, rows follow the
    #: first direction. Infinite or NaN where the network is.
    losses: Tensor


def filter_direction(objective: Objective, seed: int) -> Tensor:
    r"""A random direction in which every filter is as long as that of the network.

    .. math:: d_{i} \leftarrow \frac{d_{i}}{\lVert d_{i} \rVert} \lVert w_{i} \rVert

    for every filter i: the weights of one output channel or neuron. Networks that differ in the scale of
    their weights only, as those with norm layers can, get the same picture. Biases and norm layers stay.

    Parameters
    ----------
    objective : Objective
        The loss and where.
    seed : int
        The same seed gives networks of one architecture the same random numbers.

    Returns
    -------
    Tensor, shape (n,)
        The direction.

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


def loss_line(
    objective: Objective,
    direction: Tensor,
    *,
    radius: float = 1.0,
    points: int = 41,
    track: Track = silent,
) -> Landscape:
    """The loss on a line through the weights.

    Parameters
    ----------
    objective : Objective
        The loss and where.
    direction : Tensor, shape (n,)
        From `filter_direction`.
    radius : float
        How far to both sides.
    points : int
        Losses to compute; an odd number has the weights themselves among them.
    track : Track
        Shows progress.

    Returns
    -------
    Landscape
        Of shape (points,).
    """
    positions = torch.linspace(-radius, radius, points, dtype=torch.float64)
    steps = track(positions.tolist(), "Loss along a line", points)
    losses = [objective.loss(objective.weights + step * direction) for step in steps]
    return Landscape(positions, torch.tensor(losses, dtype=torch.float64))


def loss_surface(
    objective: Objective,
    first: Tensor,
    second: Tensor,
    *,
    radius: float = 1.0,
    points: int = 21,
    track: Track = silent,
) -> Landscape:
    """The loss on a square around the weights.

    Parameters
    ----------
    objective : Objective
        The loss and where.
    first, second : Tensor, shape (n,)
        From `filter_direction`, with two seeds.
    radius : float
        How far to all four sides.
    points : int
        Losses along each side; their square in all.
    track : Track
        Shows progress.

    Returns
    -------
    Landscape
        Of shape (points, points).
    """
    positions = torch.linspace(-radius, radius, points, dtype=torch.float64)
    places = torch.cartesian_prod(positions, positions).tolist()
    losses = [
        objective.loss(objective.weights + a * first + b * second)
        for a, b in track(places, "Loss on a square", len(places))
    ]
    return Landscape(positions, torch.tensor(losses, dtype=torch.float64).view(points, points))

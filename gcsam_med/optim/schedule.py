"""How rho changes over a run."""

from __future__ import annotations

import math
from collections.abc import Callable


def _constant(progress: float) -> float:
    return 1.0


def _linear(progress: float) -> float:
    return 1.0 - progress


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


RHO_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
}
"""From progress in [0, 1] to the share of the way from the last rho to the first: 1 at the start."""


def rho_factor(name: str, progress: float, end: float = 0.0) -> float:
    """What to multiply rho by at this point of a run; set `Sharpness.rho_factor` to it before each step.

    Parameters
    ----------
    name : str
        A name in `RHO_SCHEDULES`.
    progress : float
        Steps done over steps in all; held within [0, 1].
    end : float, >= 0
        The factor at the end.

    Returns
    -------
    float
        1 at the start, `end` at the end of a linear or cosine schedule.

    Raises
    ------
    ValueError
        For a name that is not in the table.

    Examples
    --------
    >>> [round(rho_factor("cosine", t, end=0.2), 3) for t in (0, 0.5, 1)]
    [1.0, 0.6, 0.2]
    """
    if name not in RHO_SCHEDULES:
        raise ValueError(f"rho schedule must be one of {', '.join(RHO_SCHEDULES)}, but is {name!r}")
    return end + (1.0 - end) * RHO_SCHEDULES[name](min(1.0, max(0.0, progress)))

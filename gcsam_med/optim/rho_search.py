"""Finding rho on validation data, by successive halving."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RHO_CANDIDATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""The range of SAM's paper and a step beyond, about a factor of two apart."""


@dataclass(frozen=True)
class Trial:
    """One training run of the search.

    Parameters
    ----------
    rho : float
        Radius.
    budget : int
        How long it was trained, in the unit of the caller.
    score : float
        On the validation data, higher is better; minus infinity where it was not finite.
    """

    rho: float
    budget: int
    score: float


@dataclass(frozen=True)
class RhoSearch:
    """What the search found.

    Parameters
    ----------
    rho : float
        The best.
    trials : tuple of Trial
        All that was trained, in order.
    """

    rho: float
    trials: tuple[Trial, ...]


def find_rho(
    score_of: Callable[[float, int], float],
    candidates: Sequence[float] = RHO_CANDIDATES,
    budget: int = 1,
) -> RhoSearch:
    """Pick rho by successive halving: train all briefly, and the better half again for longer.

    Six candidates cost 6 + 3 x 2 + 2 x 4 = 20 budgets. Only validation data may enter the score: rho chosen
    on test data makes the test score too good.

    Parameters
    ----------
    score_of : callable
        From rho and a budget to the validation score of a network trained so long; higher is better.
    candidates : sequence of float
        The radii to try, each once.
    budget : int, >= 1
        Of the first round.

    Returns
    -------
    RhoSearch
        The best rho, the smaller one of two that are equal, and all trials.

    Raises
    ------
    ValueError
        Without candidates, or when no score is finite.

    References
    ----------
    Jamieson and Talwalkar, "Non-stochastic Best Arm Identification", AISTATS 2016, arXiv 1502.07943.

    Examples
    --------
    >>> find_rho(lambda rho, budget: -abs(rho - 0.1), budget=2).rho
    0.1
    """
    if not candidates or budget < 1:
        raise ValueError("A search for rho needs candidates, and a budget of at least 1.")
    rivals = sorted(set(candidates))
    trials: list[Trial] = []
    while True:
        scores = {rho: _finite(score_of(rho, budget)) for rho in rivals}
        trials += [Trial(rho, budget, score) for rho, score in scores.items()]
        ranking = sorted(rivals, key=lambda rho: (-scores[rho], rho))
        if scores[ranking[0]] == -math.inf:
            raise ValueError("No rho gave a finite validation score; is the learning rate too high?")
        if len(rivals) <= 2:
            return RhoSearch(ranking[0], tuple(trials))
        rivals = sorted(ranking[: math.ceil(len(rivals) / 2)])
        budget *= 2


def _finite(score: float) -> float:
    return score if math.isfinite(score) else -math.inf

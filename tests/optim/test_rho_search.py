"""The search for rho."""

from __future__ import annotations

import math

import pytest

from gcsam_med.optim import find_rho
from gcsam_med.optim.rho_search import RHO_CANDIDATES


def test_the_best_wins_and_the_budget_goes_to_the_better_half() -> None:
    """Oracle: the rounds by hand: six at 1, the three best at 2, the two best at 4."""
    found = find_rho(lambda rho, budget: -abs(math.log(rho / 0.09)))
    assert found.rho == 0.1
    rounds = [[t.rho for t in found.trials if t.budget == budget] for budget in (1, 2, 4)]
    assert rounds == [list(RHO_CANDIDATES), [0.05, 0.1, 0.2], [0.05, 0.1]]
    assert sum(t.budget for t in found.trials) == 20


def test_a_late_bloomer_that_survives_the_first_round_can_win() -> None:
    """Oracle: scores that change order with the budget."""
    found = find_rho(lambda rho, budget: rho if budget == 1 else -rho, [0.1, 0.2, 0.3, 0.4])
    assert found.rho == 0.3


def test_ties_go_to_the_smaller_and_faults_lose() -> None:
    """Oracle: equal scores; NaN and infinity are no scores."""
    assert find_rho(lambda rho, budget: 1.0, [0.5, 0.1]).rho == 0.1
    assert find_rho(lambda rho, budget: math.nan if rho > 0.1 else 0.0, [0.1, 0.2, 0.5]).rho == 0.1
    assert find_rho(lambda rho, budget: math.inf if rho > 0.1 else 0.0, [0.1, 0.2, 0.5]).rho == 0.1
    with pytest.raises(ValueError, match="finite"):
        find_rho(lambda rho, budget: math.nan)
    with pytest.raises(ValueError, match="candidates"):
        find_rho(lambda rho, budget: 1.0, [])

"""How many patients and seeds a study takes, from the variance components of a pilot.

The difference of two recipes on G groups with S seeds varies by groups / G + seeds / S + rest / (S G). If
these are normal, the mean and the three mean squares of `crossed_effects` are independent, so the power of
its tests is found by drawing them, with no study simulated (Searle, Casella and McCulloch, Variance
Components, 1992, section 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gcsam_med.metrics.seeds import SeedEffects

Question = Literal["not worse", "equivalent"]
"""What a study shows if the recipes are equal. It shows a difference of the margin with the power of
``not worse``, since that is the same test, moved by the margin."""

MOST_GROUPS = 100_000
LEAST_MARGIN = 1e-6
_DRAWS, _SEED = 20_000, 0


@dataclass(frozen=True, slots=True)
class Components:
    """Variances of the difference of two recipes, for one group and one seed."""

    groups: float  #: Between groups (patients), whatever the seed.
    seeds: float  #: Between seeds, whatever the group.
    rest: float  #: Of a group under a seed.

    @classmethod
    def of(cls, effects: SeedEffects, n_groups: int) -> Components:
        """Take them from the mean of a pilot with several seeds, as `crossed_effects` gives it."""
        rest = effects.shared * effects.mean.n * n_groups
        groups = max(0.0, effects.se_cases**2 - effects.shared) * n_groups
        return cls(groups, effects.sd_seeds**2, rest)


def power(parts: Components, n_groups: int, n_seeds: int, margin: float, question: Question) -> float:
    """Return the chance that a study of equal recipes gives the answer, by 20,000 draws.

    Both tests are one-sided at 2.5 %, as `margins` has them. ValueError with fewer than two groups or seeds.
    """
    from scipy.special import stdtrit

    if n_groups < 2 or n_seeds < 2:
        raise ValueError(f"Need two groups and two seeds, got {n_groups} and {n_seeds}.")
    rng = np.random.default_rng(_SEED)
    both = n_groups * n_seeds

    def mean_square(expected: float, freedom: int) -> np.ndarray:
        return expected * rng.chisquare(freedom, _DRAWS) / freedom / both

    df = n_seeds - 1, n_groups - 1
    seeds = mean_square(parts.rest + n_groups * parts.seeds, df[0])
    cases = mean_square(parts.rest + n_seeds * parts.groups, df[1])
    shared = mean_square(parts.rest, df[0] * df[1])
    spread = np.sqrt(parts.groups / n_groups + parts.seeds / n_seeds + parts.rest / both)
    mean = spread * rng.standard_normal(_DRAWS)
    # As in `seeds`: the larger part if subtraction went wrong, quantiles weighted by the parts.
    variance = np.maximum(seeds + cases - shared, np.maximum(seeds, cases))
    critical = (seeds * stdtrit(df[0], 0.975) + cases * stdtrit(df[1], 0.975)) / np.maximum(
        seeds + cases, 1e-300
    )
    half = critical * np.sqrt(variance)
    shown = mean - half > -margin
    if question == "equivalent":
        shown &= mean + half < margin
    return float(shown.mean())


def groups_needed(
    parts: Components, n_seeds: int, margin: float, wanted: float, question: Question
) -> int | None:
    """Return the fewest groups with the wanted power; ``None`` if 100,000 are too few, so seeds limit it."""
    if power(parts, MOST_GROUPS, n_seeds, margin, question) < wanted:
        return None
    few, enough = 2, 4
    if power(parts, few, n_seeds, margin, question) >= wanted:
        return few
    while power(parts, enough, n_seeds, margin, question) < wanted:
        few, enough = enough, min(2 * enough, MOST_GROUPS)
    while enough - few > 1:
        middle = (few + enough) // 2
        if power(parts, middle, n_seeds, margin, question) >= wanted:
            enough = middle
        else:
            few = middle
    return enough


def smallest_margin(
    parts: Components, n_groups: int, n_seeds: int, wanted: float, question: Question
) -> float:
    """Return the smallest margin, to 1 % and at least 1e-6, with which such a study has the wanted power."""
    low, high = 0.0, LEAST_MARGIN
    if power(parts, n_groups, n_seeds, high, question) >= wanted:
        return high
    while power(parts, n_groups, n_seeds, high, question) < wanted:
        low, high = high, 2 * high
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        if power(parts, n_groups, n_seeds, middle, question) >= wanted:
            high = middle
        else:
            low = middle
    return high

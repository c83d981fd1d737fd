"""Tests of a difference against a margin that was named before: not worse by so much, or as good.

"No difference shown" is no proof of equality. Two one-sided tests (TOST; Schuirmann, J Pharmacokin Biopharm
15(6), 1987) turn the question round: the margin is the null hypothesis, and equality has to be shown. Each
test is at 2.5 %, so that the answers can be read off the 95 % interval: not worse if the interval lies above
minus the margin, equivalent if it lies between both. (Bioequivalence trials take 5 % and a 90 % interval;
ICH E9, section 3.3.2, takes the stricter level for non-inferiority.)
"""

from __future__ import annotations

from dataclasses import dataclass

ALPHA = 0.025
"""One-sided level of each test."""


@dataclass(frozen=True, slots=True)
class MarginTest:
    """The two one-sided tests of a difference; higher is better."""

    p_not_worse: float  #: One-sided, of a difference of minus the margin or less (non-inferiority).
    p_not_better: float  #: One-sided, of a difference of the margin or more.

    @property
    def p_equivalent(self) -> float:
        """Of a difference outside the margin on either side."""
        return max(self.p_not_worse, self.p_not_better)


def margin_test(difference: float, error: float, freedom: float, margin: float) -> MarginTest:
    """Test a difference with a standard error, by Student's t, against a margin above 0.

    ValueError if the margin or the error is not above 0.
    """
    from scipy.special import stdtr

    if not (margin > 0 and error > 0):
        raise ValueError(f"Need a margin and a standard error above 0, got {margin} and {error}.")
    below, above = (difference + margin) / error, (difference - margin) / error
    return MarginTest(float(stdtr(freedom, -below)), float(stdtr(freedom, above)))

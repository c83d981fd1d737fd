"""One figure with its uncertainty: the form in which every result leaves the metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its 95 % interval, how many cases it rests on, and how the interval was made.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, the interval is upside down, or a ``None`` has no reason.
    """

    value: float | None  #: The point estimate, in the metric's own unit; ``None`` where it is not defined.
    #: Lower and upper end of the 95 % interval; ``None`` where none can be given (one group only, undefined
    #: value).
    ci95: tuple[float, float] | None
    n: int  #: Number of cases (or lesions, or pairs: the metric's own unit of counting) behind ``value``.
    #: How the interval was made, in words for a reader: ``"Wilson"``, ``"BCa bootstrap, 2000 resamples of 96
    #: groups"``.
    method: str
    reason: str = ""  #: Why ``value`` or ``ci95`` is ``None``; empty otherwise.

    def __post_init__(self) -> None:
        numbers = [x for x in (self.value, *(self.ci95 or ())) if x is not None]
        if not all(math.isfinite(x) for x in numbers):
            raise ValueError(f"An estimate must be finite or None, got value={self.value}, ci95={self.ci95}.")
        if self.ci95 is not None and (self.value is None or self.ci95[0] > self.ci95[1]):
            raise ValueError(f"The interval {self.ci95} does not fit the value {self.value}.")
        if (self.value is None or self.ci95 is None) and not self.reason:
            raise ValueError("A figure or an interval that is missing needs a reason.")

    @classmethod
    def undefined(cls, reason: str, n: int = 0) -> Estimate:
        """Return the estimate of a figure that the data at hand do not define.

        Parameters
        ----------
        reason : str
            Why, in words for a reader.
        n : int
            Number of cases looked at.

        Returns
        -------
        Estimate
            With ``value`` and ``ci95`` ``None``.
        """
        return cls(None, None, n, "none", reason)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``metrics.json``.

        Returns
        -------
        dict
            ``{"value": x, "ci95": [lo, hi], "n": N, "method": ...}``, ``None`` for what is missing, and
            ``"reason"`` only where something is.
        """
        entry: dict[str, Any] = {
            "value": self.value,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "n": self.n,
            "method": self.method,
        }
        return entry | {"reason": self.reason} if self.reason else entry

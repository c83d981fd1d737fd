"""The options of the methods: what each takes and its range, said once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option of an ascent."""

    meaning: str  #: What it does, in a sentence.
    kind: type = float  #: bool, int, float or str.
    least: float = -math.inf  #: Smallest value allowed.
    most: float = math.inf  #: Largest value allowed.
    above: bool = False  #: Whether `least` itself is excluded.
    choices: tuple[str, ...] = ()  #: All values of a text.

    @property
    def range(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return " or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1])))
        if self.kind is bool:
            return "true or false"
        number = "a whole number" if self.kind is int else "a finite number"
        least = f"above {self.least:g}" if self.above else f"of at least {self.least:g}"
        return f"{number} {least}" + ("" if self.most == math.inf else f" and at most {self.most:g}")

    def allows(self, value: Any) -> bool:
        """Whether a value is in range."""
        if self.choices or self.kind is bool:
            return value in self.choices or (isinstance(value, bool) and self.kind is bool)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        whole = self.kind is float or value == int(value)
        return whole and self.least <= value <= self.most and not (self.above and value == self.least)


OPTIONS: dict[str, Option] = {
    "rho": Option("Radius of the ascent.", least=0),
    "centralize": Option(
        "Centre the gradient of the ascent, or of the descent too.",
        kind=str,
        choices=("none", "ascent", "both"),
    ),
    "norm": Option(
        "Scale the ascent by the gradient's norm after or before centring it.",
        kind=str,
        choices=("centralized", "raw"),
    ),
    "conv_only": Option("Centre convolution weights only.", kind=bool),
    "adaptive": Option("Scale the ascent by the size of each weight (ASAM).", kind=bool),
    "eta": Option("ASAM's constant, added to the size of each weight.", least=0),
    "exempt_vectors": Option("Leave biases and norm layers out of ASAM's scaling.", kind=bool),
    "every": Option("Ascend on each k-th step only.", kind=int, least=1),
    "ascent_fraction": Option(
        "Fraction of the batch from which the gradient of the ascent is computed.",
        least=0,
        above=True,
        most=1,
    ),
    "alpha": Option("Strength of the part of the gradient that looksam and gsam add or take away.", least=0),
    "sigma": Option("friendly-sam: share of the average gradient that is taken away.", least=0),
    "decay": Option("friendly-sam: decay of the average gradient.", least=0, most=1),
}
"""Name to option, over all methods."""


def check_options(**values: Any) -> None:
    """Refuse values outside their range.

    Raises
    ------
    ValueError
        Names the option, its range and the value.
    """
    for name, value in values.items():
        if not OPTIONS[name].allows(value):
            raise ValueError(f"{name} must be {OPTIONS[name].range}, but is {value!r}")

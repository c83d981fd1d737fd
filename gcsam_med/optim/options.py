"""The options of the methods and their ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option of an ascent."""

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
    "rho": Option(least=0),
    "centralize": Option(str, choices=("none", "ascent", "both")),
    "norm": Option(str, choices=("centralized", "raw")),
    "conv_only": Option(bool),
    "adaptive": Option(bool),
    "eta": Option(least=0),
    "exempt_vectors": Option(bool),
    "every": Option(int, least=1),
    "ascent_fraction": Option(least=0, above=True, most=1),
    "alpha": Option(least=0),
    "sigma": Option(least=0),
    "decay": Option(least=0, most=1),
}
"""Name to option, over all methods; what each does stands in the classes that take it."""


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

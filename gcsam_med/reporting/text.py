"""Numbers as people read them."""

from __future__ import annotations

from gcsam_med.metrics.estimate import Estimate


def number(value: float | None, digits: int = 3) -> str:
    """Write a figure: shares with three decimals, large numbers with fewer; a dash for None."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.{1 if size >= 10 else digits}f}"


def interval(estimate: Estimate) -> str:
    """Write the 95 % interval, e.g. ``0.701 to 0.842``; a dash where there is none."""
    if estimate.ci95 is None:
        return "–"
    return f"{number(estimate.ci95[0])} to {number(estimate.ci95[1])}"


def estimate_text(estimate: Estimate) -> str:
    """Write a figure with its interval: ``0.771 (95 % CI 0.701 to 0.842)``, or why there is none."""
    if estimate.value is None:
        return f"not defined ({estimate.reason})"
    if estimate.ci95 is None:
        return f"{number(estimate.value)} (no interval: {estimate.reason})"
    return f"{number(estimate.value)} (95 % CI {interval(estimate)})"


def count(n: int, one: str, many: str = "") -> str:
    """Write a count with its noun: ``1 case``, ``12 cases``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"

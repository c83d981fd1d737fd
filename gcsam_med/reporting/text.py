"""Numbers and names as people read them; the templates use these functions as filters."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from gcsam_med.metrics.intervals import Estimate
from gcsam_med.metrics.table import METRICS
from gcsam_med.reporting.comparison import MIN_SEEDS, Arm, ArmMetric, Comparison, Pair
from gcsam_med.reporting.report import Report

# Units of shares that are written in percent, and how.
PERCENT = {"relative": "+.0f", "diagonal": ".1f"}


def number(value: float | None, digits: int = 3) -> str:
    """Write a number: shares with three decimals, large numbers with fewer; a dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    return fixed(value, 0 if size >= 100 else 1 if size >= 10 else digits)


def fixed(value: float, digits: int) -> str:
    """Write a finite number with a number of decimals; halves of its decimal value go away from zero."""
    if abs(value) >= 10**15:  # no decimals are left
        return f"{value:,.0f}"
    exact = Decimal(repr(round(float(value), 12)))
    return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):,f}"


def is_proportion(estimate: Estimate) -> bool:
    """Whether a metric is a share of counted cases: these have Wilson's interval."""
    return estimate.method.startswith("Wilson")


def value(estimate: Estimate, unit: str = "") -> str:
    """Write a metric alone: ``0.771``, a proportion as ``86 % (43/50)``, a relative error as ``+130 %``."""
    if estimate.value is None:
        return "–"
    if not is_proportion(estimate):
        return _bare(estimate.value, estimate, unit) + (" %" if unit in PERCENT else "")
    counted = estimate.value * estimate.n
    whole = f" ({round(counted)}/{estimate.n})" if abs(counted - round(counted)) < 1e-6 else ""
    return f"{_bare(estimate.value, estimate, unit)} %{whole}"


def interval(estimate: Estimate, unit: str = "") -> str:
    """Write the 95 % interval, e.g. ``0.701 to 0.842`` or ``67 to 95 %``; a dash where there is none."""
    if estimate.ci95 is None:
        return "–"
    percent = " %" if is_proportion(estimate) or unit in PERCENT else ""
    return f"{_ends(estimate, unit)}{percent}"


def _ends(estimate: Estimate, unit: str = "") -> str:
    return " to ".join(_bare(end, estimate, unit) for end in estimate.ci95 or ())


def _bare(number_: float, estimate: Estimate, unit: str) -> str:
    """Write a value of a metric or an end of its interval, without a sign for percent."""
    if unit in PERCENT:
        return f"{100 * number_:{PERCENT[unit]}}"
    if is_proportion(estimate):
        return fixed(100 * number_, 1 if estimate.n >= 1000 else 0)
    # An interval's ends have as many decimals as its larger one.
    largest = max((abs(x) for x in (estimate.value, *(estimate.ci95 or ())) if x is not None), default=0.0)
    return number(number_, 1 if largest >= 10 else 3)


def estimate_text(estimate: Estimate) -> str:
    """Write a metric with its interval, or why there is none.

    ``0.771 (95 % CI 0.701 to 0.842)``; a proportion as ``86 % (43/50; 95 % CI 74 to 93)``.
    """
    if estimate.value is None:
        return f"not defined ({estimate.reason})"
    text, _, whole = value(estimate).partition(" (")
    more = f"95 % CI {_ends(estimate)}" if estimate.ci95 else f"no interval: {estimate.reason}"
    return f"{text} ({whole.removesuffix(')')}; {more})" if whole else f"{text} ({more})"


def count(n: int, one: str, many: str = "") -> str:
    """Write a count with its noun: ``1 case``, ``12 cases``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def signed(value: float | None) -> str:
    """Write a difference with its sign."""
    return number(value) if value is None or value <= 0 else f"+{number(value)}"


def p_text(p: float | None) -> str:
    """Write a p value as papers do."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def spread(metric: ArmMetric, unit: str = "") -> str:
    """Write a mean with its standard deviation over runs."""
    if not math.isfinite(metric.mean):
        return "–"
    sd = math.isfinite(metric.sd)
    if unit in PERCENT:
        return f"{100 * metric.mean:{PERCENT[unit]}}" + (f" ± {100 * metric.sd:.1f} %" if sd else " %")
    digits = 1 if abs(metric.mean) >= 10 else 3
    return number(metric.mean) + (f" ± {number(metric.sd, digits)}" if sd else "")


def arm_name(comparison: Comparison, arm: Arm) -> str:
    """Name an arm, with its network where there are several."""
    name = readable_arm(arm.name)
    return f"{arm.model} {name}" if len(comparison.models) > 1 else name


def pair_name(comparison: Comparison, pair: Pair) -> str:
    """Name a pair as second minus first."""
    names = f"{readable_arm(pair.second)} − {readable_arm(pair.first)}"
    return (f"{pair.model}: " if len(comparison.models) > 1 else "") + names


def settings(values: Mapping[str, float]) -> str:
    """Write settings as ``lr 0.001, rho 0.05``."""
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def arm_and_factor(name: str) -> tuple[str, str]:
    """Split ``adam-2x``, which has twice the epochs, into ``adam`` and ``2``; the factor is often empty."""
    found = re.fullmatch(r"(.+)-([\d.]+)x", name)
    return (found[1], found[2]) if found else (name, "")


def readable_arm(name: str) -> str:
    """Write ``adam-2x`` as ``adam (2x epochs)``."""
    recipe, factor = arm_and_factor(name)
    return f"{recipe} ({factor}x epochs)" if factor else name


def plain_value(value: Any) -> str:
    """Write a value of ``audit.json`` or of a table of cases, of whatever type it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain_value(item)}" for key, item in list(value.items())[:12])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain_value(item) for item in value[:12]) + (", ..." if len(value) > 12 else "")
    return str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Write nested mappings as pairs of ``outer: inner`` and value."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{key}: ")
        elif key != "schema":
            pairs.append((f"{prefix}{key}", "–" if value is None else str(value)))
    return pairs


def columns_of(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
    """Return the names in a list of records, and for each column ``n`` (numbers) or ``t`` (text)."""
    names = list(dict.fromkeys(name for record in records for name in record))
    numeric = [all(isinstance(r.get(n, 0), int | float) for r in records) for n in names]
    return names, "".join("n" if is_number else "t" for is_number in numeric)


def brief(estimate: Estimate, unit: str = "") -> str:
    """Write metric and interval for a cell: ``0.771 (0.701 to 0.842)``, ``86 % (43/50; 74 to 93 %)``."""
    alone, _, whole = value(estimate, unit).partition(" (")
    inner = [whole.removesuffix(")")] * bool(whole) + [interval(estimate, unit)] * (estimate.ci95 is not None)
    return f"{alone} ({'; '.join(inner)})" if inner else alone


def stacked(estimate: Estimate) -> str:
    """Write a metric above its interval, for tables of many columns."""
    return value(estimate) + (f"\n{interval(estimate)}" if estimate.ci95 else "")


def heading(key: str, holder: Report | Comparison, *, of_one_class: bool = False) -> str:
    """Return a metric's title with its unit, such as ``HD95 (mm)``."""
    return METRICS[holder.task][key].heading(getattr(holder, "policy", {}), of_one_class=of_one_class)


def by_method(metrics: Mapping[str, Estimate], task: str) -> list[tuple[str, list[str]]]:
    """Group the titles of metrics by the method of their interval, such as ``Wilson``."""
    groups: dict[str, list[str]] = {}
    for key, estimate in metrics.items():
        if estimate.ci95 is not None:
            groups.setdefault(estimate.method.split(",")[0], []).append(METRICS[task][key].title)
    return list(groups.items())


def headline(comparison: Comparison) -> tuple[str, str]:
    """Return the main result in a few words, and what stands beside it in small print."""
    if not comparison.pairs:
        arm = comparison.arms[0]
        return number(arm.main.value), f"95 % CI {interval(arm.main)}"
    if not comparison.shown:
        if all(pair.verdict == "not answerable" for pair in comparison.pairs):
            seeds = count(max(len(pair.by_seed) for pair in comparison.pairs), "seed")
            return "not answerable", f"with {seeds} an arm; a verdict needs {MIN_SEEDS}"
        return "no difference shown", f"between {count(len(comparison.arms), 'arm')}"
    reference = comparison.arms[0].name
    best = max(comparison.shown, key=lambda p: (p.first == reference, abs(p.difference.value or 0.0)))
    beside = f"{pair_name(comparison, best)}, 95 % CI {interval(best.difference)}"
    return signed(best.difference.value), beside


def sentence(comparison: Comparison) -> str:
    """Say in prose what every pair showed."""
    means = ", ".join(f"{arm_name(comparison, a)} {number(a.main.value)}" for a in comparison.arms)
    texts = [f"Means: {means}."]
    shown = comparison.shown
    for pair in shown:
        texts.append(
            f"{readable_arm(pair.second)} was {pair.verdict} than {readable_arm(pair.first)} by "
            f"{number(abs(pair.difference.value or 0.0))} (95 % CI {interval(pair.difference)})."
        )
    open_pairs = [pair for pair in comparison.pairs if pair not in shown]
    unanswered = sum(pair.verdict == "not answerable" for pair in open_pairs)
    if left := len(open_pairs) - unanswered:
        texts.append(f"For {count(left, 'other pair' if shown else 'pair')} no difference was shown.")
    if unanswered:
        texts.append(
            f"{count(unanswered, 'pair')} cannot be answered: a verdict needs {MIN_SEEDS} seeds an arm."
        )
    for pair in comparison.pairs if comparison.margin is not None else ():
        names = readable_arm(pair.first), readable_arm(pair.second)
        if pair.answer == "equivalent":
            texts.append(f"{names[1]} and {names[0]} are equivalent within {comparison.margin:g}.")
        elif pair.answer == "not worse" and pair.verdict != "higher":
            texts.append(f"{names[1]} is not worse than {names[0]} by {comparison.margin:g}.")
    return " ".join(texts)

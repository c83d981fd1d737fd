"""A study that leaves out one centre after another: a comparison for each, and a summary over centres.

Cases of different centres are never pooled: each centre's comparison stands for itself, and the summary
treats centres as a sample of centres (random effects).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gcsam_med.metrics.intervals import Z95, Estimate, within_unit
from gcsam_med.metrics.meta import random_effects
from gcsam_med.reporting.comparison import CentreStudy, Comparison, OverCentres
from gcsam_med.reporting.text import arm_name, pair_name


def over_centres(by_centre: Mapping[str, Comparison], missing: Sequence[str] = ()) -> CentreStudy:
    """Put the comparisons of all centres side by side and summarise each arm and each pair of arms."""
    first = next(iter(by_centre.values()))
    arms: dict[str, dict[str, Estimate]] = {}
    pairs: dict[str, dict[str, Estimate]] = {}
    for centre, found in by_centre.items():
        for arm in found.arms:
            arms.setdefault(arm_name(found, arm), {})[centre] = arm.main
        for pair in found.pairs:
            pairs.setdefault(pair_name(found, pair), {})[centre] = pair.difference
    return CentreStudy(
        title=first.title,
        task=first.task,
        main_metric=first.main_metric,
        by_centre=by_centre,
        arms=tuple(_summary(name, values, share=True) for name, values in arms.items()),
        pairs=tuple(_summary(name, values) for name, values in pairs.items()),
        missing=tuple(missing),
        synthetic=any(found.synthetic for found in by_centre.values()),
        created=first.created,
    )


def _summary(name: str, values: Mapping[str, Estimate], *, share: bool = False) -> OverCentres:
    known = {c: e for c, e in values.items() if e.ci95 is not None and e.ci95[0] < e.ci95[1]}
    if len(known) < 2:
        reason = f"{len(known)} of {len(values)} centres have an interval; a summary needs two"
        return OverCentres(name, values, Estimate.undefined(reason), None, None, None)
    errors = [(e.ci95[1] - e.ci95[0]) / (2 * Z95) for e in known.values() if e.ci95 is not None]
    found = random_effects([float(e.value or 0.0) for e in known.values()], errors)
    mean, prediction = found.mean, found.prediction
    if share:  # a Dice or an area lies in 0 to 1
        mean, prediction = replace(mean, ci95=within_unit(mean.ci95)), within_unit(prediction)
    return OverCentres(name, values, mean, prediction, found.tau, found.i2)

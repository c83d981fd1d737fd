"""From the evidence of finished runs to their comparison. Nothing here reads a file or runs a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from gcsam_med.compare.cost import passes_per_step
from gcsam_med.compare.finished_runs import Evidence
from gcsam_med.compare.paired_cases import Sample, sample_of
from gcsam_med.compare.warnings import notices
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.statistics import cohens_dz, holm
from gcsam_med.reporting.comparison import Arm, ArmFigure, Comparison, Cost, NamedTest, Pair
from gcsam_med.training.run import MACHINE_FIELDS


def compare(
    evidence: Sequence[Evidence], *, title: str, created: str, n_resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compare the arms of finished runs.

    Parameters
    ----------
    evidence : sequence of Evidence
        Comparable runs, those of the reference arm first.
    title : str
        The data set's name for people.
    created : str
        UTC time in ISO form.
    n_resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    Comparison
        Every arm, and every two arms of one network. p values are corrected after Holm over all pairs.
    """
    sample = sample_of(evidence, n_resamples=n_resamples, seed=seed)
    by_arm: dict[tuple[str, str], list[Evidence]] = {}
    for one in evidence:
        by_arm.setdefault((str(one.config.model), one.arm), []).append(one)
    arms = tuple(_arm(runs, sample) for runs in by_arm.values())
    pairs = _corrected(
        [
            _pair(by_arm[first], by_arm[second], sample)
            for first, second in combinations(by_arm, 2)
            if first[0] == second[0]
        ]
    )
    metrics = evidence[0].metrics
    comparison = Comparison(
        task=metrics["task"],
        dataset=metrics["dataset"],
        title=title,
        split=metrics["split"],
        main_metric=sample.metric,
        n_cases=len(sample.case_ids),
        n_groups=len(np.unique(sample.groups)),
        group_kind=metrics["group_kind"],
        synthetic=bool(metrics["synthetic"]),
        arms=arms,
        pairs=tuple(pairs),
        common=_common(evidence),
        notices=(),
        looks=sum(one.looks for one in evidence),
        versions=tuple(sorted({str(one.metrics["run"]["tool_version"]) for one in evidence})),
        created=created,
    )
    return replace(comparison, notices=tuple(notices(comparison)))


def _arm(runs: Sequence[Evidence], sample: Sample) -> Arm:
    effects = sample.mean(runs)
    keys = [k for k in runs[0].metrics["metrics"] if all(k in r.metrics["metrics"] for r in runs)]
    figures = {k: _figure([r.metrics["metrics"][k]["value"] for r in runs]) for k in keys}
    measured = [r.sharpness for r in runs if r.sharpness]
    passes = [passes_per_step(r.config) for r in runs]
    return Arm(
        name=runs[0].arm,
        model=str(runs[0].config.model),
        optimizer=runs[0].config.optimizer,
        runs=tuple(r.name for r in runs),
        replicates=tuple(r.replicate for r in runs),
        figures=figures,
        main=effects.mean,
        sd_seeds=effects.sd_seeds if len(runs) > 1 else None,
        cost=Cost(
            epochs=float(np.mean([r.result["epochs"] for r in runs])),
            steps=float(np.mean([r.result["steps"] for r in runs])),
            passes=float(np.mean([p * r.result["steps"] for p, r in zip(passes, runs, strict=True)])),
            minutes=float(np.mean([r.result["seconds"] for r in runs])) / 60,
        ),
        sharpness=_sharpness(measured),
        lines=tuple(m for m in measured if m.get("line")),
    )


def _figure(values: Sequence[float | None]) -> ArmFigure:
    numbers = np.array([np.nan if v is None else v for v in values], dtype=float)
    known = numbers[np.isfinite(numbers)]
    return ArmFigure(
        tuple(numbers.tolist()),
        float(known.mean()) if len(known) else float("nan"),
        float(known.std(ddof=1)) if len(known) > 1 else float("nan"),
    )


def _sharpness(measured: Sequence[Any]) -> dict[str, ArmFigure]:
    if not measured:
        return {}
    return {
        "largest_eigenvalue": _figure([m["hessian"]["largest"][0] for m in measured]),
        "trace": _figure([m["hessian"]["trace"] for m in measured]),
        "increase_within_rho": _figure([m["worst_loss"]["increase"] for m in measured]),
    }


def _pair(first: Sequence[Evidence], second: Sequence[Evidence], sample: Sample) -> Pair:
    """Compare two arms by the seeds and folds that both have."""
    ones, twos = ({run.replicate: run for run in runs} for runs in (first, second))
    shared = [key for key in ones if key in twos]
    if not shared:
        nothing = Estimate.undefined("the arms have no seed in common")
        return Pair(_model(first), first[0].arm, second[0].arm, nothing, None, None, None, (), (), None)
    a, b = [ones[key] for key in shared], [twos[key] for key in shared]
    effects = sample.difference(a, b)
    one = np.ones((1, sample.resamples.n_groups))
    by_seed = tuple(
        (f"{seed}" if fold is None else f"{seed}, fold {fold}", _at(sample, y, one) - _at(sample, x, one))
        for (seed, fold), x, y in zip(shared, a, b, strict=True)
    )
    tests = tuple(
        NamedTest(t.method, question, t.difference, t.p_value, None, t.effect_size, t.effect_name)
        for question, t in sample.tests(a, b)
    )
    effect = None
    if sample.metric == "dice":
        mean_a, mean_b = (np.mean([sample.values(r) for r in runs], axis=0) for runs in (a, b))
        effect = cohens_dz(mean_b, mean_a)
    return Pair(
        model=_model(first),
        first=first[0].arm,
        second=second[0].arm,
        difference=effects.mean,
        p_value=effects.p_value,
        p_holm=None,
        sd_seeds=effects.sd_seeds if len(shared) > 1 else None,
        by_seed=by_seed,
        tests=tests,
        effect=effect,
    )


def _at(sample: Sample, run: Evidence, weights: np.ndarray) -> float:
    return float(sample.statistic(run)(weights)[0])


def _model(runs: Sequence[Evidence]) -> str:
    return str(runs[0].config.model)


def _corrected(pairs: list[Pair]) -> list[Pair]:
    """Correct each test's p values over all pairs it was made for."""
    main = holm([pair.p_value for pair in pairs])
    methods = dict.fromkeys(test.method for pair in pairs for test in pair.tests)
    corrected: dict[tuple[int, str], float | None] = {}
    for method in methods:
        p = [next((t.p_value for t in pair.tests if t.method == method), None) for pair in pairs]
        corrected |= {(i, method): value for i, value in enumerate(holm(p))}
    return [
        replace(
            pair,
            p_holm=main[i],
            tests=tuple(replace(test, p_holm=corrected[i, test.method]) for test in pair.tests),
        )
        for i, pair in enumerate(pairs)
    ]


def _common(evidence: Sequence[Evidence]) -> dict[str, Any]:
    """Settings that all runs share."""
    dumped = [one.config.model_dump(mode="json", exclude=set(MACHINE_FIELDS)) for one in evidence]
    return {k: v for k, v in dumped[0].items() if all(d[k] == v for d in dumped)}

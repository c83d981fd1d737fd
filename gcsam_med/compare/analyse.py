"""From finished runs to their comparison. Nothing here reads a file or runs a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from gcsam_med.compare.finished_runs import FinishedRun
from gcsam_med.compare.paired_cases import PairedCases, of_shared_seeds, paired_cases
from gcsam_med.metrics.intervals import Estimate
from gcsam_med.metrics.paired import cohens_dz, holm
from gcsam_med.reporting.comparison import (
    MIN_SEEDS,
    AgainstMargin,
    Arm,
    ArmMetric,
    Comparison,
    Cost,
    NamedTest,
    Pair,
    Tuning,
)
from gcsam_med.reporting.report import RESEARCH_ONLY, SPLIT_NOTICES, Notice
from gcsam_med.reporting.text import arm_and_factor, count, number, readable_arm
from gcsam_med.runs.folder import MACHINE_FIELDS
from gcsam_med.training.cost import passes_per_step

_FEW_SEEDS = 5
_EQUAL_COST = 1.1


def compare(
    finished: Sequence[FinishedRun],
    *,
    title: str,
    created: str,
    n_resamples: int = 2000,
    seed: int = 0,
    tuning: tuple[Tuning, ...] = (),
    margin: float | None = None,
    margin_before: bool = True,
) -> Comparison:
    """Compare the arms of finished, comparable runs, those of the reference arm first.

    `title` is the data set's name for people, `created` the UTC time in ISO form, `n_resamples` and `seed`
    are of the bootstrap, `tuning` tells how settings of the arms were chosen, `margin` is the difference
    below which arms count as equally good. The result holds every arm, and every two arms of one network; p
    values are corrected after Holm over all pairs.
    """
    paired = paired_cases(finished, n_resamples=n_resamples, seed=seed)
    by_arm: dict[tuple[str, str], list[FinishedRun]] = {}
    for one in finished:
        by_arm.setdefault((one.model, one.arm), []).append(one)
    arms = tuple(_arm(runs, paired) for runs in by_arm.values())
    chosen = [(a, b) for a, b in combinations(by_arm, 2) if a[0] == b[0]]
    pairs = _corrected([_pair(by_arm[a], by_arm[b], paired, len(chosen), margin) for a, b in chosen])
    metrics = finished[0].metrics
    comparison = Comparison(
        task=metrics["task"],
        dataset=metrics["dataset"],
        title=title,
        split=metrics["split"],
        main_metric=paired.metric,
        n_cases=len(paired.case_ids),
        n_groups=len(np.unique(paired.groups)),
        group_kind=metrics["group_kind"],
        synthetic=bool(metrics["synthetic"]),
        arms=arms,
        pairs=tuple(pairs),
        common=_common(finished),
        notices=(),
        looks=sum(one.looks for one in finished),
        versions=tuple(sorted({str(one.metrics["run"]["tool_version"]) for one in finished})),
        created=created,
        tuning=tuning,
        margin=margin,
        margin_before=margin_before,
        policy=metrics["policy"],
    )
    return replace(comparison, notices=tuple(notices(comparison)))


def _arm(runs: Sequence[FinishedRun], paired: PairedCases) -> Arm:
    effects = paired.mean(runs)
    keys = [k for k in runs[0].metrics["metrics"] if all(k in r.metrics["metrics"] for r in runs)]
    values = {k: _over_runs([r.metrics["metrics"][k]["value"] for r in runs]) for k in keys}
    measured = [r.sharpness for r in runs if r.sharpness]
    passes = [passes_per_step(r.config) for r in runs]
    return Arm(
        name=runs[0].arm,
        model=runs[0].model,
        optimizer=runs[0].config.optimizer,
        runs=tuple(r.name for r in runs),
        replicates=tuple(r.replicate for r in runs),
        metrics=values,
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


def _over_runs(values: Sequence[float | None]) -> ArmMetric:
    numbers = np.array([np.nan if v is None else v for v in values], dtype=float)
    known = numbers[np.isfinite(numbers)]
    return ArmMetric(
        tuple(numbers.tolist()),
        float(known.mean()) if len(known) else float("nan"),
        float(known.std(ddof=1)) if len(known) > 1 else float("nan"),
    )


def _sharpness(measured: Sequence[Any]) -> dict[str, ArmMetric]:
    if not measured:
        return {}
    return {
        "largest_eigenvalue": _over_runs([m["hessian"]["largest"][0] for m in measured]),
        "trace": _over_runs([m["hessian"]["trace"] for m in measured]),
        "increase_within_rho": _over_runs([m["worst_loss"]["increase"] for m in measured]),
    }


def _pair(
    first: Sequence[FinishedRun],
    second: Sequence[FinishedRun],
    paired: PairedCases,
    n_pairs: int,
    margin: float | None,
) -> Pair:
    """Compare two arms by the seeds and folds that both have."""
    a, b = of_shared_seeds(first, second)
    if not a:
        nothing = Estimate.undefined("the arms have no seed in common")
        return Pair(first[0].model, first[0].arm, second[0].arm, nothing, None, None, None, (), (), None)
    effects = paired.difference(a, b)
    by_seed = tuple((_seed_and_fold(x), paired.point(y) - paired.point(x)) for x, y in zip(a, b, strict=True))
    tests = tuple(
        NamedTest(t.method, question, t.difference, t.p_value, None, t.effect_size, t.effect_name)
        for question, t in paired.tests(a, b)
    )
    effect = None
    if paired.metric == "dice":
        mean_a, mean_b = (np.mean([paired.values(r) for r in runs], axis=0) for runs in (a, b))
        effect = cohens_dz(mean_b, mean_a)
    against = None if margin is None else effects.against(margin)
    return Pair(
        model=first[0].model,
        first=first[0].arm,
        second=second[0].arm,
        difference=effects.mean,
        p_value=effects.p_value,
        p_holm=None,
        sd_seeds=effects.sd_seeds if len(a) > 1 else None,
        by_seed=by_seed,
        tests=tests,
        effect=effect,
        against_margin=None if against is None else AgainstMargin(against.p_not_worse, against.p_equivalent),
        detectable=effects.detectable(n_pairs),
    )


def _seed_and_fold(run: FinishedRun) -> str:
    seed, fold = run.replicate
    return f"{seed}" if fold is None else f"{seed}, fold {fold}"


def _corrected(pairs: list[Pair]) -> list[Pair]:
    """Correct each test's p values over all pairs it was made for."""
    main = holm([pair.p_value for pair in pairs])
    not_worse, equivalent = (
        holm([getattr(pair.against_margin, name, None) for pair in pairs])
        for name in ("p_not_worse", "p_equivalent")
    )
    methods = dict.fromkeys(test.method for pair in pairs for test in pair.tests)
    corrected: dict[tuple[int, str], float | None] = {}
    for method in methods:
        p = [next((t.p_value for t in pair.tests if t.method == method), None) for pair in pairs]
        corrected |= {(i, method): value for i, value in enumerate(holm(p))}
    return [
        replace(
            pair,
            p_holm=main[i],
            against_margin=pair.against_margin
            and replace(pair.against_margin, p_not_worse_holm=not_worse[i], p_equivalent_holm=equivalent[i]),
            tests=tuple(replace(test, p_holm=corrected[i, test.method]) for test in pair.tests),
        )
        for i, pair in enumerate(pairs)
    ]


def _common(finished: Sequence[FinishedRun]) -> dict[str, Any]:
    """Settings that all runs share."""
    dumped = [one.config.model_dump(mode="json", exclude=set(MACHINE_FIELDS)) for one in finished]
    return {k: v for k, v in dumped[0].items() if all(d[k] == v for d in dumped)}


def notices(comparison: Comparison) -> list[Notice]:
    """Collect what limits the comparison, the most serious first."""
    kind = comparison.group_kind
    return [
        *_about_cases(comparison),
        *([SPLIT_NOTICES[kind]] if kind in SPLIT_NOTICES else []),
        *_about_seeds(comparison),
        *_about_margin(comparison),
        *_about_arms(comparison),
        *_about_looks(comparison),
        RESEARCH_ONLY,
    ]


def _about_cases(comparison: Comparison) -> Iterator[Notice]:
    if comparison.synthetic:
        yield Notice(
            "synthetic",
            "Synthetic images",
            "The images were generated. The results show that the software works and say nothing about "
            "patients.",
            stamp=True,
        )
    if comparison.split in ("val", "train"):
        validation = comparison.split == "val"
        used = (
            "The epoch, threshold and temperature of each model were chosen on these cases."
            if validation
            else "The models were trained on these cases."
        )
        yield Notice(
            f"{comparison.split}-cases",
            "Validation cases" if validation else "Training cases",
            f"{used} The metrics are too good; compare on the test split.",
            stamp=True,
        )


def _about_seeds(comparison: Comparison) -> Iterator[Notice]:
    fewest = min(len(arm.runs) for arm in comparison.arms)
    if fewest < MIN_SEEDS:
        yield Notice(
            "one-seed" if fewest == 1 else "two-seeds",
            "One seed" if fewest == 1 else "Two seeds",
            "Another seed may change the result more than the method does, so no arm can be called better: "
            f"that needs {MIN_SEEDS} seeds, and five are better. Use --seeds 0-4.",
            stamp=True,
        )
    elif fewest < _FEW_SEEDS:
        text = "With so few seeds, the variation between seeds is itself uncertain."
        yield Notice("few-seeds", f"{fewest} seeds", text)
    # For each pair without a difference shown: how large a true one would have been shown.
    found = [
        f"{number(pair.detectable)} between {readable_arm(pair.first)} and {readable_arm(pair.second)}"
        for pair in comparison.pairs
        if pair.verdict == "no difference shown" and pair.detectable is not None
    ]
    if found:
        yield Notice(
            "power",
            "No difference shown",
            "'No difference shown' does not mean that there is none. With these cases and seeds a true "
            "difference would have been shown in 80 % of studies (strictest level of Holm's correction) "
            f"from: {'; '.join(found)}.",
        )


def _about_margin(comparison: Comparison) -> Iterator[Notice]:
    if comparison.margin is not None and not comparison.margin_before:
        yield Notice(
            "margin-afterwards",
            "Margin named afterwards",
            f"The margin of {comparison.margin:g} was named when the results were there, so it may have been "
            "chosen to fit them. Plan a study with --margin instead.",
            stamp=True,
        )


def _about_arms(comparison: Comparison) -> Iterator[Notice]:
    by_model = [comparison.arms_of(model) for model in comparison.models]
    for arms in by_model:
        # An arm and the one with more epochs that --equal-compute adds count as one.
        passes: dict[str, float] = {}
        for arm in arms:
            recipe = arm_and_factor(arm.name)[0]
            passes[recipe] = max(arm.cost.passes, passes.get(recipe, 0.0))
        cheapest = min(passes, key=passes.__getitem__)
        factor = max(passes.values()) / passes[cheapest] if passes[cheapest] else 1.0
        if factor > _EQUAL_COST:
            yield Notice(
                "cost",
                "Unequal cost",
                f"The most expensive arm made {factor:.1f} times the gradient computations "
                f"of {readable_arm(cheapest)}; part of a gain may come from computing more. "
                "--equal-compute adds the fair baseline.",
            )
            break
    edges = [
        f"{readable_arm(one.arm)} ({', '.join(one.at_edge)})" for one in comparison.tuning if one.at_edge
    ]
    if edges:
        yield Notice(
            "tuning-edge",
            "Tuned to the edge",
            "The best value on validation was the smallest or largest that was tried, so a better one may "
            f"lie beyond: {'; '.join(edges)}. Choose another --lr or --rho to begin with.",
        )
    tuned = any("lr" in one.chosen for one in comparison.tuning)
    if len({arm.optimizer for arm in comparison.arms}) > 1 and "lr" in comparison.common and not tuned:
        yield Notice(
            "tuning",
            "One learning rate for all",
            f"All arms used lr {comparison.common['lr']:g}, tuned for none of them here; the ranking may "
            "change where each has its own.",
        )
    for arms in by_model:
        if len({arm.replicates for arm in arms}) > 1:
            listing = ", ".join(f"{readable_arm(a.name)} {count(len(a.replicates), 'run')}" for a in arms)
            yield Notice(
                "unequal-seeds",
                "Some runs are missing",
                f"Pairs are compared on the seeds both arms have ({listing}).",
            )
            break


def _about_looks(comparison: Comparison) -> Iterator[Notice]:
    if {fold for arm in comparison.arms for _, fold in arm.replicates} != {None}:
        yield Notice(
            "folds",
            "Folds share images",
            "Runs of different folds were trained on overlapping images and are counted like seeds; all were "
            f"evaluated on the same {comparison.split} cases.",
        )
    runs = sum(len(arm.runs) for arm in comparison.arms)
    if comparison.split == "test" and comparison.looks > runs:
        yield Notice(
            "looks",
            f"Test set used {comparison.looks} times",
            f"These {runs} runs were evaluated {comparison.looks} times on it. Choosing among them by it "
            "makes the choice look better than it is.",
        )

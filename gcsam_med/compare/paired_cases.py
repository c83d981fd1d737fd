"""One set of cases that several runs answered, and their metrics as functions of group weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gcsam_med.compare.finished_runs import FinishedRun
from gcsam_med.metrics.intervals import (
    Estimate,
    Resamples,
    Statistic,
    bootstrap,
    function_of_sums,
    mean_of,
    resample_groups,
    weighted,
    within_unit,
)
from gcsam_med.metrics.paired import PairedTest, delong_test, mcnemar, paired_bootstrap, wilcoxon_signed_rank
from gcsam_med.metrics.roc import auc_of_weights
from gcsam_med.metrics.seeds import SeedEffects, crossed_effects, crossed_statistic


@dataclass(frozen=True)
class PairedCases:
    """The cases that count in the main metric, and how a run is scored on them."""

    metric: str  #: ``dice``, ``auc`` or ``balanced_accuracy``.
    case_ids: np.ndarray  #: ndarray of str, shape (n,): Cases that count.
    #: groups, labels: ndarray of str, shape (n,): Of each.
    groups: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]  #: In the order of the runs' probabilities; empty for segmentation.
    #: n_resamples, seed: Of the bootstrap.
    n_resamples: int
    seed: int

    @cached_property
    def resamples(self) -> Resamples:
        """The bootstrap draws, the same for every metric and every pair."""
        rng = np.random.default_rng(self.seed)
        return resample_groups(self.groups, rng, strata=self.labels, n_resamples=self.n_resamples)

    def values(self, run: FinishedRun) -> np.ndarray:
        """A run's score of each case, float (n,): its Dice, or whether its class is right."""
        column = "dice" if self.metric == "dice" else "correct"
        return run.cases.loc[self.case_ids, column].astype(float).to_numpy()

    def scores(self, run: FinishedRun) -> np.ndarray:
        """A run's probability of the positive class, float (n,)."""
        return run.cases.loc[self.case_ids, f"prob_{self.classes[-1]}"].astype(float).to_numpy()

    @property
    def positive(self) -> np.ndarray:
        """Which cases are positive, bool (n,)."""
        return self.labels == self.classes[-1]

    def statistic(self, run: FinishedRun) -> Statistic:
        """A run's main metric as a function of group weights."""
        if self.metric == "dice":
            return mean_of(self.values(run), self.resamples)
        if self.metric == "auc":
            return weighted(auc_of_weights(self.positive, self.scores(run)), self.resamples)
        of_class = np.stack([self.labels == name for name in self.classes], axis=1).astype(float)
        right = of_class * self.values(run)[:, None]
        k = len(self.classes)

        def mean_recall(sums: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray((sums[:, :k] / sums[:, k:]).mean(axis=1))

        return function_of_sums(np.concatenate([right, of_class], axis=1), mean_recall, self.resamples)

    def point(self, run: FinishedRun) -> float:
        """A run's main metric over all cases."""
        return float(self.statistic(run)(np.ones((1, self.resamples.n_groups)))[0])

    def mean(self, runs: Sequence[FinishedRun]) -> SeedEffects:
        """The main metric over the runs of one arm, with its variation over cases and seeds."""
        if len(runs) == 1:
            return SeedEffects(bootstrap(self.statistic(runs[0]), self.resamples), None, 0.0, 0.0)
        if self.metric == "dice":
            values = np.stack([self.values(r) for r in runs])
            return _within_unit(_effects(lambda: crossed_effects(values, self.groups)))
        statistics = [self.statistic(r) for r in runs]
        return _within_unit(_effects(lambda: crossed_statistic(statistics, self.resamples)))

    def difference(self, first: Sequence[FinishedRun], second: Sequence[FinishedRun]) -> SeedEffects:
        """Second minus first, run by run of the same seed, with the variation over cases and seeds."""
        if len(first) == 1:
            test = paired_bootstrap(self.statistic(second[0]), self.statistic(first[0]), self.resamples)
            return SeedEffects(test.difference, test.p_value, 0.0, 0.0)
        if self.metric == "dice":
            values = np.stack([self.values(b) - self.values(a) for a, b in zip(first, second, strict=True)])
            return _effects(lambda: crossed_effects(values, self.groups))
        pairs = [(self.statistic(a), self.statistic(b)) for a, b in zip(first, second, strict=True)]
        return _effects(lambda: crossed_statistic([_minus(b, a) for a, b in pairs], self.resamples))

    def tests(
        self, first: Sequence[FinishedRun], second: Sequence[FinishedRun]
    ) -> list[tuple[str, PairedTest]]:
        """The field's usual tests of the same pair, each with the question it answers; second minus first."""
        over = "" if len(first) == 1 else " (mean over seeds)"
        one, two = (_mean([self.statistic(r) for r in runs]) for runs in (first, second))
        found = [(f"{_TITLE[self.metric]}{over}", paired_bootstrap(two, one, self.resamples))]
        if self.metric == "dice":
            a, b = (np.mean([self.values(r) for r in runs], axis=0) for runs in (first, second))
            found.append((f"Dice of each group{over}", wilcoxon_signed_rank(b, a, self.groups)))
            return found
        if self.metric == "auc":
            a, b = (np.mean([self.scores(r) for r in runs], axis=0) for runs in (first, second))
            averaged = "AUC" if len(first) == 1 else "AUC of the probabilities averaged over seeds"
            found.append((averaged, delong_test(self.positive, b, a, self.groups)))
        a, b = (np.mean([self.values(r) for r in runs], axis=0) > 0.5 for runs in (first, second))
        calls = "calls" if len(first) == 1 else "calls by most seeds"
        found.append((f"accuracy of the {calls}", mcnemar(b, a, self.groups)))
        return found


_TITLE = {"dice": "mean Dice", "auc": "AUC", "balanced_accuracy": "balanced accuracy"}


def paired_cases(finished: Sequence[FinishedRun], *, n_resamples: int, seed: int) -> PairedCases:
    """Choose the main metric and the cases that count in it."""
    cases, metric = finished[0].cases, finished[0].main_metric
    if metric == "dice":  # lesion images: there Dice is a number, for the same cases in every run
        cases = cases[cases["dice"].astype(str) != ""]
    return PairedCases(
        metric=metric,
        case_ids=cases.index.to_numpy(dtype=str),
        groups=cases["group_id"].to_numpy(dtype=str),
        labels=cases["label"].to_numpy(dtype=str),
        classes=finished[0].classes,
        n_resamples=n_resamples,
        seed=seed,
    )


def of_shared_seeds(
    first: Sequence[FinishedRun], second: Sequence[FinishedRun]
) -> tuple[list[FinishedRun], list[FinishedRun]]:
    """The runs of two arms with seeds and folds that both have, in the same order."""
    ones, twos = ({run.replicate: run for run in runs} for runs in (first, second))
    shared = [key for key in ones if key in twos]
    return [ones[key] for key in shared], [twos[key] for key in shared]


def _minus(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights: first(weights) - second(weights)


def _mean(statistics: Sequence[Statistic]) -> Statistic:
    return lambda weights: np.mean([statistic(weights) for statistic in statistics], axis=0)


def _effects(compute: Callable[[], SeedEffects]) -> SeedEffects:
    """What `compute` gives, or why it cannot: a metric that is undefined with one class or one group."""
    try:
        return compute()
    except ValueError as error:
        return SeedEffects(Estimate.undefined(str(error)), None, 0.0, 0.0)


def _within_unit(effects: SeedEffects) -> SeedEffects:
    """Cut an interval of Student's t to the 0 to 1 that a Dice or an area can take."""
    return replace(effects, mean=replace(effects.mean, ci95=within_unit(effects.mean.ci95)))

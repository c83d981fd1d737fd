"""What evaluating a test set costs beyond the network: cases measured, metrics resampled.

::

    python benchmarks/metrics.py

Synthetic masks of an ultrasound image's size with one lesion each, as smooth and as far off as a fair
network's predictions; synthetic scores. Prints seconds passed and seconds of the processor, and last the peak
memory.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.intervals import bootstrap, mean_of, resample_groups, weighted
from gcsam_med.metrics.paired import delong_test, paired_bootstrap, wilcoxon_signed_rank
from gcsam_med.metrics.roc import auc_of_weights, delong_auc
from gcsam_med.metrics.seeds import crossed_effects
from gcsam_med.metrics.segmentation import MaskPair
from gcsam_med.metrics.summary import (
    SegmentationCase,
    classification_estimates,
    measure_case,
    segmentation_estimates,
)

SHAPE, N_CASES, N_MANY = (500, 600), 780, 10_000


T = TypeVar("T")


def timed(what: str, call: Callable[[], T]) -> T:
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    print(f"{what:<76}{time.perf_counter() - wall:7.2f} s {time.process_time() - cpu:7.2f} s CPU")
    return result


def lesion(rng: np.random.Generator, row: float, column: float, radius: float) -> npt.NDArray[np.bool_]:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    angle = np.arctan2(rows - row, columns - column)
    wobble = 1 + 0.1 * np.sin(rng.integers(3, 8) * angle + rng.uniform(0, 6))
    return (rows - row) ** 2 * 1.6 + (columns - column) ** 2 < (radius * wobble) ** 2


def masks(rng: np.random.Generator) -> list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """780 pairs: 17 % normals, 5 % of lesions missed."""
    pairs = []
    for _ in range(N_CASES):
        row, column, radius = rng.uniform(150, 350), rng.uniform(150, 450), rng.uniform(20, 120)
        truth = lesion(rng, row, column, radius)
        pred = lesion(rng, row + rng.normal(0, 8), column + rng.normal(0, 8), radius * rng.uniform(0.8, 1.2))
        normal, missed = rng.random() < 0.17, rng.random() < 0.05
        pairs.append((pred & (not missed), truth & (not normal)))
    return pairs


def main() -> None:
    rng = np.random.default_rng(0)
    pairs = masks(rng)
    groups = np.arange(N_CASES) * 639 // N_CASES

    def measure() -> list[SegmentationCase]:
        return [measure_case(MaskPair(pred, truth, tolerance=2.0)) for pred, truth in pairs]

    cases = timed(f"{N_CASES} cases of {SHAPE[0]} x {SHAPE[1]}: every segmentation metric", measure)
    timed("their means with intervals, 2,000 resamples", lambda: segmentation_estimates(cases, groups, rng))
    for n_classes in (2, 3):
        y = rng.integers(0, n_classes, N_CASES)
        prob = rng.dirichlet(np.ones(n_classes), N_CASES)
        timed(
            f"{N_CASES} cases of {n_classes} classes: every classification metric, 2,000 resamples",
            partial(classification_estimates, y, prob, groups, rng),
        )
    positive = rng.random(N_MANY) < 0.5
    score, other = (positive + rng.normal(size=N_MANY) for _ in range(2))
    for name, group in (("single", np.arange(N_MANY)), ("groups of 3", np.arange(N_MANY) // 3)):
        draws = resample_groups(group, rng, strata=positive)
        timed(
            f"AUC of {N_MANY} cases ({name}), 2,000 resamples, BCa",
            partial(bootstrap, weighted(auc_of_weights(positive, score), draws), draws),
        )
    draws = resample_groups(np.arange(N_MANY), rng)
    timed(f"DeLong interval of {N_MANY} cases", lambda: delong_auc(positive, score))
    timed(f"DeLong test of {N_MANY} cases", lambda: delong_test(positive, score, other))
    timed(
        f"paired bootstrap of two means of {N_MANY} cases, 2,000 resamples",
        lambda: paired_bootstrap(mean_of(score, draws), mean_of(other, draws), draws),
    )
    timed(f"Wilcoxon signed-rank of {N_MANY} cases", lambda: wilcoxon_signed_rank(score, other))
    seeds = rng.normal(size=(5, N_MANY))
    timed(f"crossed effects of 5 seeds on {N_MANY} cases", lambda: crossed_effects(seeds, np.arange(N_MANY)))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()

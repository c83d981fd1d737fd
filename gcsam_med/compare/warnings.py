"""What a reader must know before using a comparison."""

from __future__ import annotations

from gcsam_med.optim import OPTIMIZERS
from gcsam_med.reporting.comparison import Arm, Comparison
from gcsam_med.reporting.report import Notice
from gcsam_med.reporting.text import count, number

_FEW_SEEDS = 5
_EQUAL_COST = 1.1


def notices(comparison: Comparison) -> list[Notice]:
    """Collect them, the weightiest first."""
    found = [
        _synthetic(comparison),
        _split_by_image(comparison),
        _seeds(comparison),
        _power(comparison),
        _cost(comparison),
        _tuning(comparison),
        _unequal_seeds(comparison),
        _folds(comparison),
        _looks(comparison),
    ]
    research = Notice(
        "research-only", "Not for clinical use", "Research software; nothing here is a diagnosis."
    )
    return [*(n for n in found if n is not None), research]


def _synthetic(comparison: Comparison) -> Notice | None:
    if not comparison.synthetic:
        return None
    return Notice(
        "synthetic",
        "Synthetic images",
        "The images were generated. The figures show that the software works and say nothing about patients.",
        stamp=True,
    )


def _split_by_image(comparison: Comparison) -> Notice | None:
    if comparison.group_kind != "image":
        return None
    return Notice(
        "image-split",
        "Split by image",
        "Images of one patient may be on both sides of the split, and cases are taken as independent: "
        "figures are too good and intervals too narrow.",
        stamp=True,
    )


def _seeds(comparison: Comparison) -> Notice | None:
    fewest = min(len(arm.runs) for arm in comparison.arms)
    if fewest == 1:
        return Notice(
            "one-seed",
            "One seed",
            "Intervals and tests know the chance of the cases only; another seed may change more than the "
            "recipe does. Use --seeds 0-4.",
            stamp=True,
        )
    if fewest < _FEW_SEEDS:
        return Notice(
            "few-seeds", f"{fewest} seeds", "The chance of the seed is known only roughly from so few runs."
        )
    return None


def _power(comparison: Comparison) -> Notice | None:
    """Say how small a difference could not have been shown."""
    halves = [
        (pair.difference.ci95[1] - pair.difference.ci95[0]) / 2
        for pair in comparison.pairs
        if pair.difference.ci95 is not None
    ]
    if not halves or len(comparison.shown) == len(comparison.pairs):
        return None
    return Notice(
        "power",
        "Absence of proof",
        f"With {count(comparison.n_cases, 'case')} in {count(comparison.n_groups, 'group')}, differences up "
        f"to about {number(max(halves))} would not be shown here; 'no difference shown' does not mean that "
        "there is none.",
    )


def _cost(comparison: Comparison) -> Notice | None:
    for model in comparison.models:
        arms = comparison.arms_of(model)
        plain = [a.cost.passes for a in arms if OPTIMIZERS[a.optimizer].perturbation is None]
        dear = [a.cost.passes for a in arms if OPTIMIZERS[a.optimizer].perturbation is not None]
        if plain and dear and max(dear) > _EQUAL_COST * max(plain):
            return Notice(
                "cost",
                "Unequal cost",
                f"The dearest arm made {max(dear) / max(plain):.1f} times the gradient computations of the "
                "plain optimizer; part of a gain may come from computing more. --equal-compute adds the fair "
                "baseline.",
            )
    return None


def _tuning(comparison: Comparison) -> Notice | None:
    if len({arm.optimizer for arm in comparison.arms}) == 1 or "lr" not in comparison.common:
        return None
    return Notice(
        "tuning",
        "One learning rate for all",
        f"All arms used lr {comparison.common['lr']:g}, tuned for none of them here; the ranking may change "
        "where each has its own.",
    )


def _unequal_seeds(comparison: Comparison) -> Notice | None:
    for model in comparison.models:
        arms = comparison.arms_of(model)
        if len({arm.replicates for arm in arms}) > 1:
            listing = ", ".join(f"{a.name} {_replicates(a)}" for a in arms)
            return Notice(
                "unequal-seeds",
                "Not all runs are there",
                f"Pairs are compared on the seeds both arms have ({listing}).",
            )
    return None


def _replicates(arm: Arm) -> str:
    return count(len(arm.replicates), "run")


def _folds(comparison: Comparison) -> Notice | None:
    folds = {fold for arm in comparison.arms for _, fold in arm.replicates}
    if folds == {None}:
        return None
    return Notice(
        "folds",
        "Folds share images",
        f"Runs of different folds were trained on overlapping images and are counted like seeds; all were "
        f"examined on the same {comparison.split} cases.",
    )


def _looks(comparison: Comparison) -> Notice | None:
    runs = sum(len(arm.runs) for arm in comparison.arms)
    if comparison.split != "test" or comparison.looks <= runs:
        return None
    return Notice(
        "looks",
        f"Test set used {comparison.looks} times",
        f"These {runs} runs were evaluated {comparison.looks} times on it. Choosing among them by it makes "
        "the choice look better than it is.",
    )

"""What a reader's ratings of the same cases are worth beside a model: cuts, area, agreement."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.intervals import (
    Estimate,
    Floats,
    Resamples,
    Statistic,
    bootstrap,
    function_of_sums,
    proportion,
    weighted,
)
from gcsam_med.metrics.paired import PairedTest, paired_bootstrap
from gcsam_med.metrics.roc import auc_of_weights

_BIRADS = re.compile(r"(?:bi-?rads[\s:_-]*)?([0-6])\s*([abc]?)", re.IGNORECASE)


@dataclass(frozen=True)
class Scale:
    """An ordered scale of ratings, the least suspicious first."""

    levels: tuple[str, ...]
    #: The least level that is a call for the finding: 4 or 4a of BI-RADS, the upper of two; None: not known.
    call_from: int | None


def read_scale(values: Sequence[str], classes: Sequence[str]) -> tuple[Scale, npt.NDArray[np.int64]]:
    """Order a reader's ratings; `classes` are the negative and the positive class of the model.

    Returns the scale and each case's level, -1 where there is no rating: empty, or BI-RADS 0 (incomplete). A
    rating is a BI-RADS category (``4a``, ``BI-RADS 3``), the name of a class, or a number. ValueError if they
    are none of these, or all the same.
    """
    texts = [str(value).strip() for value in values]
    given = sorted({text for text in texts if text})
    found: dict[str, tuple[float, str]]
    if {text.casefold() for text in given} <= {name.casefold() for name in classes}:
        order = [name.casefold() for name in classes]
        places = {text: order.index(text.casefold()) for text in given}
        found = {text: (float(place), classes[place]) for text, place in places.items()}
        call = float(len(order) - 1)
    elif all(_BIRADS.fullmatch(text) for text in given):
        parts = {text: _BIRADS.fullmatch(text) for text in given}
        found = {
            text: (float(m[1]) + " abc".index(m[2].lower() or " ") / 10, m[1] + m[2].lower())
            for text, m in parts.items()
            if m is not None and m[1] != "0"
        }
        call = 4.0
    else:
        try:
            found = {text: (float(text), text) for text in given}
        except ValueError as error:
            raise ValueError(
                f"holds {', '.join(given[:5])}, which are neither BI-RADS categories, nor numbers, nor "
                f"{' and '.join(classes)}"
            ) from error
        call = np.inf
    ranks = sorted({rank for rank, _ in found.values()})
    if len(ranks) < 2:
        raise ValueError("holds the same rating for every case, so there is nothing to compare")
    names = dict(found.values())
    level = {text: ranks.index(rank) for text, (rank, _) in found.items()}
    above = [i for i, rank in enumerate(ranks) if rank >= call]
    if call == np.inf and len(ranks) == 2:
        above = [1]
    call_from = above[0] if above and above[0] > 0 else None
    scale = Scale(tuple(names[rank] for rank in ranks), call_from)
    return scale, np.array([level.get(text, -1) for text in texts], dtype=np.int64)


def cuts(
    scale: Scale, level: npt.ArrayLike, positive: npt.ArrayLike, groups: npt.ArrayLike
) -> list[tuple[str, Estimate, Estimate]]:
    """Sensitivity and specificity of calling from each level on, [N] rated cases; Wilson by groups."""
    ratings, truth, group = np.asarray(level), np.asarray(positive, dtype=bool), np.asarray(groups)
    return [
        (
            scale.levels[k],
            proportion(ratings[truth] >= k, group[truth]),
            proportion(ratings[~truth] < k, group[~truth]),
        )
        for k in range(1, len(scale.levels))
    ]


def compare_auc(
    positive: npt.ArrayLike, score: npt.ArrayLike, level: npt.ArrayLike, resamples: Resamples
) -> tuple[Estimate, Estimate, PairedTest]:
    """Area of a model's score and of a reader's ratings on the same cases, and model minus reader.

    All [N]; by bootstrap over groups. The area of ratings is that under the straight lines between the cuts:
    ties count one half.
    """
    model, reader = (weighted(auc_of_weights(positive, s), resamples) for s in (score, level))
    return (
        bootstrap(model, resamples),
        bootstrap(reader, resamples),
        paired_bootstrap(model, reader, resamples),
    )


def weighted_kappa(first: npt.ArrayLike, second: npt.ArrayLike, resamples: Resamples) -> Estimate:
    """Agreement of two ratings [N] in whole numbers from 0, beyond chance, with an interval by groups.

    Disagreement counts by its square (Cohen, Psychological Bulletin 70(4), 1968; Fleiss and Cohen, Educ
    Psychol Meas 33(3), 1973); with two levels it is Cohen's plain kappa. Not defined where both always give
    the same level.
    """
    return bootstrap(_kappa(np.asarray(first), np.asarray(second), resamples), resamples)


def _kappa(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], resamples: Resamples) -> Statistic:
    n = int(max(first.max(), second.max())) + 1
    cells = np.zeros((len(first), n * n))
    cells[np.arange(len(first)), first * n + second] = 1.0
    square = np.subtract.outer(np.arange(n), np.arange(n)).astype(float) ** 2

    def kappa(sums: Floats) -> Floats:
        table = sums.reshape(-1, n, n)
        total = table.sum(axis=(1, 2))
        expected = np.einsum("bi,bj,ij->b", table.sum(axis=2), table.sum(axis=1), square)
        observed = np.einsum("bij,ij->b", table, square) * total
        return 1 - np.divide(observed, expected, out=np.full(len(table), np.nan), where=expected > 0)

    return function_of_sums(cells, kappa, resamples)

"""Readers beside the model: ratings in a column of the manifest, on the same cases."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np

from gcsam_med.config import EvaluateOptions
from gcsam_med.errors import InputError, unknown_name
from gcsam_med.evaluation.context import EvaluationContext, TaskResult
from gcsam_med.metrics.intervals import Estimate, Resamples, resample_groups
from gcsam_med.metrics.readers import Scale, compare_auc, cuts, read_scale, weighted_kappa
from gcsam_med.reporting.report import ReaderFacts


def check_readers(context: EvaluationContext, options: EvaluateOptions) -> None:
    """Refuse what cannot be compared, before the split is looked at."""
    if not options.reader:
        return
    if len(context.classes) != 2 or context.model.card.task != "classification":
        raise InputError(
            "--reader compares a reader with a model that tells two classes apart.",
            "Train one with --task classification --classes NEGATIVE,POSITIVE.",
        )
    for column in _columns(context, options):
        _scale(context, column, context.selection.rows)


def readers(
    context: EvaluationContext, result: TaskResult, options: EvaluateOptions
) -> tuple[ReaderFacts, ...]:
    """Compare each reader with the model, and the readers with each other, on the cases that both rated."""
    if not options.reader:
        return ()
    positive = result.cases["label"].to_numpy(str) == context.classes[1]
    score = result.cases[f"prob_{context.classes[1]}"].to_numpy(float)
    called = (result.cases["predicted"].to_numpy(str) == context.classes[1]).astype(np.int64)
    groups = context.groups(result.rows)
    rated = {column: _scale(context, column, result.rows) for column in _columns(context, options)}

    def draws(keep: np.ndarray) -> Resamples:
        rng = np.random.default_rng(options.seed)
        return resample_groups(groups[keep], rng, strata=positive[keep], n_resamples=options.resamples)

    agreement: dict[str, dict[str, Estimate]] = {column: {} for column in rated}
    for one, other in combinations(rated, 2):
        both = (rated[one][1] >= 0) & (rated[other][1] >= 0)
        if both.any() and rated[one][0].levels == rated[other][0].levels:
            kappa = weighted_kappa(rated[one][1][both], rated[other][1][both], draws(both))
            agreement[one][other] = agreement[other][one] = kappa
    found = []
    for column, (scale, level) in rated.items():
        keep = level >= 0
        model, reader, test = compare_auc(positive[keep], score[keep], level[keep], draws(keep))
        if scale.call_from is not None:
            calls = (level[keep] >= scale.call_from).astype(np.int64)
            agreement[column]["the model's calls"] = weighted_kappa(calls, called[keep], draws(keep))
        found.append(
            ReaderFacts(
                column=column,
                levels=scale.levels,
                n=int(keep.sum()),
                n_groups=len(np.unique(groups[keep])),
                left_out=int((~keep).sum()),
                call_from=None if scale.call_from is None else scale.levels[scale.call_from],
                cuts=tuple(cuts(scale, level[keep], positive[keep], groups[keep])),
                auc_model=model,
                auc_reader=reader,
                difference=test.difference,
                p_value=test.p_value,
                agreement=agreement[column],
            )
        )
    return tuple(found)


def _columns(context: EvaluationContext, options: EvaluateOptions) -> list[str]:
    """Find the columns that --reader names, in any spelling: ``BIRADS-reader1`` is birads_reader1."""
    known = {_letters(name): name for name in map(str, context.dataset.manifest.columns)}
    found = []
    for asked in options.reader:
        column = asked if asked in known.values() else known.get(_letters(asked))
        if column is None:
            likely = [name for letters, name in known.items() if re.search("reader|birads|rating", letters)]
            raise unknown_name("column of ratings", asked, likely or list(known.values()))
        found.append(column)
    return list(dict.fromkeys(found))


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _scale(context: EvaluationContext, column: str, rows: np.ndarray) -> tuple[Scale, np.ndarray]:
    try:
        return read_scale(context.dataset.manifest[column].iloc[rows].astype(str).tolist(), context.classes)
    except ValueError as error:
        raise InputError(f"--reader {column}: the column {error}.", "Name a column of ratings.") from error

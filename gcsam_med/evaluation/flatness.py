"""How sharp the minimum of a run is, on a sample of the cases it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gcsam_med.config import PathLike, SharpnessOptions
from gcsam_med.datasets.selection import select_cases
from gcsam_med.errors import InputError
from gcsam_med.evaluation.context import EvaluationContext, open_evaluation
from gcsam_med.fields import chosen
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.write import plain

if TYPE_CHECKING:
    import torch

    from gcsam_med.metrics.hessian import Objective


def measure_sharpness(
    run: PathLike, options: SharpnessOptions | None = None, *, track: Track = silent, **fields: Any
) -> dict[str, Any]:
    """Measure how sharp the minimum is that a run found.

    Parameters
    ----------
    run : str or path
        ``runs/NAME``.
    options : SharpnessOptions, optional
        What to measure; `fields` change it.
    track : Track
        Shows progress.
    **fields
        Fields of `SharpnessOptions`.

    Returns
    -------
    dict
        The content of ``sharpness.json``: the sample (cases of a split, drawn by the seed), their mean loss,
        eigenvalues and trace of its Hessian with their errors, the highest loss found within rho, and
        losses along filter-normalized directions. What is not finite is None.

    Raises
    ------
    InputError
        If the run or its data do not fit.
    """
    from gcsam_med.metrics.hessian import (
        filter_direction,
        hessian_spectrum,
        hessian_trace,
        loss_landscape,
        worst_loss,
    )

    options = chosen(SharpnessOptions, options, **fields)
    context = open_evaluation(Path(run), options.split, data_root=options.data_root, device=options.device)
    rows = _sample(context, options)
    objective = _objective(context, rows, options)
    rho = options.rho if options.rho is not None else _own_rho(context)
    directions = [filter_direction(objective, options.seed + i) for i in range(2)]
    line = surface = None
    if options.line_points:
        line = loss_landscape(
            objective, directions[0], radius=options.radius, points=options.line_points, track=track
        )
    if options.surface_points:
        surface = loss_landscape(
            objective, *directions, radius=options.radius, points=options.surface_points, track=track
        )
    spectrum = hessian_spectrum(objective, options.eigenvalues, seed=options.seed, track=track)
    trace = hessian_trace(objective, options.trace_samples, seed=options.seed, track=track)
    worst = worst_loss(objective, rho, seed=options.seed, track=track)
    content = {
        "schema": 1,
        "run": context.run.root.resolve().name,
        "optimizer": context.model.card.optimizer,
        "synthetic": context.dataset.info.synthetic,
        "weights_sha256": context.model.card.weights_sha256,
        # The run's own loss, without augmentation and, for classification, without class weights.
        "sample": {"split": options.split, "cases": len(rows), "loss": _loss_name(context)},
        "loss": objective.loss(objective.weights),
        "hessian": {
            "largest": list(spectrum.largest),
            "largest_errors": list(spectrum.largest_errors),
            "smallest": spectrum.smallest,
            "trace": trace.value,
            "trace_standard_error": trace.standard_error,
            "trace_samples": trace.samples,
        },
        "worst_loss": {
            "rho": worst.rho,
            "increase": worst.increase,
            "increase_first_order": worst.first_order,
        },
        "line": line and {"positions": line.positions.tolist(), "losses": line.losses.tolist()},
        "surface": surface and {"positions": surface.positions.tolist(), "losses": surface.losses.tolist()},
    }
    measured: dict[str, Any] = plain(content)
    return measured


def _sample(context: EvaluationContext, options: SharpnessOptions) -> np.ndarray:
    # Images without a lesion take part in evaluation, but not in the loss that was minimized.
    rows = select_cases(
        context.dataset,
        context.selection.rows,
        context.model.card.task,
        context.config.classes if context.model.card.task == "segmentation" else context.model.card.classes,
        healthy=False,
    ).rows
    if len(rows) == 0:
        raise InputError(
            f"The {options.split} split has no case to measure the loss on.", "Try another --split."
        )
    chosen = np.random.default_rng(options.seed).permutation(len(rows))[: options.cases]
    return np.asarray(rows[np.sort(chosen)])


def _objective(context: EvaluationContext, rows: np.ndarray, options: SharpnessOptions) -> Objective:
    import torch

    from gcsam_med.losses import build_loss
    from gcsam_med.metrics.hessian import Objective

    model, device = context.model, context.model.device
    loss = build_loss(_loss_name(context), smoothing=context.config.label_smoothing).to(device)
    batches = []
    for start in range(0, len(rows), options.batch_size):
        part = rows[start : start + options.batch_size]
        if model.card.task == "segmentation":
            targets = torch.from_numpy(context.dataset.masks(part)).unsqueeze(1).float()
        else:
            names = context.dataset.manifest["label"].to_numpy()[part]
            targets = torch.tensor([model.card.classes.index(name) for name in names])
        batches.append(
            (model.tensor(context.dataset.images(part)), targets.to(device), len(part) / len(rows))
        )

    def loss_of(
        network: Callable[..., torch.Tensor], batch: tuple[torch.Tensor, torch.Tensor, float]
    ) -> torch.Tensor:
        images, targets, share = batch
        return loss(network(images).float(), targets) * share

    return Objective(model.network, loss_of, batches)


def _loss_name(context: EvaluationContext) -> str:
    from gcsam_med.losses import default_loss

    return context.config.loss or default_loss(context.model.card.task)


def _own_rho(context: EvaluationContext) -> float:
    rho = context.config.rho
    return float(rho) if isinstance(rho, float | int) and rho > 0 else 0.05

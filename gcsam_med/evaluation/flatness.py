"""How sharp the minimum of a run is, on a sample of the cases it was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gcsam_med.config import PathLike, SharpnessOptions, chosen
from gcsam_med.datasets.selection import select_cases
from gcsam_med.errors import InputError
from gcsam_med.evaluation.context import EvaluationContext, open_evaluation
from gcsam_med.progress import Track, silent

if TYPE_CHECKING:
    import torch

    from gcsam_med.metrics.hessian import Landscape, Objective, Spectrum, Trace, WorstLoss


@dataclass(frozen=True)
class Sharpness:
    """What was measured of a run."""

    run: str  #: Its name.
    optimizer: str  #: What it was trained with.
    #: The loss: the run's own, without augmentation and, for classification, without class weights.
    loss_name: str
    #: split, cases: The sample: so many cases of this split, drawn by the seed.
    split: str
    cases: int
    loss: float  #: Its mean loss at the weights.
    spectrum: Spectrum  #: Largest and smallest eigenvalues of the Hessian.
    trace: Trace  #: Sum of all eigenvalues, with its standard error.
    worst: WorstLoss  #: Highest loss found within rho.
    #: line, surface: Losses along filter-normalized directions.
    line: Landscape | None
    surface: Landscape | None
    synthetic: bool  #: Whether the images are generated.
    weights_sha256: str  #: The weights it was measured of.

    def to_json(self) -> dict[str, Any]:
        """As plain data, for ``sharpness.json``; what is not finite becomes None."""
        return {
            "schema": 1,
            "run": self.run,
            "optimizer": self.optimizer,
            "synthetic": self.synthetic,
            "weights_sha256": self.weights_sha256,
            "sample": {"split": self.split, "cases": self.cases, "loss": self.loss_name},
            "loss": self.loss,
            "hessian": {
                "largest": list(self.spectrum.largest),
                "largest_errors": list(self.spectrum.largest_errors),
                "smallest": _finite(self.spectrum.smallest),
                "trace": self.trace.value,
                "trace_standard_error": self.trace.standard_error,
                "trace_samples": self.trace.samples,
            },
            "worst_loss": {
                "rho": self.worst.rho,
                "increase": self.worst.increase,
                "increase_first_order": self.worst.first_order,
            },
            "line": _landscape(self.line),
            "surface": _landscape(self.surface),
        }


def measure_sharpness(
    run: PathLike, options: SharpnessOptions | None = None, *, track: Track = silent, **fields: Any
) -> Sharpness:
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
    Sharpness
        All measures.

    Raises
    ------
    InputError
        If the run or its data do not fit.
    """
    from gcsam_med.metrics.hessian import (
        filter_direction,
        hessian_spectrum,
        hessian_trace,
        loss_line,
        loss_surface,
        worst_loss,
    )

    options = chosen(SharpnessOptions, options, **fields)
    context = open_evaluation(Path(run), options.split, data_root=options.data_root, device=options.device)
    rows = _sample(context, options)
    objective = _objective(context, rows, options)
    rho = options.rho if options.rho is not None else _own_rho(context)
    first = filter_direction(objective, options.seed)
    line = surface = None
    if options.line_points:
        line = loss_line(objective, first, radius=options.radius, points=options.line_points, track=track)
    if options.surface_points:
        second = filter_direction(objective, options.seed + 1)
        surface = loss_surface(
            objective, first, second, radius=options.radius, points=options.surface_points, track=track
        )
    return Sharpness(
        run=context.run.root.resolve().name,
        optimizer=context.model.card.optimizer,
        loss_name=_loss_name(context),
        split=options.split,
        cases=len(rows),
        loss=objective.loss(objective.weights),
        spectrum=hessian_spectrum(objective, options.eigenvalues, seed=options.seed, track=track),
        trace=hessian_trace(objective, options.trace_samples, seed=options.seed, track=track),
        worst=worst_loss(objective, rho, seed=options.seed, track=track),
        line=line,
        surface=surface,
        synthetic=context.dataset.info.synthetic,
        weights_sha256=context.model.card.weights_sha256,
    )


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


def _landscape(landscape: Landscape | None) -> dict[str, Any] | None:
    if landscape is None:
        return None
    losses = landscape.losses.tolist()
    return {
        "positions": landscape.positions.tolist(),
        "losses": [[_finite(v) for v in row] if isinstance(row, list) else _finite(row) for row in losses],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

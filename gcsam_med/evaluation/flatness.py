"""How sharp the minimum of a run is, on a sample of the cases it was trained on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gcsam_med.config import PathLike, SharpnessOptions
from gcsam_med.datasets.selection import select_cases
from gcsam_med.errors import InputError
from gcsam_med.evaluation.context import EvaluationContext, open_evaluation
from gcsam_med.fields import chosen
from gcsam_med.files import check_among, json_bytes, replacing
from gcsam_med.progress import Track, silent
from gcsam_med.reading import faults, is_ours, read_json, validate
from gcsam_med.reporting.figures import loss_lines, loss_surface
from gcsam_med.reporting.style import look, to_png
from gcsam_med.reporting.write import plain
from gcsam_med.runs import RunFolder

if TYPE_CHECKING:
    import torch

    from gcsam_med.metrics.hessian import Objective


SHARPNESS_JSON = "sharpness.json"
STEPS, ASCENTS = 40, 10
"""Most Hessian products for the eigenvalues, and gradients for the worst loss."""
Numbers = list[float | None]  # None: not finite


class _Line(BaseModel):
    positions: list[float] = Field(min_length=1)
    losses: Numbers

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.losses) != len(self.positions):
            raise ValueError("should have a loss for each position")
        return self


class _Surface(BaseModel):
    positions: list[float] = Field(min_length=2)
    losses: list[Numbers]

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if {len(self.positions)} != {len(self.losses), *map(len, self.losses)}:
            raise ValueError("should have a loss for each pair of positions")
        return self


class _Sample(BaseModel):
    split: str
    cases: int
    loss: str


class _Hessian(BaseModel):
    largest: Numbers = Field(min_length=1)
    largest_errors: Numbers = Field(min_length=1)
    smallest: float | None
    trace: float | None
    trace_standard_error: float | None


class _WorstLoss(BaseModel):
    rho: float
    increase: float | None
    increase_first_order: float | None


class _SharpnessFile(BaseModel):
    """``sharpness.json``, as far as it is read again."""

    model_config = ConfigDict(extra="allow")

    schema_version: Literal[1] = Field(alias="schema")
    run: str
    optimizer: str
    synthetic: bool
    weights_sha256: str
    sample: _Sample
    loss: float | None
    hessian: _Hessian
    worst_loss: _WorstLoss
    line: _Line | None
    surface: _Surface | None


def read_sharpness(run: RunFolder, weights_sha256: str) -> dict[str, Any]:
    """Read ``sharpness.json`` of a run; empty where it was not measured, or of other weights.

    Raises
    ------
    InputError
        If it is damaged.
    """
    path = run.sharpness / SHARPNESS_JSON
    again = f"Remove it, or make it again with: gcsam-med sharpness {run.root}"
    if not path.exists():
        return {}
    content: dict[str, Any] = read_json(path, dict[str, Any], again)
    with faults(path, again):
        validate(content, _SharpnessFile)
    return content if content["weights_sha256"] == weights_sha256 else {}


_NAMES = (SHARPNESS_JSON, "line.png", "surface.png", "comparison.png")


def check_sharpness_folder(folder: Path) -> None:
    """Raise `InputError` where `write_sharpness` could not write."""
    check_among(folder, _is_sharpness, _NAMES)


def _is_sharpness(folder: Path) -> bool:
    return is_ours(folder / SHARPNESS_JSON)


def write_sharpness(folder: Path, content: dict[str, Any], all_runs: Sequence[dict[str, Any]] = ()) -> None:
    """Write ``sharpness.json`` and pictures; one of `all_runs` too, where there are several."""

    def ours(there: Path) -> bool:
        return _is_sharpness(there) and {path.name for path in there.iterdir()} <= {*_NAMES}

    with (
        replacing(folder, ours, f"writing {folder}", among_others=_is_sharpness) as fresh,
        look(),
    ):
        (fresh / SHARPNESS_JSON).write_bytes(json_bytes(content, indent=1))
        if content["line"]:
            (fresh / "line.png").write_bytes(to_png(loss_lines([content])))
        if content["surface"]:
            (fresh / "surface.png").write_bytes(to_png(loss_surface(content)))
        if len(all_runs) > 1 and content["line"]:
            (fresh / "comparison.png").write_bytes(to_png(loss_lines(all_runs)))


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
        If the run or its data do not fit, or it would take longer than `max_minutes`.
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
    track = _within(objective, options, track)
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
    spectrum = hessian_spectrum(objective, options.eigenvalues, steps=STEPS, seed=options.seed, track=track)
    trace = hessian_trace(objective, options.trace_samples, seed=options.seed, track=track)
    worst = worst_loss(objective, rho, steps=ASCENTS, seed=options.seed, track=track)
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


def _within(objective: Objective, options: SharpnessOptions, track: Track) -> Track:
    """Refuse what will take too long, by the time of one batch, and stop what takes longer than it seemed."""
    part = objective.first_batch()
    part.hessian_times(part.weights)  # the first call sets things up
    timed = []
    for work in (part.loss, part.hessian_times):
        started = time.perf_counter()
        work(part.weights)
        timed.append(time.perf_counter() - started)
    losses = options.line_points + options.surface_points**2
    products = STEPS + options.trace_samples + ASCENTS
    minutes = objective.batches * (losses * timed[0] + products * timed[1]) / 60
    advice = (
        "Take fewer --cases, --surface-points, --line-points or --trace-samples, or allow more --max-minutes."
    )
    if minutes > options.max_minutes:
        raise InputError(
            f"It would take about {minutes:,.0f} minutes; {options.max_minutes:g} are allowed.",
            advice,
        )
    end = time.monotonic() + 60 * options.max_minutes

    def within(items: Iterable[Any], what: str, total: int | None = None) -> Iterator[Any]:
        for item in track(items, what, total):
            if time.monotonic() > end:
                raise InputError(
                    f"It took longer than the {options.max_minutes:g} minutes that are allowed.", advice
                )
            yield item

    return within


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

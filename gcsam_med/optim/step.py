"""One training step, for every method: the passes, their order, and the decision to skip."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from gcsam_med.optim.replay import BufferSnapshot, RandomState, frozen_batchnorm
from gcsam_med.optim.sharpness import Sharpness

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class StepResult:
    """What a training step did."""

    #: Loss of the first pass over the batch, on its device: at the unperturbed weights if the step has two.
    loss: Tensor
    gradient_norm: Tensor  #: Norm of the descent gradient, unscaled, before clipping.
    #: A bool of no dimension, on the device: a gradient was infinite or NaN, and weights, optimizer and
    #: running statistics are as before the step.
    skipped: Tensor
    passes: int  #: Forward-backward passes over the batch, 1 or 2.


def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    sharpness: Sharpness | None,
    batches: Sequence[Batch],
    loss_of: Callable[[Batch], Tensor],
    *,
    scaler: GradScaler | None = None,
    max_norm: float | None = None,
    no_sync: Callable[[], AbstractContextManager[Any]] | None = None,
    between: Callable[[], None] | None = None,
) -> StepResult:
    """Take one step of any method on one batch, whole or in micro-batches.

    First pass (if the method needs one), ascent, second pass over the same micro-batches with the same random
    numbers and with running statistics frozen, back to the weights, unscale, clip, step.

    A step with a gradient that is not finite is skipped. With a fused optimizer on an accelerator the device
    decides that, and the host waits for nothing: read `StepResult` when it suits, since reading waits. With
    any other optimizer the host reads one number a step.

    Parameters
    ----------
    model : nn.Module
        The network, plain, compiled or wrapped by DistributedDataParallel.
    optimizer : Optimizer
        Any torch optimizer; it takes the step.
    sharpness : Sharpness or None
        The ascent; None for the optimizer alone.
    batches : sequence
        Micro-batches whose gradients are accumulated; one for a step without accumulation.
    loss_of : callable
        Forward pass: from a micro-batch to its scalar loss, autocast inside. Losses of micro-batches are
        added, so for a mean over the whole batch weight each by its share.
    scaler : GradScaler, optional
        For fp16; it is updated here.
    max_norm : float, optional
        Clip the norm of the descent gradient to this.
    no_sync : callable, optional
        Context in which workers do not exchange gradients; that of the model, if it has one, by default.
    between : callable, optional
        Called between two passes, instead of setting the random generators back.

    Returns
    -------
    StepResult
        The loss and what became of the step.
    """
    accumulate = Accumulation(loss_of, scaler, no_sync or getattr(model, "no_sync", None) or nullcontext)
    before = BufferSnapshot(model)
    optimizer.zero_grad(set_to_none=True)
    two_passes = sharpness is not None and sharpness.needs_first_pass
    if sharpness is None:
        loss = accumulate(batches)
    elif two_passes:
        loss = _two_passes(model, optimizer, sharpness, batches, accumulate, between)
    else:
        with sharpness.perturbed():
            loss = accumulate(batches)
    if sharpness is not None:
        sharpness.finish_gradients()

    if scaler is not None:
        scaler.unscale_(optimizer)
    gradient_norm = _clip(optimizer, max_norm)
    skipped = ~torch.isfinite(gradient_norm)
    if skipped.device.type != "cpu" and _is_fused(optimizer):
        before.restore(where=skipped)
        _step_unless(skipped, optimizer)
    elif skipped:
        before.restore()
        optimizer.zero_grad(set_to_none=True)
    elif scaler is not None:
        scaler.step(optimizer)
    else:
        optimizer.step()
    if scaler is not None:
        scaler.update()
    return StepResult(loss, gradient_norm, skipped, 2 if two_passes else 1)


def leading_part(batch: Any, fraction: float) -> Any:
    """The first samples of a batch, for an ascent by part of it.

    Parameters
    ----------
    batch : Tensor, number, text, None, or mapping, list or tuple of them
        Tensors of at least one dimension are cut along the first; the rest is passed on.
    fraction : float, in (0, 1]
        Part to keep; at least two samples, if there are as many, since BatchNorm cannot do with one.

    Returns
    -------
    Same as `batch`
        Views, not copies.

    Raises
    ------
    TypeError
        For anything else in the batch: passing it on would ascend by the whole of it, unseen.
    """
    if fraction == 1.0 or batch is None or isinstance(batch, bool | int | float | str):
        return batch
    if isinstance(batch, Tensor):
        return batch[: max(2, math.ceil(fraction * len(batch)))] if batch.ndim else batch
    if isinstance(batch, Mapping):
        return {key: leading_part(value, fraction) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(leading_part(value, fraction) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(leading_part(value, fraction) for value in batch)
    raise TypeError(
        f"ascent_fraction cannot cut a {type(batch).__name__}: use tensors in mappings, lists or tuples."
    )


@dataclass(frozen=True)
class Accumulation:
    """A forward-backward pass over micro-batches, whose gradients add up."""

    loss_of: Callable[[Any], Tensor]
    scaler: GradScaler | None
    no_sync: Callable[[], AbstractContextManager[Any]]

    def __call__(self, batches: Sequence[Any], factor: Tensor | None = None, local: bool = False) -> Tensor:
        """Run the pass; workers exchange gradients once, at the last micro-batch, or never if `local`."""
        total: Tensor | None = None
        for number, batch in enumerate(batches, start=1):
            with self.no_sync() if local or number < len(batches) else nullcontext():
                loss = self.loss_of(batch)
                scaled = loss if self.scaler is None else self.scaler.scale(loss)
                if factor is not None:
                    scaled = scaled * factor.to(scaled.device, scaled.dtype)
                scaled.backward()
            total = loss.detach() if total is None else total + loss.detach()
        if total is None:
            raise ValueError("A training step needs at least one micro-batch.")
        return total


def _two_passes(
    model: nn.Module,
    optimizer: Optimizer,
    sharpness: Sharpness,
    batches: Sequence[Any],
    accumulate: Accumulation,
    between: Callable[[], None] | None,
) -> Tensor:
    """Leave the gradient at the perturbed weights; return the loss at the unperturbed ones."""
    between = between or RandomState({p.device for p in model.parameters()}).rewind
    part = [leading_part(batch, sharpness.ascent_fraction) for batch in batches]
    loss = accumulate(part, local=sharpness.local_first_pass)
    between()
    if accumulate.scaler is not None:
        one = torch.ones((), device=loss.device)
        sharpness.loss_scale = accumulate.scaler.scale(one)  # on the device: get_scale() would wait for it
    with sharpness.perturbed(), frozen_batchnorm(model):
        norm = sharpness.norm
        if _known_to_fail(norm):
            return loss  # the gradient that failed stays, and the step will be skipped for it
        optimizer.zero_grad(set_to_none=True)
        # A fault of the first pass must reach every worker: through the loss it enters the exchange.
        accumulate(batches, factor=None if norm is None else 1.0 + 0.0 * norm)
    return loss


def _clip(optimizer: Optimizer, max_norm: float | None) -> Tensor:
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters])
    if max_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def _is_fused(optimizer: Optimizer) -> bool:
    return all(group.get("fused") for group in optimizer.param_groups)


def _step_unless(skipped: Tensor, optimizer: Optimizer) -> None:
    """Step by kernels that do nothing, not even count, where `skipped` is true: fused ones of torch."""
    for group in optimizer.param_groups:
        # Torch leaves a momentum that is made in a skipped step without values.
        if group.get("momentum") and not group.get("dampening"):
            for parameter in group["params"]:
                if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    optimizer.grad_scale, optimizer.found_inf = None, skipped.float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]


def _known_to_fail(norm: Tensor | None) -> bool:
    """Whether the host can see, without waiting, that the first gradient is not finite.

    With several workers all of them must run the second pass, or the others would wait for ever.
    """
    if norm is None or norm.device.type != "cpu":
        return False
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    return alone and not bool(torch.isfinite(norm))

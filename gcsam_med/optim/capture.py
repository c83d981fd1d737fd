"""Training steps as CUDA graphs: recorded once for each kind of step, then replayed."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gcsam_med.optim.replay import buffers_in_place
from gcsam_med.optim.sharpness import Sharpness
from gcsam_med.optim.step import StepResult, training_step

WARM_UP = 3
"""Steps before a recording, in which libraries choose algorithms and states are allocated; all undone."""


@contextmanager
def host_must_not_wait() -> Iterator[None]:
    """Let torch refuse, with a RuntimeError, whatever makes the host wait for a GPU."""
    before = torch.cuda.get_sync_debug_mode()
    try:
        _set_sync_debug_mode("error")
        yield
    finally:
        _set_sync_debug_mode(before)


def _set_sync_debug_mode(mode: int | str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is a prototype
        torch.cuda.set_sync_debug_mode(mode)


class CaptureError(RuntimeError):
    """A step cannot be recorded; nothing of the training has changed."""


class CapturedSteps:
    """`training_step` on one CUDA device, replayed from CUDA graphs.

    A kind of step (shape of the batch; with or without an ascent) is recorded when it first comes. Every step
    that counts is a replay, also the first of its kind and the first after a resume, so that a run that was
    interrupted goes on with the same bits. A replay differs from the step without a graph by rounding only.

    A step with two passes is two graphs: between them the random generators are set back, so that both passes
    draw the same dropout masks.

    The parameters are those of `training_step`. The network must do the same in every step but for the batch
    and the random numbers of the device; the optimizer is built with ``fused=True``, so that the device can
    skip a step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        sharpness: Sharpness | None,
        loss_of: Callable[[Any], Tensor],
        *,
        max_norm: float | None = None,
    ) -> None:
        self.model, self.optimizer, self.sharpness = model, optimizer, sharpness
        self.loss_of, self.max_norm = loss_of, max_norm
        self._recordings: dict[tuple[object, ...], _Recording] = {}
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()
        device = next(model.parameters()).device
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._rho_factor = torch.zeros((), device=device, dtype=torch.float64)

    def __call__(self, batch: Any, seed: int) -> StepResult:
        """Take a step on a batch, with the random numbers of a seed, and return what `training_step` does.

        The batch is a tuple of tensors on the device and of numbers. Tensors are copied into the place where
        the graph reads them; numbers are part of the kind.

        Raises
        ------
        CaptureError
            If the step cannot be recorded. Weights and states are as before; take the step without a graph.
        """
        for rate, group in zip(self._rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        if self.sharpness is not None:
            self._rho_factor.fill_(self.sharpness.rho_factor)
        kind = self._kind(batch)
        if kind not in self._recordings:
            self._recordings[kind] = self._record(batch, seed)
        recording = self._recordings[kind]
        for place, part in zip(recording.batch, batch, strict=True):
            if isinstance(place, Tensor):
                place.copy_(part, non_blocking=True)
        for graph in recording.graphs:
            torch.manual_seed(seed)
            graph.replay()
        if self.sharpness is not None:
            self.sharpness.steps += 1
        result = recording.result
        # The next replay writes over these.
        return StepResult(
            result.loss.clone(), result.gradient_norm.clone(), result.skipped.clone(), result.passes
        )

    def _kind(self, batch: Any) -> tuple[object, ...]:
        parts = [(p.shape, p.dtype, p.stride()) if isinstance(p, Tensor) else p for p in batch]
        return (*parts, self.sharpness is not None and self.sharpness.ascends_next_step)

    def _record(self, batch: Any, seed: int) -> _Recording:
        places = [part.clone() if isinstance(part, Tensor) else part for part in batch]
        static = type(batch)(*places) if hasattr(batch, "_fields") else tuple(places)
        first = 0 if self.sharpness is None else self.sharpness.steps
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), self._rates_on_device():
            try:
                self._warm_up(static, seed, first)
                graphs = self._capture(static, first)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                torch.cuda.synchronize()
                raise CaptureError(str(error).strip().partition("\n")[0]) from error
            finally:
                if self.sharpness is not None:
                    self.sharpness.abandon()
                    self.sharpness.steps = first
        torch.cuda.current_stream().wait_stream(self._stream)
        return _Recording(static, graphs.graphs, graphs.result)

    def _warm_up(self, batch: Any, seed: int, first: int) -> None:
        """Take a few steps and undo them; the last refuses whatever makes the host wait."""
        before = {tensor: tensor.detach().clone() for tensor in self._state()}
        try:
            for number in range(WARM_UP):
                if self.sharpness is not None:
                    self.sharpness.steps = first
                torch.manual_seed(seed)
                with host_must_not_wait() if number == WARM_UP - 1 else nullcontext():
                    self._step(batch, None)
        finally:
            with torch.no_grad():
                for tensor in self._state():
                    # What was not there before is a state that begins at zero.
                    tensor.copy_(before[tensor]) if tensor in before else tensor.zero_()
            self.optimizer.zero_grad(set_to_none=True)

    def _capture(self, batch: Any, first: int) -> _Graphs:
        if self.sharpness is not None:
            self.sharpness.steps = first
        for group in self.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True
        graphs = _Graphs(self._pool)
        try:
            with graphs:
                graphs.result = self._step(batch, graphs.cut)
        finally:
            for group in self.optimizer.param_groups:
                if "capturable" in group:
                    group["capturable"] = False
        return graphs

    def _step(self, batch: Any, between: Callable[[], None] | None) -> StepResult:
        with buffers_in_place(self.model):
            return training_step(
                self.model,
                self.optimizer,
                self.sharpness,
                [batch],
                self.loss_of,
                max_norm=self.max_norm,
                between=between,
            )

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the step read learning rates and rho from the device, where they can change between replays."""
        groups, sharpness = self.optimizer.param_groups, self.sharpness
        rates, factor = [group["lr"] for group in groups], None if sharpness is None else sharpness.rho_factor
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"] = rate
            if sharpness is not None and sharpness.ascends_next_step:
                sharpness.rho_factor = self._rho_factor
            yield
        finally:
            for group, value in zip(groups, rates, strict=True):
                group["lr"] = value
            if sharpness is not None and factor is not None:
                sharpness.rho_factor = factor

    def _state(self) -> list[Tensor]:
        """Every tensor that a step changes for later steps."""
        found = [*self.model.parameters(), *self.model.buffers()]
        states: list[Any] = [dict(state) for state in self.optimizer.state.values()]
        if self.sharpness is not None:
            states.append(self.sharpness.state_dict())
        while states:
            for value in states.pop().values():
                if isinstance(value, Tensor):
                    found.append(value)
                elif isinstance(value, dict):
                    states.append(value)
        return found


class _Recording(NamedTuple):
    """One kind of step."""

    batch: Any  #: Where the graphs read the batch.
    graphs: list[torch.cuda.CUDAGraph]  #: To be replayed in this order.
    result: StepResult  #: Where the graphs write theirs.


@dataclass
class _Graphs:
    """Records what runs in its context as one graph, or as two with a cut between."""

    pool: Any
    graphs: list[torch.cuda.CUDAGraph] = field(default_factory=list)
    result: Any = None

    def __enter__(self) -> _Graphs:
        self._begin()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # After a fault the end fails as well, and would hide it.
        with nullcontext() if error is None else suppress(RuntimeError):
            self.graphs[-1].capture_end()

    def cut(self) -> None:
        """End one graph and begin the next."""
        self.graphs[-1].capture_end()
        self._begin()

    def _begin(self) -> None:
        if not self.graphs:
            torch.cuda.synchronize()
            gc.collect()
            torch.cuda.empty_cache()
        self.graphs.append(torch.cuda.CUDAGraph())
        # Other threads may go on talking to the device meanwhile.
        self.graphs[-1].capture_begin(pool=self.pool, capture_error_mode="thread_local")


class CapturedFunction:
    """A function of tensors (or None) to a tuple of those, replayed from CUDA graphs.

    It must depend on nothing else, not wait for the device, and draw no numbers.
    """

    def __init__(self, function: Callable[..., tuple[Tensor | None, ...]]) -> None:
        self.function = function
        self._recordings: dict[tuple[object, ...], tuple[Any, Any, torch.cuda.CUDAGraph]] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return new tensors; the current stream must not be the default one."""
        kind = tuple(None if part is None else (part.shape, part.dtype) for part in inputs)
        if kind not in self._recordings:
            self._recordings[kind] = self._record(inputs)
        places, outputs, graph = self._recordings[kind]
        for place, part in zip(places, inputs, strict=True):
            if part is not None:
                place.copy_(part, non_blocking=True)
        graph.replay()
        return tuple(None if output is None else output.clone() for output in outputs)

    def _record(self, inputs: tuple[Tensor | None, ...]) -> tuple[Any, Any, torch.cuda.CUDAGraph]:
        places = [None if part is None else part.clone() for part in inputs]
        for _ in range(WARM_UP):
            self.function(*places)
        graphs = _Graphs(self._pool)
        with graphs:
            outputs = self.function(*places)
        return places, outputs, graphs.graphs[0]

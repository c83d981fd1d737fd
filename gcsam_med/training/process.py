"""Stop signals, and what the processes of one run exchange."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import nn

from gcsam_med.errors import EnvironmentFault

T = TypeVar("T")

# --- Signals

# SIGUSR1 is what SLURM sends ahead of the end of a job's time.
# SIGHUP: the terminal was closed.
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGHUP: 143}


class StopSignals:
    """Records SIGINT, SIGTERM, SIGUSR1 and SIGHUP while it is entered; a second one ends the process at once.

    Attributes
    ----------
    exit_code : int or None
        The code to leave with, once a signal has come.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.name = ""
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread only; elsewhere the host application keeps its own.
        if threading.current_thread() is threading.main_thread():
            for number in _EXIT_CODES:
                if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # nohup
                self._previous[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _record(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.name = signal.Signals(number).name
        self.exit_code = _EXIT_CODES[signal.Signals(number)]
        # The first process of a container ignores signals without a handler of its own.
        at_once = _exit if os.getpid() == 1 else signal.SIG_DFL
        for each in self._previous:
            signal.signal(each, at_once)


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(_EXIT_CODES[signal.Signals(number)])


# --- Several processes


def process_count() -> int:
    """Processes of this run, as torchrun tells them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def gathered(value: T, world: int) -> list[T]:
    """The value of each process, by rank, in all of them."""
    if world == 1:
        return [value]
    values: list[T | None] = [None] * world
    torch.distributed.all_gather_object(values, value)
    return [v for v in values if v is not None]


def share_buffers(network: nn.Module, world: int) -> None:
    """Give all processes the running statistics of the first, whose network is the one that is saved.

    DDP does so before each forward pass in training, but after the last one of an epoch each process has its
    own, and would validate another network than the one that is saved.
    """
    if world > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)


def check_same_step(fabric: Any, step: int) -> None:
    """Refuse to resume if a process has read another checkpoint than the first: replicas would differ.

    Raises
    ------
    EnvironmentFault
        Names both steps.
    """
    if fabric.world_size == 1:
        return
    first = int(fabric.broadcast(step))
    if step != first:
        raise EnvironmentFault(
            f"Process {fabric.global_rank} found the checkpoint of step {step}, the first process that of "
            f"step {first}.",
            "Keep the run on a file system that all machines see alike; then --resume again.",
        )


def any_process(fabric: Any, condition: bool) -> bool:
    """Whether it holds in any process; all must then do the same, or the others would wait for ever."""
    if fabric.world_size == 1:
        return condition
    return bool(fabric.all_reduce(torch.tensor(float(condition), device=fabric.device), reduce_op="max"))


def mean_over_processes(fabric: Any, value: float) -> float:
    """Mean of a number over the processes."""
    if fabric.world_size == 1:
        return value
    return float(fabric.all_reduce(torch.tensor(value, device=fabric.device), reduce_op="mean"))

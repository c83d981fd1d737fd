"""What can go wrong that a person can fix, and the exit code that says so.

::

    GcsamMedError              1  (never raised itself)
    ├── InputError             2  a file, an option or a data set is not what was expected
    │   ├── ConfigError        2  a run's configuration does not hold together
    │   └── DataFaults         2  a data set has bad files; all of them are listed
    ├── EnvironmentFault       3  device, disk, network
    │   └── MissingExtra       3  an optional part is not installed
    ├── CheckpointError        4  a checkpoint or model file is corrupt or not trusted
    └── Interrupted      130, 143  stopped by a signal; what was done is saved

Everything else that reaches the command line is a bug of ours and exits with 1.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Collection, Sequence
from dataclasses import dataclass


class GcsamMedError(Exception):
    """Something a person can fix.

    Parameters
    ----------
    message : str
        What was expected, what was found and where; one line.
    advice : str, optional
        What to do about it; one line.
    """

    exit_code = 1

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n{self.advice}" if self.advice else self.message


class InputError(GcsamMedError):
    """A file, an option or a data set is not what was expected."""

    exit_code = 2


class ConfigError(InputError):
    """A run's configuration does not hold together."""


@dataclass(frozen=True)
class Fault:
    """One bad file of a data set."""

    path: str  #: Path relative to the data set's source folder.
    reason: str  #: Short machine-readable kind, e.g. ``"truncated"``.
    detail: str = ""  #: One sentence for a person.


class DataFaults(InputError):
    """A data set has bad files; all of them are listed at once."""

    def __init__(self, message: str, faults: Sequence[Fault], advice: str = "") -> None:
        super().__init__(message, advice)
        self.faults = tuple(faults)


class EnvironmentFault(GcsamMedError):
    """The machine lacks something: a device, disk space, a permission, the network."""

    exit_code = 3


_MACHINE_SAYS = {
    errno.ENOSPC: ("The disk is full.", "Free some space"),
    errno.EDQUOT: ("The disk quota is used up.", "Free some space"),
    errno.EFBIG: ("A file would be larger than is allowed here.", "Raise the limit with `ulimit -f`"),
    errno.ESTALE: ("A network drive lost a file.", "Connect it again"),
    errno.EROFS: ("The file system is read-only.", "Write to a folder on another one"),
    errno.EACCES: (
        "A file or folder may not be read or written.",
        "Change its permissions or choose another",
    ),
    errno.EPERM: ("A file or folder may not be read or written.", "Change its permissions or choose another"),
    errno.ENOTDIR: ("A file stands where a folder should be.", "Move it away or name another folder"),
    # Of a folder that is made where a file stands.
    errno.EEXIST: ("A file stands where a folder should be.", "Move it away or name another folder"),
    errno.EIO: ("The disk failed to read or write.", "Check the disk"),
    errno.EMFILE: ("Too many files are open.", "Raise the limit with `ulimit -n`"),
    errno.ENOMEM: ("Out of memory.", "Close other programs, or use a smaller --batch-size"),
}


_DEVICE_ERRORS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "CUDNN_STATUS", "NCCL error")


def out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, of the machine or of its GPU."""
    # torch's allocator for the CPU has no class of its own for it; this module imports no torch.
    told = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return told or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def machine_fault(error: Exception) -> EnvironmentFault | None:
    """Say what the machine lacks, or which part of it failed, where the error tells; else None.

    The message names no file: its path may hold a patient's name.
    """
    text = str(error)
    if isinstance(error, RuntimeError) and not out_of_memory(error):
        if type(error).__name__ != "AcceleratorError" and not any(mark in text for mark in _DEVICE_ERRORS):
            return None
        return EnvironmentFault(
            f"The device failed: {text.splitlines()[0][:200] if text else 'no reason given'}.",
            "Look at it with `nvidia-smi`. A run goes on from its last checkpoint: train --resume RUN",
        )
    number = errno.ENOMEM if out_of_memory(error) else getattr(error, "errno", None)
    if number not in _MACHINE_SAYS:
        return None
    message, advice = _MACHINE_SAYS[number]
    return EnvironmentFault(message, f"{advice}, and run again. --debug shows which file it was.")


class MissingExtra(EnvironmentFault):
    """An optional part of gcsam-med is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the optional '{extra}' packages, which are not installed.",
            f'Install them with: pip install "gcsam-med[{extra}]"',
        )


class CheckpointError(GcsamMedError):
    """A checkpoint or model file is corrupt or not trusted."""

    exit_code = 4


class Interrupted(GcsamMedError):
    """A signal asked to stop; everything needed to go on is saved.

    Parameters
    ----------
    message, advice : str
        See `GcsamMedError`.
    exit_code : int
        130 for Ctrl-C, 143 for SIGTERM and the like.
    """

    def __init__(self, message: str, advice: str, exit_code: int) -> None:
        super().__init__(message, advice)
        self.exit_code = exit_code


def unknown_name(what: str, name: str, known: Collection[str]) -> InputError:
    """Build the error for a name that stands in no table, with the nearest known names.

    `what` is what the name is of, e.g. ``"optimizer"``.
    """
    near = difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return InputError(f"Unknown {what} '{name}'.", f"{hint}Known: {', '.join(sorted(known))}.")

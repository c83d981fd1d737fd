"""Which device the work runs on, and how much memory it took."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gcsam_med.errors import EnvironmentFault

if TYPE_CHECKING:
    import torch


def cuda_devices() -> list[str]:
    """Name the CUDA devices of this machine: ``cuda:0``, ``cuda:1`` ..."""
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def pick_device(name: str = "auto") -> torch.device:
    """Choose a device by name.

    Parameters
    ----------
    name : str
        ``auto`` (CUDA, else Apple's MPS, else CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Returns
    -------
    torch.device
        One that is there.

    Raises
    ------
    EnvironmentFault
        If the device is not there; the message says which are.
    """
    import torch

    there = ["cpu", *cuda_devices()]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return torch.device(there[1] if len(there) > 1 else "cpu")
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in there:
        raise EnvironmentFault(
            f"Device '{name}' was asked for, but this machine has: {', '.join(there)}.",
            "Use --device auto, or run `gcsam-med doctor` to see why it is not found.",
        )
    return torch.device(wanted)


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory so far in MiB: of the GPU where one is used, else resident memory of this process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)

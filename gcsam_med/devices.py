"""Devices, memory, the processor cores that this process may use, and installed packages."""

from __future__ import annotations

import math
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from gcsam_med.errors import EnvironmentFault

if TYPE_CHECKING:
    import torch


CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Processor cores that this process may use, at least 1.

    The host's cores, less what the affinity mask (``taskset``, SLURM) or the quota of the container (cgroup
    v2 or v1: ``docker run --cpus 2``, Kubernetes) leaves out. A quota of 1.5 cores counts as 2.
    """
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(1, math.ceil(min(len(affinity), _cgroup_quota())))


def worker_count() -> int:
    """Processes to work with: `usable_cores`, or ``OMP_NUM_THREADS`` if that is less.

    Runs side by side (`compare --jobs`) share the cores by it.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable_cores(), max(1, int(asked))) if asked.isdecimal() else usable_cores()


def _cgroup_quota() -> float:
    """Cores that the cgroups of this process allow, the least of them; infinite without a quota."""
    quotas = [math.inf]
    for part in _cgroup_folders():
        try:
            if (part / "cpu.max").is_file():  # version 2: "max 100000" or "150000 100000"
                quota, period = (part / "cpu.max").read_text().split()
            else:
                quota = (part / "cpu.cfs_quota_us").read_text().strip()
                period = (part / "cpu.cfs_period_us").read_text().strip()
            if quota != "max" and float(quota) > 0:
                quotas.append(float(quota) / float(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(quotas)


def _cgroup_folders() -> list[Path]:
    """Folders of this process's cgroup and of all above it, for both versions."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    folders = [CGROUP, CGROUP / "cpu"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = CGROUP if controllers == "" else CGROUP / controllers
        if controllers == "" or "cpu" in controllers.split(","):
            folder = root / path.lstrip("/")
            folders += [folder, *(p for p in folder.parents if p.is_relative_to(root))]
    return folders


def installed_version(package: str) -> str | None:
    """Version of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def limit_threads() -> int:
    """Let torch use no more threads than `usable_cores`; how many it then uses.

    ``OMP_NUM_THREADS`` is obeyed where it asks for fewer.
    """
    import torch

    if torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())
    return torch.get_num_threads()


def cuda_devices() -> list[str]:
    """Name the CUDA devices of this machine: ``cuda:0``, ``cuda:1`` ..."""
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def pick_device(name: str = "auto") -> torch.device:
    """Choose a device by name, and limit torch's threads to the cores this process may use.

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

    limit_threads()
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


def pick_precision(name: str, device: torch.device) -> str:
    """What ``auto`` stands for: bf16 on a GPU that computes in it, else fp32; other names stay."""
    import torch

    if name != "auto":
        return name
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if able else "fp32"


def free_memory(device: torch.device) -> int:
    """Free memory of a CUDA device in bytes."""
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory so far in MiB: of the GPU where one is used, else resident memory of this process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)

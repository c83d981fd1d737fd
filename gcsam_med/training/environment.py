"""What a run was made with: enough to make it again, and nothing about the person who made it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from gcsam_med import __version__
from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import PreparedDataset

PACKAGES = (
    "torch",
    "torchvision",
    "monai",
    "lightning-fabric",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "pydicom",
)


def environment(
    config: RunConfig, dataset: PreparedDataset, device: torch.device, world: int
) -> dict[str, Any]:
    """Describe versions, device and data (``environment.json``)."""
    return {
        "schema": 1,
        "gcsam_med": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": world,
        "cases_per_step": config.batch_size * config.accumulate * world,
        "dataset": {
            "name": dataset.info.name,
            "content_sha256": dataset.info.content_sha256,
            "size": dataset.info.size,
            "synthetic": dataset.info.synthetic,
            "group_kind": dataset.info.group_kind,
        },
    }


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory so far in MiB: of the GPU where one is used, else resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

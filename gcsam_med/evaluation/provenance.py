"""Where a run comes from: its training, its machine, what was found in its data."""

from __future__ import annotations

import io
import platform
from pathlib import Path
from typing import Any

import pandas as pd

from gcsam_med import __version__
from gcsam_med.datasets.prepared import AUDIT
from gcsam_med.evaluation.setup import Examination
from gcsam_med.files import read_json, read_regular

# Of the machine a run was made on, a report shows only what bears on its figures.
MAX_JSON_BYTES = 8 * 2**20


def history(exam: Examination) -> pd.DataFrame | None:
    """Read ``history.csv``; None where there is none, or it cannot be read."""
    try:
        table = pd.read_csv(io.BytesIO(read_regular(exam.run.history_file, MAX_JSON_BYTES)))
    except (OSError, ValueError):
        return None
    return table if {"epoch"} <= set(table.columns) and len(table) else None


def environment(exam: Examination) -> dict[str, Any]:
    """Read ``environment.json``; empty where there is none."""
    return _read_json(exam.run.environment_file)


def audit(exam: Examination) -> dict[str, Any]:
    """Read the data set's ``audit.json``; empty where there is none."""
    return _read_json(exam.dataset.root / AUDIT)


def sharpness(exam: Examination) -> dict[str, Any]:
    """Read ``sharpness.json`` where it was measured of these weights; else empty."""
    content = _read_json(exam.run.sharpness / "sharpness.json")
    return content if content.get("weights_sha256") == exam.model.card.weights_sha256 else {}


def config(exam: Examination) -> dict[str, Any]:
    """Return the run's settings without its folders: they may name a person."""
    return exam.config.model_dump(mode="json", exclude={"data_root", "weights"})


def evaluated_with(exam: Examination, seed: int) -> dict[str, Any]:
    """Describe the evaluation itself."""
    import numpy as np
    import scipy
    import sklearn
    import torch

    return {
        "gcsam_med": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit_learn": sklearn.__version__,
        "device": exam.model.device.type,
        "seed": seed,
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path, MAX_JSON_BYTES)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

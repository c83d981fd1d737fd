"""Finished runs that were never made, for tests of what is concluded from it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from gcsam_med.compare.analyse import compare
from gcsam_med.compare.finished_runs import FinishedRun
from gcsam_med.config import RunConfig
from gcsam_med.reporting.comparison import Comparison

N = 60
GROUPS = [f"g{i // 2}" for i in range(N)]


def made_up_run(
    arm: str, seed: int, cases: pd.DataFrame, *, task: str = "segmentation", **settings: object
) -> FinishedRun:
    """A finished run with these cases; its metrics are what `metrics.json` would hold."""
    optimizer = arm.partition("-")[0]
    values = {"dice": float(cases["dice"].astype(float).mean())} if "dice" in cases else {}
    if "prob_b" in cases and "prob_c" not in cases:
        values["auc"] = float(roc_auc_score(cases["label"] == "b", cases["prob_b"]))
    elif "prob_c" in cases:
        values["balanced_accuracy"] = float(balanced_accuracy_score(cases["label"], cases["predicted"]))
    metrics = {
        "task": task,
        "dataset": "toy",
        "split": "test",
        "group_kind": "patient",
        "synthetic": False,
        "policy": {},
        "metrics": {name: {"value": value} for name, value in values.items()},
        "run": {"tool_version": "0.1", "dataset_sha256": "x"},
    }
    config = RunConfig(dataset="toy", model="unet", optimizer=optimizer, seed=seed, lr=1e-3, **settings)
    result = {"epochs": 3, "steps": 30, "seconds": 60.0}
    return FinishedRun(f"unet-{arm}-seed{seed}", arm, config, metrics, cases, result, {}, 1)


def table(**columns: object) -> pd.DataFrame:
    label = columns.pop("label", ["b"] * N)
    frame = pd.DataFrame({"group_id": GROUPS, "label": label, **columns})
    return frame.set_index(pd.Index([f"case {i}" for i in range(N)], name="case_id"))


def three_arms() -> tuple[Comparison, dict[str, np.ndarray]]:
    """Three arms of four seeds, the third better by 0.1; and every Dice, [seeds, cases] by arm."""
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.4, 0.8, N)
    dice = {}
    for arm, gain in (("adam", 0.0), ("sam", 0.0), ("gcsam", 0.1)):
        luck, noise = 0.02 * rng.standard_normal((4, 1)), 0.05 * rng.standard_normal((4, N))
        dice[arm] = np.clip(hard + gain + luck + noise, 0, 1)
    runs = [
        made_up_run(arm, seed, table(dice=values[seed])) for arm, values in dice.items() for seed in range(4)
    ]
    return compare(runs, title="Toy", created="2026-01-01T00:00:00+00:00", n_resamples=500), dice

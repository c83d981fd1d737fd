"""All runs of a folder as a table: what `gcsam-med runs` and the page of `gcsam-med view` show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gcsam_med.errors import GcsamMedError
from gcsam_med.reading import read_json_or_empty
from gcsam_med.runs.folder import RunFolder

COLUMNS = ("run", "data", "task", "model", "optimizer", "epochs", "finished", "validation", "looks", "test")
POOLED = "folds"
"""Name of the evaluation that pools all test folds."""


def run_folders(folder: Path) -> list[Path]:
    """Runs below a folder, those of studies too, newest first."""
    configs = [*folder.glob("*/config.yaml"), *folder.glob("*/runs/*/config.yaml")]
    return [path.parent for path in sorted(configs, key=lambda p: (-p.stat().st_mtime, str(p)))]


def summaries(root: Path) -> list[dict[str, Any]]:
    """Rows of a run: its own, and one of the test folds that were pooled from it on."""
    pooled = RunFolder(root).evaluation(POOLED) / "metrics.json"
    return [summary(root), *([summary(root, POOLED)] if pooled.is_file() else [])]


def summary(root: Path, part: str = "test") -> dict[str, Any]:
    """What `runs` shows of a run and of its evaluation on a part; what cannot be read is None."""
    run = RunFolder(root)
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {
        "run": str(root) + (", test folds pooled" if part == POOLED else ""),
        "finished": run.finished,
        "report": None,
    }
    try:
        config = run.config()
    except GcsamMedError as error:
        return row | {"data": f"damaged: {error.message}"}
    row |= {name: getattr(config, name) for name in ("task", "model", "optimizer")} | {"data": config.dataset}
    result = read_json_or_empty(run.result_file)
    if result:
        row["epochs"], row["metric"] = result.get("epochs"), result.get("metric")
        row["validation"] = result.get("best")
    row["looks"] = sum(e.get("split") == part for e in run.evaluations())
    found = read_json_or_empty(run.evaluation(part) / "metrics.json").get("metrics", {})
    main = found.get("dice") or found.get("auc") or found.get("balanced_accuracy")
    if isinstance(main, dict):
        row["test"], row["test_ci95"] = main.get("value"), main.get("ci95")
        row["report"] = str(run.evaluation(part) / "report.html")
    return row

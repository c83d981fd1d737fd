"""Code as a user writes it, which `make types` checks; it is never run.

Oracle: mypy. Sound code passes, and `warn_unused_ignores` demands that each marked line is an error.
"""

from __future__ import annotations

from pathlib import Path

from gcsam_med import PredictOptions, Segmentation, evaluate, load, predict, train

model = load("runs/x", device="cpu", mc_dropout=0)
result = model.predict("a.png")
if isinstance(result, Segmentation):
    area: int = result.area_px
    mm2: float | None = result.area_mm2
    flags: tuple[str, ...] = result.flags
else:
    called: str = result.predicted
    share: float = result.probabilities["malignant"]
outcome = train("busi", optimizer="gcsam", epochs=3)
folder: Path = outcome.folder
report = evaluate(folder, "test")
dice = report.metrics["dice"].value
rows = predict([folder], "images", "out", PredictOptions(tta="flip")).rows
names: list[str] = [str(row["name"]) for row in rows]

load(3)  # type: ignore[arg-type]
load("x").predict("a.png").mask  # type: ignore[union-attr]  # noqa: B018
evaluate("x", split=1)  # type: ignore[arg-type]
train("x", callback="me")  # type: ignore[arg-type]

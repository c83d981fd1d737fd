"""What is exported: a run's model, with all that the run knows about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcsam_med.datasets.prepared import DatasetInfo, PreparedDataset, prepared_root
from gcsam_med.errors import GcsamMedError
from gcsam_med.runs import ModelCard, RunFolder, TrainedModel, load_model
from gcsam_med.runs.calibration import OperatingFile, load_operating


@dataclass(frozen=True)
class Subject:
    """A trained run on its way out."""

    run: RunFolder  #: Where it is.
    model: TrainedModel  #: On the CPU.
    point: OperatingFile | None  #: What evaluation chose on validation.
    #: ``metrics.json`` by the name of its folder; only of these weights.
    evaluations: Mapping[str, dict[str, Any]]
    dataset: DatasetInfo | None  #: The training data, where they are still there and unchanged.

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self.model.card

    @property
    def threshold(self) -> float:
        """The operating point, or 0.5 where none was chosen."""
        return self.card.threshold if self.point is None else self.point.threshold

    @property
    def threshold_from(self) -> str:
        """Where the threshold comes from, in words."""
        if self.point is None:
            return "default, not chosen on validation"
        return f"chosen on {self.point.n} validation cases: {self.point.rule}"

    @property
    def positive(self) -> str | None:
        """The class the threshold is for; None for more than two classes."""
        if self.card.task == "segmentation":
            return self.card.classes[0]
        if len(self.card.classes) != 2:
            return None
        known = self.point is not None and self.point.positive_class in self.card.classes
        return self.point.positive_class if known and self.point is not None else self.card.classes[1]

    @property
    def synthetic(self) -> bool:
        """Whether generated images had a part in training or in a figure."""
        return self.card.synthetic or any(found.get("synthetic") for found in self.evaluations.values())


def open_subject(root: Path) -> Subject:
    """Open a run to export it.

    Raises
    ------
    InputError
        If it is no run or has no model.
    CheckpointError
        If the model is damaged.
    """
    run = RunFolder.open(root)
    model = load_model(run.model, "cpu")
    return Subject(
        run,
        model,
        load_operating(run.model, model.card.weights_sha256),
        _evaluations(run, model.card.weights_sha256),
        _dataset(run, model.card),
    )


def _evaluations(run: RunFolder, weights_sha256: str) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((run.root / "evaluation").glob("*/metrics.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        # Training may have gone on since: figures of other weights are not this model's.
        if isinstance(content, dict) and content.get("run", {}).get("weights_sha256") == weights_sha256:
            found[path.parent.name] = content
    return found


def _dataset(run: RunFolder, card: ModelCard) -> DatasetInfo | None:
    try:
        info = PreparedDataset(prepared_root(run.config().data_root, card.dataset)).info
    except (GcsamMedError, OSError):
        return None
    return info if info.content_sha256 == card.dataset_sha256 else None

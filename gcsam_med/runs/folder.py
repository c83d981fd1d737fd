"""Where the files of a run are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcsam_med.config import RunConfig, load_config
from gcsam_med.devices import pick_device
from gcsam_med.errors import CheckpointError, InputError
from gcsam_med.reading import read_json_lines

if TYPE_CHECKING:
    from gcsam_med.runs.calibration import CalibrationFile
    from gcsam_med.runs.model import ModelCard, TrainedModel


# Settings that change where and for how long, not what is computed: a resumed run may change them.
MACHINE_FIELDS = frozenset(
    {
        "data_root", "device", "capture", "max_minutes", "checkpoint_minutes", "checkpoint_steps",
        "tensorboard", "mlflow",
    }
)  # fmt: skip
EXTEND_FIELDS = frozenset({"epochs", "patience"})
"""Settings that --extend may change besides."""
STEP_FIELDS = frozenset({"batch_size", "accumulate"})
"""Their product with the number of processes is the cases of a step, which may not change."""


def changed_settings(
    before: RunConfig, after: RunConfig, allowed: frozenset[str] = MACHINE_FIELDS
) -> dict[str, str]:
    """Settings of a run that differ, but for those `allowed` to: by name, each in words."""
    one, two = (config.model_dump(exclude=set(allowed)) for config in (before, after))
    return {
        name: f"{name}: {value} in the run, {two[name]} now"
        for name, value in one.items()
        if value != two[name]
    }


def settings_sha256(config: RunConfig) -> str:
    """Hash of the settings that no resume can change: it binds a run's ``config.yaml`` to its weights."""
    # A setting that a later version adds, at its default, leaves the hash of older runs as it is.
    machine = set(MACHINE_FIELDS | EXTEND_FIELDS | STEP_FIELDS)
    kept = config.model_dump(mode="json", exclude=machine, exclude_defaults=True)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    root: Path  #: ``runs/NAME``.

    @property
    def config_file(self) -> Path:
        """Complete configuration; replays the run."""
        return self.root / "config.yaml"

    @property
    def history_file(self) -> Path:
        """One row for each epoch."""
        return self.root / "history.csv"

    @property
    def curves_file(self) -> Path:
        """The history as a picture."""
        return self.root / "curves.png"

    @property
    def predictions_file(self) -> Path:
        """The same few validation cases, each with truth and prediction in the last epoch."""
        return self.root / "val_predictions.png"

    @property
    def environment_file(self) -> Path:
        """Versions and devices the run was made with, and the hash of its data."""
        return self.root / "environment.json"

    @property
    def log_file(self) -> Path:
        """What was said while it ran."""
        return self.root / "log.txt"

    @property
    def result_file(self) -> Path:
        """How the run ended; not there before it has."""
        return self.root / "result.json"

    @property
    def finished(self) -> bool:
        """Whether training has ended: its result is written last, after the model and its calibration."""
        return self.result_file.is_file()

    @property
    def lock_file(self) -> Path:
        """Held by the process that trains or calibrates the run."""
        return self.root / ".lock"

    @property
    def checkpoints(self) -> Path:
        """What a resume needs."""
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        """All that evaluation and prediction need."""
        return self.root / "model"

    @property
    def sharpness(self) -> Path:
        """What was measured of the minimum's sharpness."""
        return self.root / "sharpness"

    @property
    def evaluation_log_file(self) -> Path:
        """One JSON line for every evaluation of a split: how often the test set was looked at."""
        return self.root / "evaluations.jsonl"

    def evaluation(self, name: str) -> Path:
        """Folder of the evaluation on a split (or ``OTHER-test`` for an external data set)."""
        return self.root / "evaluation" / name

    def evaluations(self) -> list[dict[str, Any]]:
        """Read the evaluation log; lines that are not whole (a crash while writing) are skipped."""
        try:
            return read_json_lines(self.evaluation_log_file, dict[str, Any])
        except OSError:
            return []

    def config(self) -> RunConfig:
        """Read the run's configuration."""
        return load_config(self.config_file, {})

    def config_of(self, card: ModelCard) -> RunConfig:
        """Read the configuration that the model was trained with.

        Raises
        ------
        CheckpointError
            If ``config.yaml`` was changed since.
        """
        config = self.config()
        if settings_sha256(config) != card.settings_sha256:
            raise CheckpointError(
                f"{self.config_file} is not what the model was trained with: a setting was changed since.",
                "Copy the file of the run again, or train anew with the settings you want.",
            )
        return config

    @classmethod
    def open(cls, root: Path) -> RunFolder:
        """Open a run that has a trained model.

        Raises
        ------
        InputError
            If `root` is not a run, or nothing was trained in it yet.
        """
        run = cls(Path(root))
        if not run.root.is_dir():
            raise InputError(f"There is no run folder {root}.", "Runs are made by: gcsam-med train")
        if not run.config_file.is_file():
            raise InputError(f"{root} is not a run: it has no config.yaml.", "Give a folder made by train.")
        if not run.model.is_dir():
            raise InputError(
                f"{root} has no trained model yet.", "Finish it with: gcsam-med train --resume " + str(root)
            )
        return run


def open_model(run: RunFolder, device: str) -> tuple[TrainedModel, RunConfig, CalibrationFile | None]:
    """Read weights, settings and calibration of a run, which must belong together.

    The calibration is None where there is none, and while training goes on.

    Raises
    ------
    CheckpointError
        If one of them is damaged, was changed, or comes from another model.
    """
    from gcsam_med.runs.calibration import load_calibration
    from gcsam_med.runs.model import load_model

    model = load_model(run.model, pick_device(device))
    config = run.config_of(model.card)
    point = load_calibration(run.model, model.card.weights_sha256, finished=run.finished)
    return model, config, point if run.finished else None

"""The configuration of a run: one flat model, one sentence a field, the same names on the command line.

A run's ``config.yaml`` holds every field and replays the run. Sources, later ones win: defaults, the YAML
file, ``--set key=value``, options of the command line.
"""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gcsam_med.errors import ConfigError, unknown_name
from gcsam_med.files import read_regular

MOST_BYTES, MOST_LEVELS = 2**20, 20
"""A configuration is a flat page; what is larger or deeper is none."""

Task = Literal["segmentation", "classification"]
Precision = Literal["fp32", "bf16", "fp16"]
BaseOptimizer = Literal["adam", "adamw", "sgd"]

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RunConfig(BaseModel):
    """Everything that determines a run, apart from the data and the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    # --- What is learned from what
    dataset: str = Field(description="Name of a prepared data set under DATA_ROOT/prepared.")
    data_root: Path = Field(default=Path("data"), description="Folder that holds prepared data sets.")
    task: Task | None = Field(
        default=None, description="Left open: segmentation where the data set has masks, else classification."
    )
    classes: list[str] | None = Field(
        default=None,
        description="Use only cases of these classes; left open: segmentation takes all "
        "that can hold a lesion, classification takes all.",
    )
    fold: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Validate on this fold and train on the others; left open: the default split.",
    )

    # --- The network
    model: str | None = Field(
        default=None, description="Name from `gcsam-med list models`; left open: unet or resnet18 by task."
    )
    pretrained: bool = Field(default=False, description="Start from torchvision's ImageNet weights.")
    weights: Path | None = Field(
        default=None, description="Start from this safetensors or tensor-only file instead of a download."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, description="Dropout rate.")

    # --- The optimizer
    optimizer: str = Field(default="gcsam", description="Name from `gcsam-med list optimizers`.")
    base: BaseOptimizer = Field(
        default="adam", description="The optimizer that takes the step after a sharpness-aware ascent."
    )
    lr: Rate | None = Field(
        default=None,
        description="Peak learning rate; left open: chosen by task, network and starting weights.",
    )
    weight_decay: NonNegative = Field(default=0.0, description="Weight decay of the base optimizer.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="Momentum of sgd.")
    rho: NonNegative | Literal["auto"] | None = Field(
        default=None,
        description="Radius of the ascent; left open: the optimizer's own, 0.05 for gcsam and sam; auto: "
        "chosen on the validation split by short runs.",
    )
    rho_schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="How rho falls over the run."
    )
    rho_end: Fraction = Field(
        default=0.0, description="Part of rho that is left at the end of a linear or cosine schedule."
    )
    norm: Literal["centralized", "raw"] | None = Field(
        default=None, description="Scale the ascent by the gradient's norm after or before centring it."
    )
    centralize: Literal["none", "ascent", "both"] | None = Field(
        default=None,
        description="Centre the gradient of the ascent, or of the descent too; left open: ascent for gcsam.",
    )
    conv_only: bool = Field(default=False, description="Centre convolution weights only.")
    eta: NonNegative | None = Field(default=None, description="asam: constant added to each weight's size.")
    exempt_vectors: bool | None = Field(
        default=None, description="asam: leave biases and norm layers out of the scaling."
    )
    alpha: NonNegative | None = Field(
        default=None, description="looksam, gsam: strength of the part of the gradient that is added."
    )
    every: Positive | None = Field(
        default=None, description="Ascend on each k-th step only; left open: 1, for looksam 5."
    )
    ascent_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Part of the batch that the ascent's gradient is taken from."
    )

    # --- The schedule
    epochs: Positive = Field(default=100, description="Passes over the training split at the most.")
    max_minutes: Rate | None = Field(default=None, description="Stop after this many minutes of training.")
    batch_size: Positive = Field(default=8, description="Cases a forward pass.")
    accumulate: Positive = Field(default=1, description="Forward passes a step.")
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="Learning rate after the warm-up."
    )
    warmup_epochs: NonNegative = Field(default=1.0, description="Epochs of linear warm-up.")
    patience: Annotated[int, Field(ge=0)] = Field(
        default=20, description="Stop after this many epochs without a better validation metric; 0: never."
    )
    clip_norm: NonNegative = Field(default=1.0, description="Clip the descent gradient's norm; 0: never.")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Decay of an exponential moving average of the weights; 0: none."
    )

    # --- The loss and the images
    loss: str | None = Field(
        default=None,
        description="dice-ce (default), dice-focal or dice for segmentation; cross-entropy (default) or "
        "focal for classification.",
    )
    class_weights: bool = Field(
        default=True, description="Classification: weigh classes by the inverse of their frequency."
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Label smoothing of cross-entropy."
    )
    augment: bool = Field(default=True, description="Random transforms of the training images.")

    # --- The machine
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(default=0, description="Determines all randomness.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps.")
    precision: Precision = Field(default="fp32", description="Arithmetic of the forward and backward pass.")
    sync_batchnorm: bool = Field(
        default=False,
        description="Several GPUs: BatchNorm over the batches of all processes, not of each; needs CUDA.",
    )
    compile: bool = Field(default=False, description="Compile the network with torch.compile.")

    # --- What is kept
    checkpoint_minutes: Rate = Field(default=10.0, description="Minutes between checkpoints within an epoch.")
    checkpoint_steps: Positive | None = Field(
        default=None, description="Steps between checkpoints within an epoch; left open: by time alone."
    )
    nonfinite_limit: Positive = Field(
        default=20, description="Stop after this many steps in a row with a loss or gradient not finite."
    )
    tensorboard: bool = Field(default=False, description="Also log to TensorBoard (extra: tracking).")
    mlflow: bool = Field(default=False, description="Also log to MLflow (extra: tracking).")

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads true as 1, and YAML reads yes and on as true.
        if isinstance(value, bool) and "bool" not in str(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("should not be true or false (in YAML also yes, no, on, off)")
        return value

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_as_on_the_command_line(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("classes")
    @classmethod
    def _classes_are_distinct(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and not (all(value) and len(set(value)) == len(value) > 0):
            raise ValueError("should name each class once, e.g. benign,malignant")
        return value

    @field_validator("dataset")
    @classmethod
    def _dataset_is_a_name(cls, value: str) -> str:
        if not value.strip() or value != Path(value).name or value == "..":
            raise ValueError("should be the name that prepare gave, not a path")
        return value

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", value):
            raise ValueError("should be auto, cpu, cuda, cuda:N or mps")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.weights is not None and self.pretrained:
            raise ValueError("--pretrained and --weights both choose the starting weights; give one of them")
        if self.sync_batchnorm and self.device in ("cpu", "mps"):
            raise ValueError("sync_batchnorm needs CUDA: PyTorch has no synchronized BatchNorm elsewhere")
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("--precision fp16 needs a GPU; use fp32 or bf16 on a CPU")
        return self


def load_config(file: Path | None, overrides: Mapping[str, Any], sets: Sequence[str] = ()) -> RunConfig:
    """Build a configuration from a YAML file, ``key=value`` texts and options.

    Parameters
    ----------
    file : Path, optional
        A YAML mapping of field names.
    overrides : mapping
        Options given on the command line; None means not given.
    sets : sequence of str
        ``key=value``; the value is read as YAML. Beats the file, yields to `overrides`.

    Returns
    -------
    RunConfig
        Validated.

    Raises
    ------
    ConfigError
        If the file cannot be read, a key is unknown or a value does not fit; all faults are named.
    """
    return _build(_read_yaml(file) if file is not None else {}, overrides, sets, file)


def with_overrides(config: RunConfig, overrides: Mapping[str, Any], sets: Sequence[str] = ()) -> RunConfig:
    """Change settings of a configuration; see `load_config` for the arguments and errors."""
    return _build(config.model_dump(), overrides, sets, None)


def dump_config(config: RunConfig) -> str:
    """Write a configuration as YAML that `load_config` reads back to the same values."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _build(
    values: dict[str, Any], overrides: Mapping[str, Any], sets: Sequence[str], file: Path | None
) -> RunConfig:
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes key=value, but got '{text}'.", "For example: --set rho=0.1")
        try:
            values[key.strip()] = _parse_yaml(value)
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"The value of --set {key}=... is not valid YAML.") from error
    values.update({key: value for key, value in overrides.items() if value is not None})
    for key in values:
        if key in ("workers", "worker_timeout"):
            raise ConfigError(
                f"There is no setting '{key}' any more: batches are made without loader processes.",
                f"Remove it{f' from {file}' if file else ''}.",
            )
        if key not in RunConfig.model_fields:
            raise unknown_name("setting", str(key), RunConfig.model_fields.keys())
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        said: dict[str, list[str]] = {}
        for item in error.errors():
            # A field that takes one of several kinds reports a fault for each.
            message = item["msg"].removeprefix("Value error, ")
            # Cut short: the value may be long, and nested without end.
            found = f", but got {reprlib.repr(item['input'])}" if item["loc"] else ""
            said.setdefault(str(item["loc"][0]) if item["loc"] else "", []).append(message + found)
        faults = [": ".join(filter(None, (field, "; or: ".join(texts)))) for field, texts in said.items()]
        source = f" in {file}" if file else ""
        raise ConfigError(f"The configuration{source} does not hold: " + "; ".join(faults) + ".") from error


def _parse_yaml(text: str) -> Any:
    """Read YAML of plain values. Aliases are refused: a few lines of them can stand for gigabytes."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            raise yaml.YAMLError(f"it is nested more than {MOST_LEVELS} deep")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"it uses the alias *{event.anchor}; write the value out")
    return yaml.safe_load(text)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        text = read_regular(file, MOST_BYTES).decode("utf-8")
        content = _parse_yaml(text)
    except OSError as error:
        raise ConfigError(f"The configuration {file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid YAML.", str(error).replace("\n", " ")[:300]) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} should hold a mapping of settings, e.g. 'lr: 0.001'.")
    # YAML lets the last of two equal keys win without a word.
    pairs = yaml.compose(text, Loader=yaml.SafeLoader).value  # type: ignore[union-attr]
    twice = [key for key, count in Counter(str(key.value) for key, _ in pairs).items() if count > 1]
    if twice:
        raise ConfigError(f"{file} sets {', '.join(twice)} more than once.", "Keep one line of each.")
    return content

"""All options, each said once: one pydantic model a command, one sentence a field.

The command line (`gcsam_med.cli.from_model`), ``--set``, the reference of settings and the functions of the
Python interface come from these models. A run's ``config.yaml`` holds every field of `RunConfig` and replays
the run. Sources, later ones win: defaults, the YAML file, ``--set key=value``, options of the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from gcsam_med.fields import (
    Arms,
    Count,
    Device,
    Fraction,
    Minutes,
    Name,
    Names,
    NonNegative,
    Numbers,
    Options,
    PathText,
    Pixels,
    Positive,
    Processes,
    Rate,
    Resamples,
    Seed,
    Share,
    option,
    read_folds,
    read_list,
    read_sets,
    read_settings,
    validated,
)

PathLike = str | os.PathLike[str]
Task = Literal["segmentation", "classification"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
BaseOptimizer = Literal["adam", "adamw", "sgd"]
SplitName = Literal["train", "val", "test"]
Language = Literal["en", "de", "es"]
Frames = Literal["first", "middle", "all"] | Annotated[int, Field(ge=0, le=10**6)]

_TRAINED, _OPTIMIZED, _MACHINE = "What is trained", "How it is optimized", "Machine and files"
_SOURCE, _CHECKED, _MADE = "Where the images are", "How they are checked", "What is made of them"
_HOW, _WRITTEN, _COMPARED = "How it is predicted", "What is written", "What is compared"
_DATA_ROOT = "Folder of prepared data sets; default: the one the run was trained from."
_BATCH = "Cases in one forward pass; default: the run's own."


class PrepareOptions(Options):
    """How a data set is prepared."""

    images: PathText = option(
        "", "Folder of a table's images; or, with --dataset folder, a pattern of its images.", _SOURCE
    )
    masks: str = option("", "Pattern of the masks, such as 'masks/**/*.png'; for --dataset folder.", _SOURCE)
    mask_suffix: str = option("", "Ending of the masks' names, such as _mask; for --dataset folder.", _SOURCE)
    label_regex: str = option(
        "",
        "Regular expression that finds the class in an image's path; for --dataset folder.",
        _SOURCE,
    )
    group_column: str = option("", "Column that names the patient; for --dataset table.", _SOURCE)
    target: str = option(
        "",
        "The finding, or what masks outline, of data sets that have several, such as 'Pneumothorax'.",
        _SOURCE,
    )
    group_regex: str = option(
        "",
        "Regular expression that finds the patient in an image's path (its group 1, if any).",
        _SOURCE,
    )
    merge: Names = option(
        (), "Make one set of these prepared sets, comma-separated.", _SOURCE, complete="prepared"
    )
    download: bool = option(False, "Download it from its public address.", _SOURCE)
    demo: bool = option(False, "Generate synthetic images instead.", _SOURCE)
    demo_cases: Annotated[int, Field(ge=3, le=100_000)] = option(
        120, "Number of synthetic images, with --demo.", _SOURCE
    )

    skip_bad: bool = option(False, "Leave bad files out instead of stopping.", _CHECKED)
    conflicts: Literal["keep-together", "drop"] = option(
        "keep-together", "Duplicates with different labels: keep them in one group, or drop them.", _CHECKED
    )
    mask_size: Literal["refuse", "resize"] | None = option(
        None, "Masks of another size than their image; default: as the data set needs.", _CHECKED
    )
    mask_values: str = option(
        "", "Grey values that are foreground in masks, such as 1-255 or 127,255; or alpha.", _CHECKED
    )
    invert_masks: bool = option(False, "Swap foreground and background of masks.", _CHECKED)
    exif: Literal["refuse", "apply", "ignore"] = option(
        "refuse",
        "If EXIF orientation turns an image but not its mask: refuse the file, apply the orientation (as "
        "viewers do), or ignore it in all files.",
        _CHECKED,
    )
    empty_masks: Literal["refuse", "healthy"] = option(
        "refuse",
        "Empty masks of images without a class: refuse them, or call the images normal.",
        _CHECKED,
    )
    inpaint_marks: bool = option(
        False,
        "Paint over text and calipers in grey images; the stored images before that are kept.",
        _MADE,
    )
    frames: Frames = option(
        "first", "Frames taken from multi-frame files: first, middle, all, or a number from 0.", _CHECKED
    )
    probes: bool = option(False, "Also train small models on possible shortcuts.", _CHECKED)

    name: Name | None = option(None, "Name of the prepared data set; default: that of --dataset.", _MADE)
    size: Annotated[int, Field(ge=16, le=2048)] = option(
        256, "Side of the stored images in pixels (letterbox).", _MADE
    )
    modality: Literal["ultrasound", "xray", "photo"] | None = option(
        None,
        "Kind of images: decides on random transforms and colour; for --dataset folder and table.",
        _MADE,
    )
    positive: str = option("", "The class that is the finding; default: recognised by its name.", _MADE)
    negative: Annotated[list[str], BeforeValidator(read_list)] | None = option(
        None, "Classes without the finding, comma-separated; default: recognised by name.", _MADE
    )
    seed: Seed = option(0, "Random seed of the split.", _MADE)
    folds: Annotated[int, Field(ge=2, le=50)] = option(
        5, "Number of folds over the cases outside the test split; fold 0 validates by default.", _MADE
    )
    split_by: Literal["group", "image"] = option(
        "group", "Keep patients and near-duplicates together, or not (for comparison).", _MADE
    )
    splits: Path | None = option(None, "Apply this splits.json instead of drawing a split.", _MADE)
    force: bool = option(False, "Prepare again even if nothing changed.", _MADE)
    workers: Processes | None = option(None, "Processes that read images; default: one per core.")

    def recorded(self) -> dict[str, Any]:
        """Give the options that determine the result, as ``dataset.json`` keeps them."""
        names = (
            "size", "seed", "folds", "modality", "frames", "mask_size", "skip_bad", "split_by", "conflicts",
            "positive", "negative",
            "masks", "mask_suffix", "label_regex", "group_column", "target", "group_regex",
            "mask_values", "invert_masks",
            "exif", "empty_masks", "inpaint_marks",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


class RunConfig(Options):
    """Everything that determines a training run, apart from the data and the machine."""

    what: ClassVar[str] = "setting"

    # --- What is trained, on what
    dataset: Name = Field(
        description="Name of a prepared data set; several, comma-separated, are merged.",
        json_schema_extra={"panel": _TRAINED, "complete": "prepared"},
    )
    data_root: Path = option(Path("data"), "Folder of prepared data sets.", _MACHINE)
    task: Task | None = option(None, "Default: segmentation if there are masks.", _TRAINED)
    classes: Annotated[list[str], BeforeValidator(read_list)] | None = option(
        None, "Use only these classes, e.g. benign,malignant; default: all that fit the task.", _TRAINED
    )
    fold: Annotated[int, Field(ge=0, le=999)] | None = option(
        None, "Validate on this fold and train on the others; default: the split's own validation.", _TRAINED
    )
    test_fold: Annotated[int, Field(ge=0, le=999)] | None = option(
        None, "Test on this fold; the test split then trains, and the next fold validates.", _TRAINED
    )

    leave_out: Name | None = option(
        None, "Test on this centre of a merged data set, and train on the others.", _TRAINED
    )

    # --- The network
    model: str | None = option(
        None, "See `gcsam-med list models`; default: unet or resnet18.", _TRAINED, complete="models"
    )
    pretrained: bool = option(False, "Start from torchvision's ImageNet weights.", _TRAINED)
    weights: Path | None = option(None, "Start from the weights in this file.", _TRAINED)
    dropout: Share = option(0.0, "Dropout rate.")

    # --- The optimizer
    optimizer: str = option("gcsam", "See `gcsam-med list optimizers`.", _OPTIMIZED, complete="optimizers")
    base: BaseOptimizer = option("adam", "Base optimizer, which makes the step after the ascent.", _OPTIMIZED)
    lr: Rate | None = option(None, "Peak learning rate; default: by task and network.", _OPTIMIZED)
    weight_decay: NonNegative = option(0.0, "Weight decay of the base optimizer.")
    momentum: Share = option(0.9, "Momentum of sgd.")
    rho: NonNegative | Literal["auto"] | None = option(
        None, "Radius of the ascent; default: the optimizer's own; auto: by validation.", _OPTIMIZED
    )
    rho_schedule: Literal["constant", "linear", "cosine"] = option(
        "constant", "How rho falls during the run."
    )
    rho_end: Fraction = option(0.0, "Fraction of rho at the end of a linear or cosine schedule.")
    norm: Literal["centralized", "raw"] | None = option(
        None, "Scale the ascent by the norm of the gradient after (centralized) or before (raw) centring."
    )
    centralize: Literal["none", "ascent", "both"] | None = option(
        None, "Centre the gradient of the ascent, or of the descent too; default: ascent for gcsam."
    )
    conv_only: bool = option(False, "Centre the gradients of convolution weights only.")
    eta: NonNegative | None = option(None, "asam: constant added to the size of each weight.")
    exempt_vectors: bool | None = option(None, "asam: do not scale biases and norm layers.")
    alpha: NonNegative | None = option(None, "looksam, gsam: weight of the added part of the gradient.")
    sigma: NonNegative | None = option(None, "friendly-sam: share of the average gradient taken away.")
    decay: Fraction | None = option(None, "friendly-sam: decay of the average gradient; default: 0.9.")
    every: Positive | None = option(None, "Ascend on every k-th step only; default: 1, for looksam 5.")
    ascent_fraction: Annotated[float, Field(gt=0, le=1)] = option(
        1.0, "Fraction of the batch from which the gradient of the ascent is computed."
    )

    # --- The schedule
    epochs: Positive = option(100, "Maximum epochs.", _OPTIMIZED)
    max_minutes: Minutes | None = option(None, "Stop after this many minutes of training.", _OPTIMIZED)
    batch_size: Positive = option(8, "Cases in one forward pass.", _OPTIMIZED)
    accumulate: Positive = option(1, "Batches per optimizer step.", _OPTIMIZED)
    schedule: Literal["cosine", "constant"] = option("cosine", "Learning rate after the warm-up.")
    warmup_epochs: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)] = option(
        1.0, "Epochs of linear warm-up."
    )
    patience: Count = option(20, "Stop after this many epochs without improvement; 0: never.", _OPTIMIZED)
    clip_norm: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] = option(
        1.0, "Clip the norm of the descent gradient; 0: never."
    )
    ema: Share = option(0.0, "Decay of an exponential moving average of the weights; 0: none.", _OPTIMIZED)
    swa: Share = option(
        0.0, "Average the weights of this last share of the epochs (SWA), at a constant rate; 0: none."
    )
    swa_every: Literal["epoch", "step"] = option(
        "epoch", "swa: average after each epoch, or after each step (dense, as in SWAD)."
    )

    # --- The loss and the images
    loss: str | None = option(
        None, "dice-ce, dice-focal or dice; cross-entropy or focal; default: the first of the task."
    )
    class_weights: bool = option(True, "Classification: weight classes by the inverse of their frequency.")
    label_smoothing: Share = option(0.0, "Label smoothing of cross-entropy.")
    augment: bool = option(True, "Random transforms of the training images.", _OPTIMIZED)
    monai_transforms: list[dict[str, dict[str, Any]]] = option(
        [], "Further random dictionary transforms of MONAI, e.g. [{RandGaussianSmoothd: {prob: 0.2}}]."
    )

    # --- The machine
    seed: Seed = option(0, "Random seed.", _OPTIMIZED)
    device: Device = option("auto", "auto, cpu, cuda, cuda:N or mps.", _MACHINE)
    precision: Precision = option(
        "auto", "Numeric precision; auto: bf16 on a GPU that supports it, else fp32.", _MACHINE
    )
    deterministic: bool = option(
        False, "On a GPU, choose algorithms that give the same bits each time; may be slower."
    )
    capture: bool = option(
        True, "On one GPU, record a step in CUDA graphs and replay it; off: one operation after the other."
    )
    sync_batchnorm: bool = option(
        False, "Several GPUs: BatchNorm statistics over the batches of all processes; needs CUDA."
    )
    compile: bool = option(False, "Compile the network with torch.compile.")

    # --- What is kept
    checkpoint_minutes: Minutes = option(10.0, "Minutes between checkpoints within an epoch.")
    checkpoint_steps: Annotated[int, Field(ge=1, le=10**9)] | None = option(
        None, "Steps between checkpoints within an epoch; default: by time only."
    )
    nonfinite_limit: Positive = option(
        20, "Stop after this many steps in a row with a loss or gradient that is not finite."
    )
    tensorboard: bool = option(False, "Also log to TensorBoard (extra: tracking).")
    mlflow: bool = option(False, "Also log to MLflow (extra: tracking).")

    @property
    def folds(self) -> tuple[int | None, int | None, str | None]:
        """The folds that validate and test, and the centre left out, as `PreparedDataset.rows` takes them."""
        return self.fold, self.test_fold, self.leave_out

    @field_validator("classes")
    @classmethod
    def _classes_are_distinct(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and not (all(value) and len(set(value)) == len(value) > 0):
            raise ValueError("should name each class once, e.g. benign,malignant")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.weights is not None and self.pretrained:
            raise ValueError("--pretrained and --weights both choose the starting weights; give one of them")
        if self.sync_batchnorm and self.device in ("cpu", "mps"):
            raise ValueError("sync_batchnorm needs CUDA: PyTorch has no synchronized BatchNorm elsewhere")
        if self.ema and self.swa:
            raise ValueError("ema and swa are two ways to average the weights; give one of them")
        if self.fold is not None and self.fold == self.test_fold:
            raise ValueError(f"fold {self.fold} cannot both validate and test")
        if self.leave_out is not None and self.test_fold is not None:
            raise ValueError("--leave-out and --test-fold both choose the test cases; give one of them")
        if any(len(entry) != 1 for entry in self.monai_transforms):
            raise ValueError("monai_transforms should be a list of {name: options}, one name each")
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("--precision fp16 needs a GPU; use fp32 or bf16 on a CPU")
        return self


class CalibrateOptions(Options):
    """Where a run is calibrated."""

    data_root: Path | None = option(None, _DATA_ROOT)
    device: Device = option("auto", "auto, cpu, cuda, cuda:N or mps.")


class EvaluateOptions(Options):
    """How a run is evaluated."""

    split: SplitName = option("test", "train, val or test.")
    folds: Literal["all"] | None = option(
        None, "all: pool the test folds of this run and those beside it (train --folds all)."
    )
    dataset: Name | None = option(None, "External validation on this prepared data set.", complete="prepared")
    data_root: Path | None = option(None, _DATA_ROOT)
    device: Device = option("auto", "auto, cpu, cuda, cuda:N or mps.")
    batch_size: Positive | None = option(None, _BATCH)
    threshold: Fraction | None = option(
        None, "Operating point: use this threshold instead of the one chosen on validation."
    )
    tolerance: NonNegative | None = option(
        None, "Tolerance of NSD in mm, or in pixels if spacings are unknown; default: 1 mm or 2 pixels."
    )
    prevalence: Fraction | None = option(None, "Also give predictive values at this prevalence.")
    min_area: Pixels = option(0, "Segmentation: also measure the effect of dropping regions of fewer pixels.")
    min_lesion: Share = option(
        1e-4, "Segmentation: smallest lesion as a share of its image; smaller regions are not counted."
    )
    min_lesion_mm2: NonNegative | None = option(
        None, "Segmentation: smallest lesion in mm², instead of a share of the image."
    )
    metrics: Names = option(
        (), "Segmentation: also compute these metrics, which are computed on request only."
    )
    reader: Names = option(
        (), "Columns of the manifest with a reader's BI-RADS, call or score, compared with the model."
    )
    unfinished: bool = option(False, "Accept a run whose training has not ended; the report says so.")
    deep_check: bool = option(
        False, "Read every byte of the data to compare it with the hashes of prepare, not size and time only."
    )
    resamples: Resamples = option(2000, "Resamples of the bootstrap.")
    seed: Seed = option(0, "Random seed of the bootstrap.")
    pdf: bool = option(False, "Also write report.pdf (extra: pdf).")
    lang: Language = option("en", "Language of the report's half page in plain words.")

    @model_validator(mode="after")
    def _folds_are_of_test(self) -> Self:
        if self.folds and (self.split != "test" or self.dataset is not None):
            raise ValueError("--folds pools test folds of the run's own data; drop --split and --dataset")
        return self


class PredictOptions(Options):
    """How images are predicted."""

    threshold: Fraction | None = option(
        None, "Operating point: foreground, or the positive class, from this probability on.", _HOW
    )
    tta: Literal["flip"] | None = option(
        None, "flip: average the answers for the image and its mirror image.", _HOW
    )
    mc_dropout: Annotated[int, Field(ge=0, le=10_000)] = option(
        0, "Draw this many samples with dropout, to show uncertainty; 0: none, 20 are usual.", _HOW
    )
    frames: Frames = option(
        "first", "Frames of multi-frame files: first, middle, all, or a number from 0.", _HOW
    )
    batch_size: Positive | None = option(None, "Images in one forward pass.", _HOW)
    device: Device = option("auto", "auto, cpu, cuda, cuda:N or mps.", _HOW)
    largest_component: bool = option(False, "Keep only the largest region of a mask.", _WRITTEN)
    fill_holes: bool = option(False, "Fill holes in regions.", _WRITTEN)
    min_area: Pixels = option(0, "Drop regions of fewer pixels, at the image's own resolution.", _WRITTEN)
    overlays: bool = option(True, "Draw the outlines over the images.", _WRITTEN)
    dicom_seg: bool = option(
        False, "Also write a DICOM segmentation for each DICOM input (extra: dicom).", _WRITTEN
    )
    dicom_sr: bool = option(
        False, "Also write a DICOM structured report (sizes, or class probabilities).", _WRITTEN
    )
    force: bool = option(
        False, "Also predict DICOM files of another modality or body part than the model's.", _HOW
    )
    overwrite: bool = option(False, "Replace predictions made with other settings.", _WRITTEN)

    @field_validator("mc_dropout")
    @classmethod
    def _one_sample_shows_nothing(cls, value: int) -> int:
        if value == 1:
            raise ValueError("takes at least 2 samples; 20 are usual")
        return value


class CompareOptions(Options):
    """What a study compares. The settings of its runs are those of `RunConfig`."""

    optimizers: Names = option(
        ("adam", "sam", "gcsam"),
        "Optimizers to compare, also with +gc, +ema, +swa or +swad (adam+swa); the first is the reference.",
        _COMPARED,
        complete="optimizers",
    )
    arm: Arms = option(
        {}, "A further arm: a name, and what it changes in the reference's settings; repeatable.", _COMPARED
    )
    models: Names = option(
        (), "Networks, e.g. unet,segresnet; default: by task.", _COMPARED, complete="models"
    )
    seeds: Numbers = option(tuple(range(5)), "Random seeds, one run each, e.g. 0-4 or 1,3,5.", _COMPARED)
    folds: Annotated[Literal["all"] | Numbers | None, BeforeValidator(read_folds)] = option(
        None, "Folds that validate, e.g. 0-2, or all; default: the split's own validation.", _COMPARED
    )
    datasets: Names = option(
        (),
        "Prepared data sets, merged into one; see prepare --merge.",
        _COMPARED,
        complete="prepared",
    )
    leave_out: Names = option(
        (), "Train on all centres but one and test on it: each, or names of centres.", _COMPARED
    )
    equal_compute: bool = option(
        False,
        "Add each cheaper arm with as many gradient computations as the most expensive arm.",
        _COMPARED,
    )
    tune: Annotated[tuple[Literal["lr", "rho"], ...], BeforeValidator(read_list)] = option(
        (), "lr, rho or both: choose each arm's own on validation, by as many tries for every arm.", _COMPARED
    )
    margin: Annotated[float, Field(gt=0, lt=1)] | None = option(
        None,
        "Difference in the main metric below which two arms count as equally good; name it before the runs.",
        _COMPARED,
    )
    sharpness: bool = option(False, "Also measure how sharp each minimum is.", _COMPARED)
    split: Literal["test", "val"] = option("test", "Split on which the runs are compared.", _COMPARED)
    resamples: Resamples = option(2000, "Resamples of the bootstrap.", _COMPARED)
    lang: Language = option("en", "Language of the report's half page in plain words.", _COMPARED)

    @field_validator("tune")
    @classmethod
    def _each_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(sorted(set(value)))

    @field_validator("optimizers", "seeds")
    @classmethod
    def _at_least_one(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("needs at least one")
        return value


class PlanOptions(Options):
    """How large a comparison is to be."""

    margin: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="Difference in the metric that the study must detect, or exclude."
    )
    power: Annotated[float, Field(ge=0.5, le=0.99)] = option(
        0.8, "Power: probability that the study does so."
    )
    metric: Literal["dice", "auc", "balanced_accuracy"] | None = option(
        None, "Main metric; default: the pilot's."
    )
    seeds: Numbers = option((3, 5, 10, 20), "Numbers of seeds to plan for, e.g. 3,5,10.")
    arms: Names = option(
        (), "Two arms of the pilot whose difference counts; default: the first and the last."
    )
    correlation: Share = option(
        0.75, "With one arm as pilot: assumed correlation of two recipes' results over cases."
    )
    split: Literal["test", "val"] = option("test", "Split of the pilot's evaluations.")
    resamples: Resamples = option(2000, "Resamples of the bootstrap.")

    @field_validator("seeds")
    @classmethod
    def _a_verdict_takes_three(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 3 or max(value) > 1000:
            raise ValueError("are numbers of seeds from 3, which a verdict takes, to 1000")
        return value

    @field_validator("arms")
    @classmethod
    def _two_arms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) not in (0, 2):
            raise ValueError("names two arms, such as adam,gcsam")
        return value


class ProtocolOptions(Options):
    """What a sealed external test fixes, and how it is made."""

    external: Names = option((), "freeze: prepared data sets to test on.", complete="prepared")
    outcome: Literal["auc", "balanced_accuracy", "dice"] = option("auc", "freeze: the metric that counts.")
    margin: Annotated[float, Field(gt=0, lt=1)] = option(0.05, "freeze: largest negligible difference.")
    amend: str = option("", "run: open the sets again, and give the reason.", metavar="REASON")
    device: Device = option("auto", "run: auto, cpu, cuda, cuda:N or mps.")
    data_root: Path = option(Path("data"), "freeze: folder of prepared data sets.")


class SharpnessOptions(Options):
    """How the sharpness of a minimum is measured."""

    #: Sharpness is a property of the training loss, so ``train`` unless there is a reason.
    split: SplitName = option("train", "Split whose loss is measured: train, val or test.")
    cases: Positive = option(64, "Number of cases that are drawn from the split.")
    rho: NonNegative | None = option(
        None, "Radius within which the highest loss is sought; default: the run's own, or 0.05."
    )
    eigenvalues: Annotated[int, Field(ge=1, le=100)] = option(3, "Number of largest Hessian eigenvalues.")
    trace_samples: Annotated[int, Field(ge=2, le=100_000)] = option(
        30, "Random vectors for the trace of the Hessian."
    )
    line_points: Annotated[int, Field(ge=0, le=10_000)] = option(
        41, "Points along the line through the minimum; 0: no line."
    )
    surface_points: Annotated[int, Field(ge=0, le=500)] = option(
        15, "Points along each side of the loss surface; 0: no surface."
    )
    radius: Rate = option(1.0, "Half the width of line and surface, in units of the filters' norms.")
    batch_size: Positive = option(8, "Cases in one pass.")
    max_minutes: Minutes = option(60.0, "Refuse what would take longer than this many minutes.")
    seed: Seed = option(0, "Random seed of the sample and the directions.")
    data_root: Path | None = option(None, _DATA_ROOT)
    device: Device = option("auto", "auto, cpu, cuda, cuda:N or mps.")


class ExportOptions(Options):
    """How a model is exported."""

    format: Literal["onnx", "torch-export", "monai-bundle", "safetensors"] = Field(
        description="onnx, torch-export, monai-bundle or safetensors."
    )
    overwrite: bool = option(False, "Replace an earlier export.")


class PreviewOptions(Options):
    """What a contact sheet shows."""

    cases: Annotated[int, Field(ge=1, le=50)] = option(6, "Number of cases, one a row.")
    variants: Annotated[int, Field(ge=1, le=20)] = option(5, "Random transforms of each case.")
    split: SplitName = option("train", "train, val or test.")
    seed: Seed = option(0, "Random seed of the draw and the transforms.")


def load_config(file: Path | None, overrides: Mapping[str, Any], sets: Sequence[str] = ()) -> RunConfig:
    """Build a configuration from a YAML file, ``key=value`` texts and options; later ones win.

    The value of a ``key=value`` text is read as YAML; an override that is None counts as not given.

    Raises
    ------
    ConfigError
        If the file cannot be read, a key is unknown or a value does not fit; all faults are named.
    """
    return _build(read_settings(file) if file is not None else {}, overrides, sets, file)


def with_overrides(config: RunConfig, overrides: Mapping[str, Any], sets: Sequence[str] = ()) -> RunConfig:
    """Change settings of a configuration; see `load_config` for the arguments and errors."""
    return _build(config.model_dump(), overrides, sets, None)


def dump_config(config: RunConfig) -> str:
    """Write a configuration as YAML that `load_config` reads back to the same values."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _build(
    values: dict[str, Any], overrides: Mapping[str, Any], sets: Sequence[str], file: Path | None
) -> RunConfig:
    values |= read_sets(sets) | {key: value for key, value in overrides.items() if value is not None}
    where = f"The configuration{f' in {file}' if file else ''} does not hold: "
    return validated(RunConfig, values, where, called=str)

"""One run, one format, one new folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gcsam_med.errors import InputError, machine_fault, unknown_name
from gcsam_med.files import make_folder, replacing
from gcsam_med.inference.export.bundle import write_bundle
from gcsam_med.inference.export.exported_run import DESCRIPTION, ExportedRun, describe, open_exported_run
from gcsam_med.inference.export.graphs import ONNX, PROGRAM, write_onnx, write_program, write_weights
from gcsam_med.inference.export.model_card import model_card
from gcsam_med.reading import read_json_or_empty
from gcsam_med.runs.model import WEIGHTS

README = "README.md"


@dataclass(frozen=True)
class Format:
    """A kind of files that others read."""

    #: Writes into a folder; returns the largest difference of a probability from the model here, or None
    #: where the weights themselves are written.
    write: Callable[[ExportedRun, Path], float | None]
    standardized: bool  #: Whether the files standardize their input themselves and give probabilities.
    library: str  #: ``library_name`` of the Hugging Face hub.
    card: str  #: Where the model card goes.
    usage: str  #: Markdown for the model card.


FORMATS: dict[str, Format] = {
    "onnx": Format(
        write_onnx,
        True,
        "onnx",
        README,
        f"`{ONNX}` takes `image`, float32 (batch, channels, size, size) in 0..1, and gives `probability`; "
        "any batch size. Its metadata hold the content of `description.json`.\n\n"
        "```python\n"
        "import onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{ONNX}")\n'
        'probability = session.run(["probability"], {"image": image})[0]\n'
        "```",
    ),
    "torch-export": Format(
        write_program,
        True,
        "pytorch",
        README,
        f"`{PROGRAM}` takes float32 (batch, channels, size, size) in 0..1 and gives probabilities; any batch "
        "size. Load it only from people you trust.\n\n"
        "```python\n"
        "import torch\n\n"
        f'model = torch.export.load("{PROGRAM}").module()\n'
        "probability = model(image)\n"
        "```",
    ),
    "safetensors": Format(
        write_weights,
        False,
        "pytorch",
        README,
        f"`{WEIGHTS}` holds the network's state_dict, `{DESCRIPTION}` what is needed to build and feed it. "
        "gcsam-med builds the network by its name (`gcsam_med.networks.build_network`).\n\n"
        "```python\n"
        "from safetensors.torch import load_file\n\n"
        f'network.load_state_dict(load_file("{WEIGHTS}"))\n'
        "```",
    ),
    "monai-bundle": Format(
        write_bundle,
        False,
        "monai",
        f"docs/{README}",
        "A MONAI bundle; it runs without gcsam-med. It needs `pip install monai fire pytorch-ignite pillow` "
        "(and torchvision for classification). In the bundle's folder:\n\n"
        "```\n"
        "python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES "
        "--output_dir OUT\n"
        "```\n\n"
        "For segmentation OUT gets a mask (0 and 255, in the image's own size) under each image's name; for "
        "classification `predictions.csv`: the image's name, then a probability a class in the order above. "
        "Images are files of 8 bits.",
    ),
}


@dataclass(frozen=True)
class Exported:
    """What `export_run` wrote."""

    folder: Path  #: The new folder.
    files: tuple[str, ...]  #: Relative to it.
    #: Largest difference of a probability from the model here; None for bare weights.
    difference: float | None
    synthetic: bool  #: Whether generated images had a part.
    threshold_from: str  #: Where the operating point comes from.


def export_run(
    root: Path, format_name: str, output: Path | None = None, *, overwrite: bool = False
) -> Exported:
    """Export a run's model with a description and a model card to `output` (default ``RUN/export/FORMAT``).

    The folder is whole or not there; `overwrite` replaces an earlier export.

    Raises
    ------
    InputError
        If the format is unknown, the network cannot be exported so, or the folder holds something.
    MissingExtra
        If packages are missing.
    CheckpointError
        If the model is damaged.
    EnvironmentFault
        If the folder cannot be written.
    """
    if format_name not in FORMATS:
        raise unknown_name("format", format_name, FORMATS)
    form = FORMATS[format_name]
    run = open_exported_run(root)
    target = output or make_folder(run.folder.root, "export") / format_name
    _check_target(target, overwrite)
    try:
        with replacing(target, _is_export, f"exporting to {target}", "Give another --output.") as fresh:
            difference = form.write(run, fresh)
            described = describe(run, standardized=form.standardized)
            (fresh / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
            (fresh / form.card).parent.mkdir(exist_ok=True)
            card = model_card(run, form.library, form.usage, standardized=form.standardized)
            (fresh / form.card).write_text(card, encoding="utf-8")
    except OSError as error:
        raise machine_fault(error) or error from error
    files = sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file())
    return Exported(target, tuple(files), difference, run.synthetic, run.threshold_from)


def _is_export(folder: Path) -> bool:
    return str(read_json_or_empty(folder / DESCRIPTION).get("tool", "")).startswith("gcsam-med ")


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not _is_export(target):
        raise InputError(f"{target} is there and is no export.", "Give another --output.")
    if not overwrite:
        raise InputError(
            f"{target} holds an export.", "Give another --output, or replace it with --overwrite."
        )

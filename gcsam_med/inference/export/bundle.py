"""Writer of a MONAI bundle: configs, weights, and its check."""

from __future__ import annotations

import io
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gcsam_med import __version__
from gcsam_med.inference.export.bundle_config import inference_config
from gcsam_med.inference.export.bundle_network import bundle_channels, bundle_weights
from gcsam_med.inference.export.description import USE
from gcsam_med.inference.export.exported_run import Subject
from gcsam_med.inference.export.portable import check, examples, expected

# MONAI's published schema of metadata.json; `verify_metadata` fetches it.
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
CONFIGS, MODELS = "configs", "models"
NOT_GIVEN = "not given"


def write_bundle(subject: Subject, folder: Path) -> float:
    """Write ``configs/`` and ``models/`` of a bundle, and ask the network it describes.

    Parameters
    ----------
    subject : Subject
        The run.
    folder : Path
        The bundle's root.

    Returns
    -------
    float
        Largest difference of a probability from the model here.

    Raises
    ------
    InputError
        If the network cannot be built without gcsam-med.
    """
    config = inference_config(subject)
    weights = bundle_weights(subject.card, subject.model.network.state_dict())
    (folder / CONFIGS).mkdir()
    (folder / MODELS).mkdir()
    _write_json(folder / CONFIGS / "inference.json", config)
    _write_json(folder / CONFIGS / "metadata.json", metadata(subject))
    data = io.BytesIO()
    # MONAI's CheckpointLoader reads this format, and reads it with weights_only.
    torch.save(weights, data)
    (folder / MODELS / "model.pt").write_bytes(data.getvalue())
    inputs = examples(subject.model)
    found = _ask(config["network_def"], weights, subject, inputs)
    return check("bundle", found, [expected(subject.model, image) for image in inputs])


def _ask(
    definition: dict[str, Any], weights: dict[str, torch.Tensor], subject: Subject, inputs: list[np.ndarray]
) -> list[np.ndarray]:
    from monai.bundle import ConfigParser

    card = subject.card
    network = ConfigParser({"network_def": definition}).get_parsed_content("network_def").eval()
    network.load_state_dict(weights)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (card.mean, card.std))
    answers = []
    with torch.inference_mode():
        for image in inputs:
            batch = (torch.from_numpy(image) - mean) / std
            logits = network(batch.repeat(1, bundle_channels(card) // batch.shape[1], 1, 1))
            answers.append((logits.sigmoid() if card.task == "segmentation" else logits.softmax(1)).numpy())
    return answers


def metadata(subject: Subject) -> dict[str, Any]:
    """Return the content of ``metadata.json``; what the run does not know is said to be not given."""
    card, data = subject.card, subject.dataset
    segmentation = card.task == "segmentation"
    stamp = "Trained on generated images: for demonstration only. " if subject.synthetic else ""
    about = f"{card.model} for {card.task} of {card.modality} images ({', '.join(card.classes)})"
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by gcsam-med {__version__}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {
            name: _version(name)
            for name in ("pillow", "torchvision", "einops", "fire", "pytorch-ignite")
            if _needed(name, subject)
        },
        "optional_packages_version": {},
        "name": f"{card.dataset} {card.model}",
        "task": about,
        "description": f"{stamp}{about}. Trained on {card.dataset} with {card.optimizer}. "
        f"{USE.capitalize()}.",
        "authors": NOT_GIVEN,
        "copyright": NOT_GIVEN,
        "data_source": (data.citation or data.title) if data is not None else card.dataset,
        "data_type": "image files of 8 bits",
        "image_classes": "8-bit intensities, divided by 255 and standardized",
        "pred_classes": ", ".join(card.classes),
        "eval_metrics": _scores(subject),
        "intended_use": f"{stamp}{USE.capitalize()}.",
        "references": [],
        "network_data_format": {
            "inputs": {"image": _image(subject)},
            "outputs": {"pred": _mask(subject) if segmentation else _classes(subject)},
        },
    }


def _needed(name: str, subject: Subject) -> bool:
    if name == "torchvision":
        return subject.card.task == "classification"
    return name != "einops" or subject.card.model == "swin-unetr"


def _image(subject: Subject) -> dict[str, Any]:
    channels, colour = bundle_channels(subject.card), subject.card.modality == "photo"
    return _tensor(subject, channels, "image", "RGB" if colour else "magnitude") | {
        "value_range": _range(subject),
        "modality": subject.card.modality,
        "channel_def": {str(i): ("red", "green", "blue")[i] if colour else "grey" for i in range(channels)},
    }


def _mask(subject: Subject) -> dict[str, Any]:
    name = subject.card.classes[0]
    return _tensor(subject, 1, "image", "segmentation") | {"channel_def": {"0": f"logit of {name}"}}


def _classes(subject: Subject) -> dict[str, Any]:
    names = subject.card.classes
    return _tensor(subject, len(names), "probabilities", "classes") | {
        "spatial_shape": [],
        "channel_def": {str(i): f"logit of {name}" for i, name in enumerate(names)},
    }


def _tensor(subject: Subject, channels: int, kind: str, form: str) -> dict[str, Any]:
    return {
        "type": kind,
        "format": form,
        "num_channels": channels,
        "spatial_shape": [subject.card.size, subject.card.size],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
    }


def _range(subject: Subject) -> list[float]:
    """Lowest and highest standardized value."""
    pairs = list(zip(subject.card.mean, subject.card.std, strict=True))
    return [min(-m / s for m, s in pairs), max((1 - m) / s for m, s in pairs)]


def _scores(subject: Subject) -> dict[str, float]:
    return {
        f"{name} {metric}": figure["value"]
        for name, content in subject.evaluations.items()
        for metric, figure in content.get("metrics", {}).items()
        if isinstance(figure, dict) and figure.get("value") is not None
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "any"

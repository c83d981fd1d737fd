"""Writer of a MONAI bundle, which runs where gcsam-med is not installed: configs, weights, and its check.

The network is a class of MONAI or torchvision by its name, with weights that fit it. Steps that MONAI does
not have ready are expressions over NumPy and Pillow.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gcsam_med import __version__
from gcsam_med.devices import installed_version
from gcsam_med.errors import InputError
from gcsam_med.inference.export.exported_run import USE, ExportedRun
from gcsam_med.inference.export.graphs import check, examples, expected
from gcsam_med.networks import NETWORKS, NetworkSpec
from gcsam_med.networks.table import fit_channels
from gcsam_med.runs import ModelCard

# MONAI's published schema of metadata.json; `verify_metadata` fetches it.
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
CONFIGS, MODELS = "configs", "models"
NOT_GIVEN = "not given"
COLOUR = 3

# The letterbox: the same arithmetic as `gcsam_med.transforms.letterbox.Letterbox`.
GEOMETRY: dict[str, str] = {
    "read": "$lambda path: np.asarray(ImageOps.exif_transpose(Image.open(path)).convert(@mode))",
    "inner": "$lambda height, width: [max(1, min(@size, round(side * (@size / max(height, width))))) "
    "for side in (height, width)]",
    "margin": "$lambda inner: [((@size - side) // 2, (@size - side + 1) // 2) for side in inner]",
    "place": "$lambda pixels, inner: np.pad(np.asarray(Image.fromarray(pixels).resize((inner[1], inner[0]), "
    "Image.Resampling.BILINEAR)), @margin(inner) + [(0, 0)] * (pixels.ndim - 2))",
}
RESTORE = (
    "$lambda plane, inner, height, width: np.asarray(Image.fromarray(np.ascontiguousarray("
    "plane[@margin(inner)[0][0]:][:inner[0], @margin(inner)[1][0]:][:, :inner[1]]"
    ")).resize((width, height), Image.Resampling.BILINEAR))"
)


def write_bundle(run: ExportedRun, folder: Path) -> float:
    """Write ``configs/`` and ``models/`` of a bundle into its root, and check the network it describes.

    Returns the largest difference of a probability from the model here.

    Raises
    ------
    InputError
        If the network cannot be built without gcsam-med.
    """
    config = inference_config(run)
    weights = bundle_weights(run.card, run.model.network.state_dict())
    (folder / CONFIGS).mkdir()
    (folder / MODELS).mkdir()
    for name, content in (("inference", config), ("metadata", metadata(run))):
        (folder / CONFIGS / f"{name}.json").write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    data = io.BytesIO()
    # MONAI's CheckpointLoader reads this format, and reads it with weights_only.
    torch.save(weights, data)
    (folder / MODELS / "model.pt").write_bytes(data.getvalue())
    inputs = examples(run.model)
    found = _ask(config["network_def"], weights, run, inputs)
    return check("bundle", found, [expected(run.model, image) for image in inputs])


def _ask(
    definition: dict[str, Any], weights: dict[str, torch.Tensor], run: ExportedRun, inputs: list[np.ndarray]
) -> list[np.ndarray]:
    from monai.bundle import ConfigParser

    card = run.card
    network = ConfigParser({"network_def": definition}).get_parsed_content("network_def").eval()
    network.load_state_dict(weights)
    answers = []
    with torch.inference_mode():
        for image in inputs:
            batch = card.preprocessing.standardize(torch.from_numpy(image))
            logits = network(batch.repeat(1, bundle_channels(card) // batch.shape[1], 1, 1))
            answers.append((logits.sigmoid() if card.task == "segmentation" else logits.softmax(1)).numpy())
    return answers


def metadata(run: ExportedRun) -> dict[str, Any]:
    """Return the content of ``metadata.json``; what the run does not know is said to be not given."""
    card, data = run.card, run.dataset
    segmentation = card.task == "segmentation"
    stamp = "Trained on generated images: for demonstration only. " if run.synthetic else ""
    about = f"{card.model} for {card.task} of {card.modality} images ({', '.join(card.classes)})"
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by gcsam-med {__version__}"},
        "monai_version": installed_version("monai") or "any",
        "pytorch_version": installed_version("torch") or "any",
        "numpy_version": installed_version("numpy") or "any",
        "required_packages_version": {
            name: installed_version(name) or "any"
            for name in ("pillow", "torchvision", "einops", "fire", "pytorch-ignite")
            if _needed(name, run)
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
        "eval_metrics": _scores(run),
        "intended_use": f"{stamp}{USE.capitalize()}.",
        "references": [],
        "network_data_format": {
            "inputs": {"image": _image(run)},
            "outputs": {"pred": _mask(run) if segmentation else _classes(run)},
        },
    }


def _needed(name: str, run: ExportedRun) -> bool:
    if name == "torchvision":
        return run.card.task == "classification"
    return name != "einops" or run.card.model == "swin-unetr"


def _image(run: ExportedRun) -> dict[str, Any]:
    channels, colour = bundle_channels(run.card), run.card.modality == "photo"
    return _tensor(run, channels, "image", "RGB" if colour else "magnitude") | {
        "value_range": _range(run),
        "modality": run.card.modality,
        "channel_def": {str(i): ("red", "green", "blue")[i] if colour else "grey" for i in range(channels)},
    }


def _mask(run: ExportedRun) -> dict[str, Any]:
    name = run.card.classes[0]
    return _tensor(run, 1, "image", "segmentation") | {"channel_def": {"0": f"logit of {name}"}}


def _classes(run: ExportedRun) -> dict[str, Any]:
    names = run.card.classes
    return _tensor(run, len(names), "probabilities", "classes") | {
        "spatial_shape": [],
        "channel_def": {str(i): f"logit of {name}" for i, name in enumerate(names)},
    }


def _tensor(run: ExportedRun, channels: int, kind: str, form: str) -> dict[str, Any]:
    return {
        "type": kind,
        "format": form,
        "num_channels": channels,
        "spatial_shape": [run.card.size, run.card.size],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
    }


def _range(run: ExportedRun) -> list[float]:
    """Lowest and highest standardized value."""
    pairs = list(zip(run.card.mean, run.card.std, strict=True))
    return [min(-m / s for m, s in pairs), max((1 - m) / s for m, s in pairs)]


def _scores(run: ExportedRun) -> dict[str, float]:
    return {
        f"{name} {metric}": found["value"]
        for name, content in run.evaluations.items()
        for metric, found in content.get("metrics", {}).items()
        if isinstance(found, dict) and found.get("value") is not None
    }


def inference_config(run: ExportedRun) -> dict[str, Any]:
    """Return the content of ``inference.json``.

    Raises
    ------
    InputError
        If the network cannot be built without gcsam-med.
    """
    card = run.card
    segmentation = card.task == "segmentation"
    channels = bundle_channels(card)
    spread = channels // len(card.mean)
    return {
        "imports": [
            "$import torch",
            "$import numpy as np",
            "$from pathlib import Path",
            "$from PIL import Image",
            "$from PIL import ImageOps",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "batch_size": 8,
        "mode": "RGB" if card.modality == "photo" else "L",
        "size": card.size,
        "threshold": run.threshold,
        "datalist": "$sorted(str(p) for p in Path(@dataset_dir).iterdir() "
        "if p.suffix.lower() in ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff'))",
        "network_def": network_definition(card),
        "network": "$@network_def.to(@device)",
        **GEOMETRY,
        "sizes": "$lambda pixels: {'height': pixels.shape[0], 'width': pixels.shape[1], "
        "'image': @place(pixels, @inner(*pixels.shape[:2]))}",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                "$lambda path: {'name': Path(path).name, **@sizes(@read(path))}",
                {
                    "_target_": "EnsureChannelFirstd",
                    "keys": "image",
                    "channel_dim": -1 if card.modality == "photo" else "no_channel",
                },
                *_repeat(card.modality, channels),
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image", "a_min": 0, "a_max": 255, "b_min": 0, "b_max": 1,
                },
                {
                    "_target_": "NormalizeIntensityd",
                    "keys": "image", "channel_wise": True,
                    "subtrahend": list(card.mean) * spread, "divisor": list(card.std) * spread,
                },
                {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset", "batch_size": "@batch_size", "shuffle": False, "num_workers": 0,
        },
        "inferer": {"_target_": "SimpleInferer"},
        **(_segmentation() if segmentation else _classification()),
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "initialize": ["$Path(@output_dir).mkdir(parents=True, exist_ok=True)"],
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def _repeat(modality: str, channels: int) -> list[dict[str, Any]]:
    if modality == "photo" or channels == 1:
        return []
    return [{"_target_": "RepeatChanneld", "keys": "image", "repeats": channels}]


def _loader() -> dict[str, Any]:
    return {
        "_target_": "CheckpointLoader",
        "load_path": "$@bundle_root + '/models/model.pt'",
        "load_dict": {"model": "@network"},
        "map_location": "@device",
    }


def _segmentation() -> dict[str, Any]:
    return {
        "restore": RESTORE,
        "mask": "$lambda plane, height, width: "
        "@restore(plane, @inner(height, width), height, width) >= @threshold",
        "save": "$lambda mask, name: Image.fromarray(mask.astype(np.uint8) * 255).save("
        "Path(@output_dir) / (name if name.lower().endswith('.png') else name + '.png'))",
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                "$lambda d: {**d, 'pred': @mask(d['pred'][0].cpu().numpy(), int(d['height']), "
                "int(d['width']))}",
                "$lambda d: (d, @save(d['pred'], d['name']))[0]",
            ],
        },
        "handlers": [_loader()],
    }


def _classification() -> dict[str, Any]:
    return {
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
        },
        "handlers": [
            _loader(),
            {
                "_target_": "ClassificationSaver",
                "output_dir": "@output_dir",
                "filename": "predictions.csv",
                "batch_transform": "$lambda batch: [{'filename_or_obj': d['name']} for d in batch]",
                "output_transform": "$lambda output: [d['pred'] for d in output]",
            },
        ],
    }


def bundle_channels(card: ModelCard) -> int:
    """How many channels the bundle's network takes: torchvision's stock classes take colour."""
    return COLOUR if NETWORKS[card.model].library == "torchvision" else card.in_channels


def network_definition(card: ModelCard) -> dict[str, Any]:
    """Return ``network_def`` of a bundle's configuration.

    Raises
    ------
    InputError
        If the network is one that only gcsam-med can build.
    """
    spec = NETWORKS[card.model]
    if spec.library == "monai":
        channels = {"in_channels": card.in_channels, "out_channels": 1}
        # The rate is for those who train on; inference has no use for it.
        rate = {spec.dropout: card.dropout} if card.dropout else {}
        return {"_target_": spec.target, **spec.options, **channels, **rate}
    if spec.library == "torchvision":
        definition: dict[str, Any] = {
            "_target_": "torchvision.models.get_model",
            "name": str(spec.target).rpartition(".")[2],
            "num_classes": len(card.classes),
        }
        return definition | ({"image_size": card.size} if card.model == "vit-b-16" else {})
    possible = ", ".join(name for name, other in NETWORKS.items() if can_be_bundled(other))
    raise InputError(
        f"'{card.model}' is no network that MONAI or torchvision has ready, so a bundle of it would need "
        "gcsam-med to run.",
        f"Use --format onnx or torch-export. As bundles: {possible}.",
    )


def can_be_bundled(spec: NetworkSpec) -> bool:
    """Whether MONAI or torchvision has the network ready."""
    return spec.library in ("monai", "torchvision")


def bundle_weights(card: ModelCard, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the network's state_dict under the names and shapes of the bundle's network.

    For torchvision's networks the dropout layer before the last one is taken out of the names, and the first
    kernel is spread over three channels, which a grey image, repeated, then fills.
    """
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    if NETWORKS[card.model].library != "torchvision":
        return weights
    stock = _stock(card)
    for name in [name for name in weights if name not in stock]:
        stem, _, kind = name.rpartition(".")
        weights[f"{stem.removesuffix('.1')}.{kind}"] = weights.pop(name)
    for name, value in weights.items():
        if value.shape != stock[name].shape:
            weights[name] = fit_channels(value, COLOUR)
    return weights


def _stock(card: ModelCard) -> dict[str, torch.Tensor]:
    import torchvision

    definition = network_definition(card)
    arguments = {key: value for key, value in definition.items() if key not in ("_target_", "name")}
    with torch.device("meta"):
        return dict(torchvision.models.get_model(definition["name"], **arguments).state_dict())

"""``configs/inference.json`` of a MONAI bundle: the whole way from image files to masks or probabilities.

The steps that MONAI has not ready are expressions over NumPy and Pillow, so that the bundle runs where
gcsam-med is not installed and still gives its masks.
"""

from __future__ import annotations

from typing import Any

from gcsam_med.inference.export.bundle_network import bundle_channels, network_definition
from gcsam_med.inference.export.exported_run import Subject

# The square: the same arithmetic as `gcsam_med.transforms.letterbox.Letterbox`.
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


def inference_config(subject: Subject) -> dict[str, Any]:
    """Return the content of ``inference.json``.

    Raises
    ------
    InputError
        If the network cannot be built without gcsam-med.
    """
    card = subject.card
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
        "threshold": subject.threshold,
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

"""Tiny prepared data sets and runs for tests: real files in the real layout, made in well under a second.

The pictures are noise with a dark ellipse (a lesion); in class 1 its outline is jagged, and the last class
holds no lesion. Nothing in them is medical.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from gcsam_med import __version__
from gcsam_med.config import RunConfig, Task, dump_config
from gcsam_med.datasets.prepared import (
    AUDIT,
    IMAGES,
    INFO,
    MANIFEST,
    MASKS,
    ORIGINAL_MASKS,
    DatasetInfo,
    PlaneWriter,
    PreparedDataset,
    prepared_root,
    with_fingerprint,
)
from gcsam_med.preparation.store import FINGERPRINTS, HASHES, THUMBS
from gcsam_med.reporting.report import Report
from gcsam_med.runs import ModelCard, RunFolder, save_model
from gcsam_med.runs.folder import settings_sha256
from gcsam_med.transforms.letterbox import Letterbox

SHARED = 3
"""Row of all sets `with_fingerprints` that holds one picture."""


def picture(label: str, height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image: uint8 [H, W], and its lesion: bool [H, W] (empty for ``normal``)."""
    image = rng.normal(150, 18, (height, width))
    mask = Image.new("1", (width, height))
    if label != "normal":
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        jagged = 1 + (0.25 * rng.standard_normal(40) if label == "malignant" else 0)
        y0, x0 = height * rng.uniform(0.35, 0.65), width * rng.uniform(0.35, 0.65)
        ry, rx = height * rng.uniform(0.12, 0.28), width * rng.uniform(0.12, 0.28)
        corners = np.stack([x0 + rx * np.cos(angle) * jagged, y0 + ry * np.sin(angle) * jagged], axis=1)
        ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in corners], fill=1)
    lesion = np.asarray(mask)
    image[lesion] -= 90 if label == "malignant" else 70
    return np.clip(image, 0, 255).astype(np.uint8), lesion


def make_prepared(
    root: Path,
    n: int = 36,
    size: int = 32,
    seed: int = 0,
    *,
    name: str = "toy",
    classes: Sequence[str] = ("benign", "malignant", "normal"),
    with_masks: bool = True,
    spacing: str = "",
    group_size: int = 2,
    synthetic: bool = True,
    group_kind: str = "near-duplicate",
) -> PreparedDataset:
    """Write ``root/prepared/NAME`` and open it.

    ``root`` is a data root. Case i has class i modulo the number of classes; every `group_size` cases of one
    class are a group; groups go to train, train, train, val, test in turn, so with n >= 10 * classes all
    splits hold all classes. Originals are between 40x50 and 70x90 pixels. Columns ``device`` (A, B) and
    ``birads`` are there for subgroups. A class called ``normal`` is negative: no lesion, no mask.
    """
    rng = np.random.default_rng(seed)
    folder = prepared_root(root, name)
    (folder / ORIGINAL_MASKS).mkdir(parents=True)
    images, masks = (np.zeros((n, size, size), dtype=np.uint8) for _ in range(2))
    records = []
    for i in range(n):
        label = classes[i % len(classes)]
        height, width = int(rng.integers(40, 71)), int(rng.integers(50, 91))
        image, lesion = picture(label, height, width, rng)
        geometry = Letterbox(height, width, size)
        images[i] = geometry.place_image(image)
        has_mask = with_masks and bool(lesion.any())
        if has_mask:
            masks[i] = geometry.place_mask(lesion)
            Image.fromarray(lesion).save(folder / ORIGINAL_MASKS / f"{i:06d}.png")
        group = (i // len(classes)) // group_size
        split = ("train", "train", "val", "test", "train")[group % 5]
        records.append(
            {
                "case_id": f"{label}_{i:03d}",
                "group_id": f"{label[0]}{group:03d}",
                "source_path": f"{label}/{label}_{i:03d}.png",
                "source_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
                "label": label,
                "split": split,
                "fold": -1 if split == "test" else group % 2,
                "height": height,
                "width": width,
                "pixel_spacing": spacing,
                "has_mask": int(has_mask),
                "device": "AB"[i % 2],
                "birads": str(2 + i % 4),
            }
        )
    np.save(folder / IMAGES, images)
    if with_masks:
        np.save(folder / MASKS, masks)
    manifest = pd.DataFrame(records)
    manifest.to_csv(folder / MANIFEST, index=False)
    counts = manifest.groupby(["split", "label"]).size().unstack(fill_value=0).to_dict("index")
    info = DatasetInfo(
        name=name,
        title="Toy lesions",
        classes=list(classes),
        positive_class="malignant" if "malignant" in classes else "",
        negative_classes=[c for c in classes if c == "normal"],
        empty_mask_classes=[c for c in classes if c == "normal"],
        modality="ultrasound",
        channels=1,
        size=size,
        n_cases=n,
        has_masks=with_masks,
        synthetic=synthetic,
        group_kind=group_kind,  # type: ignore[arg-type]
        counts={str(split): by_class for split, by_class in counts.items()},
        seed=seed,
        folds=2,
        tool_version=__version__,
        licence="CC0",
    )
    info = with_fingerprint(folder, info)
    (folder / INFO).write_text(info.model_dump_json(by_alias=True, indent=2), encoding="utf-8")
    (folder / AUDIT).write_text(json.dumps({"schema": 1, "findings": []}), encoding="utf-8")
    return PreparedDataset(folder)


def reseal(folder: Path, **changes: Any) -> PreparedDataset:
    """Let ``dataset.json`` say what a test has made of a prepared set: `prepare` would have written it so."""
    content = json.loads((folder / INFO).read_text(encoding="utf-8")) | changes
    content.pop("seal", None)
    info = with_fingerprint(folder, DatasetInfo.model_validate(content))
    (folder / INFO).write_text(info.model_dump_json(by_alias=True, indent=2), encoding="utf-8")
    return PreparedDataset(folder)


def with_fingerprints(dataset: PreparedDataset, seed: int) -> PreparedDataset:
    """Add what `prepare` keeps to find pictures again: hashes, far from each other, and thumbnails."""
    rng = np.random.default_rng(seed)
    n = len(dataset)
    table = pd.DataFrame({"case_id": dataset.manifest["case_id"]})
    table["pixel_sha256"] = [hashlib.sha256(f"{seed} {i}".encode()).hexdigest() for i in range(n)]
    table.loc[SHARED, "pixel_sha256"] = "shared"
    for column in HASHES:
        table[column] = [f"{int(x):016x}" for x in rng.integers(0, 2**63, n)]
    table.to_csv(dataset.root / FINGERPRINTS, index=False)
    with PlaneWriter(dataset.root / THUMBS, (128, 128)) as thumbs:
        for _ in range(n):
            thumbs.append(np.zeros((128, 128), dtype=np.uint8))
    return dataset


def make_run(
    root: Path,
    dataset: PreparedDataset,
    task: Task = "segmentation",
    *,
    name: str = "run",
    model: str | None = None,
    classes: Sequence[str] | None = None,
    steps: int = 0,
    seed: int = 0,
    fold: int | None = None,
    test_fold: int | None = None,
) -> Path:
    """Write ``root/NAME``, a finished run as `train` leaves it, its network trained for `steps` Adam steps.

    With ``steps=0`` the network is untrained but the same for the same seed. ``classes`` of a
    classification: all by default.
    """
    import torch

    from gcsam_med.networks import build_network, default_model
    from gcsam_med.runs.model import TrainedModel, load_model
    from gcsam_med.training.calibration import calibrate

    info = dataset.info
    model = model or default_model(task)
    names = list(classes or info.classes) if task == "classification" else [info.mask_target]
    torch.manual_seed(seed)
    network = build_network(
        model, task=task, in_channels=info.channels, outputs=len(names) if task == "classification" else 1,
        size=info.size,
    )  # fmt: skip
    config = RunConfig(
        dataset=info.name,
        data_root=dataset.root.parent.parent,
        task=task,
        model=model,
        classes=list(classes) if classes else None,
        fold=fold,
        test_fold=test_fold,
        seed=seed,
        precision="fp32",
    )
    card = ModelCard(
        task=task,
        model=model,
        classes=names,
        modality=info.modality,
        in_channels=info.channels,
        size=info.size,
        mean=[0.5] * info.channels,
        std=[0.25] * info.channels,
        dataset=info.name,
        dataset_sha256=info.content_sha256,
        synthetic=info.synthetic,
        optimizer="gcsam",
        settings_sha256=settings_sha256(config),
        epoch=max(steps, 1),
        tool_version=__version__,
    )
    rows = [
        r
        for r in dataset.rows("train", fold, test_fold)
        if task == "segmentation" or _label(dataset, r) in names
    ]
    losses = _fit(TrainedModel(network, card, torch.device("cpu")), dataset, rows, steps) if steps else [1.0]
    run = RunFolder(root / name)
    save_model(run.model, network.eval(), card)
    run.config_file.write_text(dump_config(config), encoding="utf-8")
    metric = "val_dice" if task == "segmentation" else "val_auc"
    history = pd.DataFrame({"epoch": range(1, len(losses) + 1), "train_loss": losses, "val_loss": losses})
    history[metric] = np.linspace(0.2, 0.8, len(losses))
    history["lr"], history["seconds"], history["images_per_second"] = 1e-3, 1.5, 60.0
    history.to_csv(run.history_file, index=False)
    run.environment_file.write_text(json.dumps({"gcsam_med": __version__, "device": "cpu"}), encoding="utf-8")
    calibrate(run, load_model(run.model), config, dataset)
    result = {"run": str(run.root), "epochs": len(losses), "steps": steps, "seconds": 1.5 * len(losses)}
    result["metric"] = metric.removeprefix("val_")
    run.result_file.write_text(json.dumps(result), encoding="utf-8")
    return run.root


def _label(dataset: PreparedDataset, row: int) -> str:
    return str(dataset.manifest["label"].iloc[row])


def _fit(model, dataset: PreparedDataset, rows: Sequence[int], steps: int) -> list[float]:  # type: ignore[no-untyped-def]
    import torch
    from torch.nn import functional

    x = model.tensor(dataset.images(rows))
    if model.card.task == "segmentation":
        y = torch.from_numpy(dataset.masks(rows)).float()[:, None]
    else:
        y = torch.tensor([model.card.classes.index(_label(dataset, r)) for r in rows])
    adam, losses = torch.optim.Adam(model.network.train().parameters(), lr=3e-3, fused=True), []
    for step in range(steps):
        chosen = torch.arange(step * 8, step * 8 + 8) % len(rows)
        logits = model.network(x[chosen])
        if model.card.task == "segmentation":
            loss = functional.binary_cross_entropy_with_logits(logits, y[chosen])
        else:
            loss = functional.cross_entropy(logits, y[chosen])
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    return losses


@cache
def trained_runs() -> dict[str, Path]:
    """Return runs trained just long enough to be better than chance, made once a process; do not change them.

    ``segmentation``; ``binary`` (benign, malignant); ``classes`` (all three). Their data root is ``data``.
    """
    import atexit
    import shutil
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="gcsam-med-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    dataset = make_prepared(root / "data", n=120)
    runs = root / "runs"
    return {
        "data": root / "data",
        "segmentation": make_run(runs, dataset, steps=30, name="segmentation"),
        "binary": make_run(
            runs, dataset, "classification", steps=60, name="binary", classes=("benign", "malignant")
        ),
        "classes": make_run(runs, dataset, "classification", steps=15, name="classes"),
    }


def copied_run(folder: Path, kind: str) -> Path:
    """Copy one of `trained_runs` into an empty folder, to evaluate and change as a test likes."""
    import shutil

    return Path(shutil.copytree(trained_runs()[kind], folder / "runs" / kind))


@cache
def report_of(kind: str) -> Report:
    """Evaluate one of `trained_runs` (a copy of it), once a process."""
    import tempfile

    from gcsam_med.evaluation import evaluate_run

    with tempfile.TemporaryDirectory() as folder:
        return evaluate_run(copied_run(Path(folder), kind), resamples=200, device="cpu")

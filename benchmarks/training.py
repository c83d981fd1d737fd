"""What the training loop costs and gives, against the loop a user would write today with MONAI.

Run on a BUSI folder (Dataset_BUSI_with_GT, original layout)::

    python benchmarks/training.py --source Dataset_BUSI_with_GT speed
    python benchmarks/training.py --source Dataset_BUSI_with_GT dice --epochs 20 --seeds 5
    python benchmarks/training.py --source Dataset_BUSI_with_GT loader
    python benchmarks/training.py --source Dataset_BUSI_with_GT cost

Every fifth benign and malignant image, in order of number, is the test set; images with a lesion only,
128x128, MONAI's U-Net of 1.6 M weights, batch 8, Adam 1e-3, DiceCE. ``speed`` takes all loops in turn,
several rounds in one run, and prints medians as ratios; ``loader`` does the same for the loaders alone,
without a network; ``cost`` gives the wall time of `train` with each method against Adam's, loader included;
``dice`` trains both with several seeds and compares them: the same training and validation images, the
same constant rate (``--lr``), no warm-up, the epoch of the best validation Dice, and one scoring for both:
probabilities brought back to the image's own resolution, foreground from 0.5, no threshold chosen. It prints
the difference with its 95 % interval over seeds and images.

The loop to compare with: MONAI's dictionary transforms read, resize and scale the PNGs, then flip, turn and
scale, change contrast and add noise; once reading the files in each epoch, once with CacheDataset.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gcsam_med.cli import run as gcsam_med

SIZE, BATCH, LR = 128, 8, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "loader", "cost", "dice"])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--lr", type=float, default=LR, help="of both loops, for dice")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        train, test = split(arguments.source)
        data_root = prepare(arguments.source, train, test, work)
        if arguments.what == "speed":
            speed(train, data_root, work, arguments.rounds)
        elif arguments.what == "loader":
            loader(train, data_root, arguments.rounds)
        elif arguments.what == "cost":
            cost(data_root, work, arguments.rounds)
        else:
            dice(train, test, data_root, work, arguments)


def split(source: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every fifth image of a class, in order of number, is a test image."""
    train: list[dict[str, Any]] = []
    test: list[dict[str, Any]] = []
    for label in ("benign", "malignant"):
        files = [p for p in (source / label).glob("*.png") if "_mask" not in p.name]
        files.sort(key=lambda p: int(re.findall(r"\d+", p.name)[0]))
        for place, file in enumerate(files):
            masks = sorted(file.parent.glob(f"{file.stem}_mask*.png"))
            (test if place % 5 == 4 else train).append({"image": file, "mask": masks, "label": label})
    print(f"{len(train)} training and {len(test)} test images")
    return train, test


def prepare(source: Path, train: list[dict[str, Any]], test: list[dict[str, Any]], work: Path) -> Path:
    """Prepare this split through `table`; every tenth of its training images chooses the best epoch."""
    copy = work / "busi"
    shutil.copytree(source, copy)
    with (copy / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask", "label", "split"])
        for place, item in enumerate(train + test):
            part = "test" if place >= len(train) else ("val" if place % 10 == 9 else "train")
            masks = ";".join(str(m.relative_to(source)) for m in item["mask"])
            writer.writerow([item["image"].relative_to(source), masks, item["label"], part])
    command = ["prepare", "--dataset", "table", "--name", "busi", "--source", str(copy / "table.csv")]
    if code := gcsam_med([*command, "--size", str(SIZE), "--data-root", str(work / "data"), "-q"]):
        raise SystemExit(code)
    return work / "data"


# --- The loop to compare with


def monai_transforms(tracked: bool = True) -> tuple[list[Any], list[Any]]:
    """Deterministic and random transforms of the usual MONAI pipeline, which tracks metadata by default."""
    from monai import transforms as mt

    keys, modes = ["image", "mask"], ("bilinear", "nearest")
    fixed = [
        mt.Lambdad("image", lambda p: np.asarray(Image.open(p).convert("L"), dtype=np.float32)[None]),
        mt.Lambdad("mask", union),
        mt.Resized(keys, (SIZE, SIZE), mode=modes),
        mt.ScaleIntensityd("image"),
        mt.EnsureTyped(keys, dtype=torch.float32, track_meta=tracked),
    ]
    affine = {"rotate_range": 0.26, "scale_range": 0.1, "translate_range": 10, "padding_mode": "zeros"}
    chance = [
        mt.RandFlipd(keys, prob=0.5, spatial_axis=1),
        mt.RandAffined(keys, prob=0.5, mode=modes, **affine),
        mt.RandAdjustContrastd("image", prob=0.3),
        mt.RandGaussianNoised("image", prob=0.3, std=0.05),
    ]
    return fixed, chance


def union(paths: list[Path]) -> np.ndarray:
    planes = [np.asarray(Image.open(p).convert("L")) > 0 for p in paths]
    return np.max(planes, axis=0)[None].astype(np.float32)


def monai_loader(items: list[dict[str, Any]], cached: bool, tracked: bool = True) -> Any:
    from monai.data import CacheDataset, DataLoader, Dataset
    from monai.transforms import Compose

    fixed, chance = monai_transforms(tracked)
    both = Compose([*fixed, *chance])
    data = [{"image": i["image"], "mask": i["mask"]} for i in items]
    dataset = CacheDataset(data, both, num_workers=2, progress=False) if cached else Dataset(data, both)
    return DataLoader(dataset, batch_size=BATCH, shuffle=True)


class PlainLoop:
    """Network, Adam and DiceCE; `epoch` yields the images of each step."""

    def __init__(self, channels_last: bool = False, lr: float = LR) -> None:
        from monai.losses import DiceCELoss

        from gcsam_med.networks import build_network

        self.network = build_network("unet", task="segmentation", in_channels=1, outputs=1, size=SIZE)
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.loss, self.optimizer = DiceCELoss(sigmoid=True), torch.optim.Adam(self.network.parameters(), lr)

    def epoch(self, loader: Any) -> Iterator[int]:
        """Train one pass over the loader."""
        self.network.train()
        for batch in loader:
            self.optimizer.zero_grad()
            self.loss(self.network(batch["image"]), batch["mask"]).backward()
            self.optimizer.step()
            yield len(batch["image"])


Items = list[dict[str, Any]]


def dice(train: Items, test: Items, data_root: Path, work: Path, arguments: argparse.Namespace) -> None:
    """Train both loops with each seed, score them alike, and print the difference with its interval."""
    from gcsam_med.metrics.seeds import crossed_effects

    plain, ours = [], []
    for seed in range(arguments.seeds):
        started = time.perf_counter()
        plain.append(plain_scores(train, test, arguments.epochs, seed, arguments.lr))
        between = time.perf_counter()
        ours.append(our_scores(test, data_root, work, arguments, seed))
        seconds = between - started, time.perf_counter() - between
        print(
            f"seed {seed}: MONAI loop {np.mean(plain[-1]):.3f} ({seconds[0]:.0f} s), train --optimizer "
            f"{arguments.optimizer} {np.mean(ours[-1]):.3f} ({seconds[1]:.0f} s)",
            flush=True,
        )
    difference = np.array(ours) - np.array(plain)
    print(f"mean test Dice at the images' own resolution: {np.mean(plain):.3f} and {np.mean(ours):.3f}")
    if len(difference) > 1:
        low, high = crossed_effects(difference, np.arange(len(test))).mean.ci95 or (np.nan, np.nan)
        print(f"difference {difference.mean():+.3f} (95 % CI {low:+.3f} to {high:+.3f}), {len(test)} images")


def scores(probabilities: Iterator[np.ndarray], items: Items) -> np.ndarray:
    """Dice of each image at its own resolution, foreground from a probability of 0.5."""
    found = []
    for probability, item in zip(probabilities, items, strict=True):
        guess, truth = probability >= 0.5, union(item["mask"])[0] > 0
        found.append(2 * (guess & truth).sum() / (guess.sum() + truth.sum()))
    return np.array(found)


def plain_scores(train: Items, test: Items, epochs: int, seed: int, lr: float) -> np.ndarray:
    """Train the plain loop and score its best validation epoch on the test images."""
    from monai.transforms import Compose
    from torch.nn.functional import interpolate

    torch.manual_seed(seed)
    val = [item for place, item in enumerate(train) if place % 10 == 9]
    loop, fixed = PlainLoop(lr=lr), Compose(monai_transforms()[0])
    loader = monai_loader([item for place, item in enumerate(train) if place % 10 != 9], cached=True)

    def probabilities(items: Items) -> Iterator[np.ndarray]:
        loop.network.eval()
        for item in items:
            case = fixed({"image": item["image"], "mask": item["mask"]})
            with torch.inference_mode():
                small = loop.network(case["image"].as_tensor()[None]).sigmoid()
            shape = union(item["mask"]).shape[1:]
            yield interpolate(small, shape, mode="bilinear", align_corners=False)[0, 0].numpy()

    best, kept = -1.0, loop.network.state_dict()
    for _ in range(epochs):
        for _ in loop.epoch(loader):
            pass
        found = float(scores(probabilities(val), val).mean())
        if found > best:
            best = found
            kept = {name: value.clone() for name, value in loop.network.state_dict().items()}
    loop.network.load_state_dict(kept)
    return scores(probabilities(test), test)


# --- Ours


def our_scores(
    test: Items, data_root: Path, work: Path, arguments: argparse.Namespace, seed: int
) -> np.ndarray:
    """Run `train` at the same constant rate and score it as the other loop is scored."""
    from gcsam_med import load

    out = work / f"run-{seed}"
    command = ["train", "--dataset", "busi", "--data-root", str(data_root), "--output", str(out), "-q"]
    command += ["--optimizer", arguments.optimizer, "--epochs", str(arguments.epochs), "--seed", str(seed)]
    command += ["--lr", str(arguments.lr), "--batch-size", str(BATCH), "--patience", "0", "--device", "cpu"]
    if code := gcsam_med([*command, "--set", "schedule=constant", "--set", "warmup_epochs=0"]):
        raise SystemExit(code)
    answers = load(out).predict_many([item["image"] for item in test])
    return scores((answer.probability for answer in answers), test)


def our_rate(data_root: Path, work: Path, *, whole_epoch: bool = False, **changes: Any) -> float:
    """Images a second of `train` over one epoch: in its steps, or in all that an epoch is.

    The whole epoch holds validation, checkpoint, model and curves as well, which the loops to compare with
    do not have.
    """
    from gcsam_med.config import RunConfig
    from gcsam_med.training import Callback, EpochEnd, Start, train

    class Clock(Callback):
        def start(self, event: Start) -> None:
            self.started, self.cases = time.perf_counter(), len(event.plan.train_rows)

        def epoch_end(self, event: EpochEnd) -> None:
            self.rate = self.cases / (time.perf_counter() - self.started)

    clock = Clock()
    settings = {"dataset": "busi", "data_root": data_root, "optimizer": "adam", "epochs": 1, "device": "cpu"}
    config = RunConfig.model_validate(settings | {"batch_size": BATCH} | changes)
    result = train(config, Path(tempfile.mkdtemp(dir=work)) / "run", clock)
    return clock.rate if whole_epoch else result.images_per_second


def rate(steps: Iterator[int]) -> float:
    started = time.perf_counter()
    images = sum(steps)
    return images / (time.perf_counter() - started)


def speed(train: list[dict[str, Any]], data_root: Path, work: Path, rounds: int) -> None:
    """All loops in turn, several rounds; medians, and ratios within a round."""
    batch = {
        "image": torch.rand(BATCH, 1, SIZE, SIZE).contiguous(memory_format=torch.channels_last),
        "mask": (torch.rand(BATCH, 1, SIZE, SIZE) > 0.8).float(),
    }
    in_memory = [batch] * (len(train) // BATCH)
    reading, cached = monai_loader(train, cached=False), monai_loader(train, cached=True)
    untracked = monai_loader(train, cached=True, tracked=False)
    bare, plain, plain_cached = PlainLoop(channels_last=True), PlainLoop(), PlainLoop()
    loops: dict[str, Callable[[], float]] = {
        "bare": lambda: rate(bare.epoch(in_memory)),
        "train, augmentation off": lambda: our_rate(data_root, work, augment=False),
        "train": lambda: our_rate(data_root, work),
        "train, whole epoch": lambda: our_rate(data_root, work, whole_epoch=True),
        "gcsam, whole epoch": lambda: our_rate(data_root, work, whole_epoch=True, optimizer="gcsam"),
        "MONAI, CacheDataset": lambda: rate(plain_cached.epoch(cached)),
        "MONAI, untracked cache": lambda: rate(plain_cached.epoch(untracked)),
        "MONAI, reading PNGs": lambda: rate(plain.epoch(reading)),
    }
    pairs = [
        ("train, augmentation off", "bare"),
        ("train", "MONAI, reading PNGs"),
        ("train", "MONAI, CacheDataset"),
        ("train", "MONAI, untracked cache"),
        ("train, whole epoch", "gcsam, whole epoch"),
    ]
    compare(loops, pairs, rounds)


def cost(data_root: Path, work: Path, rounds: int) -> None:
    """Methods in turn: wall time of their steps, and of whole epochs, in units of Adam's."""
    methods: dict[str, dict[str, Any]] = {
        "adam": {"optimizer": "adam"},
        "gcsam": {"optimizer": "gcsam"},
        "gcsam, a quarter": {"optimizer": "gcsam", "ascent_fraction": 0.25},
        "gcsam, every fifth": {"optimizer": "gcsam", "every": 5},
        "msam": {"optimizer": "msam"},
    }
    loops: dict[str, Callable[[], float]] = {}
    for name, changes in methods.items():
        loops[f"{name}: steps"] = lambda c=changes: our_rate(data_root, work, **c)  # type: ignore[misc]
        loops[f"{name}: epoch"] = lambda c=changes: our_rate(  # type: ignore[misc]
            data_root, work, whole_epoch=True, **c
        )
    pairs = [(f"adam: {what}", f"{name}: {what}") for name in methods for what in ("steps", "epoch")]
    compare(loops, pairs, rounds)


def loader(train: list[dict[str, Any]], data_root: Path, rounds: int) -> None:
    """The loaders alone, training transforms included, in one process each."""
    from gcsam_med.config import RunConfig
    from gcsam_med.datasets.prepared import open_prepared
    from gcsam_med.training import make_plan
    from gcsam_med.training.batches import Batches

    config = RunConfig(dataset="busi", data_root=data_root, batch_size=BATCH)
    batches = Batches(make_plan(config, open_prepared(data_root, "busi")))
    reading, cached = monai_loader(train, cached=False), monai_loader(train, cached=True)
    ours, png, ram = "ours, from disk", "MONAI, reading PNGs", "MONAI, CacheDataset"
    loops: dict[str, Callable[[], float]] = {
        ours: lambda: rate(len(part.images) for i in range(batches.steps_per_epoch) for part in batches[i]),
        ram: lambda: rate(len(batch["image"]) for batch in cached),
        png: lambda: rate(len(batch["image"]) for batch in reading),
    }
    compare(loops, [(ours, png), (ours, ram)], rounds)


def compare(loops: dict[str, Callable[[], float]], pairs: list[tuple[str, str]], rounds: int) -> None:
    """Let the loops take turns; print medians, and the median of the ratios within a round."""
    measured: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            measured[name].append(loop())
    for name, values in measured.items():
        listing = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:24s} {statistics.median(values):6.1f} images/s  ({listing})")
    for one, other in pairs:
        ratios = [a / b for a, b in zip(measured[one], measured[other], strict=True)]
        print(f"{one} / {other}: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()

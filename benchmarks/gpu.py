"""Images a second and memory of `gcsam-med train` on a GPU, against bare steps in a graph and MONAI's loop.

::

    python benchmarks/gpu.py                     # U-Net, batch 8 and 32; ResNet-50 and ViT-B/16, batch 32
    python benchmarks/gpu.py --profile unet:8    # the kernels of a step, for adam and for gcsam
    python benchmarks/gpu.py --device cpu --size 32 --networks unet:8 --cases 60   # does it run at all

A row is the training loop's ``images_per_second`` as in ``history.csv``, the median over epochs without the
first, which captures: reading, augmentation, passes, optimizer and counters, without validation. ``bare`` is
forward, backward and fused Adam of the same network, loss, batch, size and precision on one resident batch,
as one graph. ``MONAI`` is a cached data set with random transforms in four workers, autocast and Adam.
Exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.devices import pick_device, pick_precision
from gcsam_med.runs import RunFolder
from gcsam_med.training.batches import Batches, MicroBatch
from gcsam_med.training.build import Parts, build_parts
from gcsam_med.training.callbacks import Callback
from gcsam_med.training.loop import train_loop
from gcsam_med.training.plan import Plan, make_plan
from gcsam_med.training.state import TrainingState
from gcsam_med.training.steps import Steps
from tests.builders import make_prepared

# Of a bare step; GCSAM, every=5 and Momentum-SAM against Adam; of MONAI's loop.
LEAST_OF_BARE, LEAST_OF_MONAI = 0.9, 3.0
MOST_OF_ADAM = {"gcsam": 2.1, "gcsam every=5": 1.3, "msam": 1.1}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", default="unet:8,unet:32,resnet50:32,vit-b-16:32", help="name:batch")
    parser.add_argument("--size", type=int, default=256, help="side of the images; 224 for ViT-B/16")
    parser.add_argument("--cases", type=int, default=1200, help="of the data set, three fifths of them train")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--profile", help="name:batch; print the kernels of a step and stop")
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {_device_name(given.device)}, precision auto", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if given.profile:
            _profile(Path(folder), given)
            return 0
        missed = [line for item in given.networks.split(",") for line in _table(Path(folder), item, given)]
    for line in missed:
        print(f"MISSED: {line}")
    return int(bool(missed))


def _table(folder: Path, item: str, given: argparse.Namespace) -> list[str]:
    """Print the rows of a network; what misses its bar."""
    data, rates = _data(folder, item, given), {}
    on_gpu = given.device == "cuda"
    rows: dict[str, Callable[[], float]] = {
        name: lambda name=name: _train(folder, data, item, name, given)  # type: ignore[misc]
        for name in ("adam", *MOST_OF_ADAM)
    }
    if on_gpu:
        if item == "unet:8":
            rows["gcsam capture=off"] = lambda: _train(folder, data, item, "gcsam capture=off", given)
        rows["bare, captured"] = lambda: _bare(data, item, given)
        if item == "unet:8":
            rows["MONAI's loop"] = lambda: _monai(data, item, given)
    print(f"{'network:batch':16s} {'':18s} {'images/s':>9s} {'time of Adam':>12s} {'MiB':>7s}", flush=True)
    for name, measure in rows.items():
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        rates[name] = measure()
        memory = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else 0
        relative = rates["adam"] / rates[name]
        print(f"{item:16s} {name:18s} {rates[name]:9.0f} {relative:12.2f} {memory:7.0f}", flush=True)
    missed = [
        f"{item}: {name} takes {rates['adam'] / rates[name]:.2f} times as long as Adam, allowed {most}"
        for name, most in MOST_OF_ADAM.items()
        if on_gpu and rates["adam"] / rates[name] > most
    ]
    least = {"bare, captured": LEAST_OF_BARE, "MONAI's loop": LEAST_OF_MONAI}
    for name, bar in least.items():
        if name in rates and rates["adam"] < bar * rates[name]:
            missed.append(f"{item}: adam is {rates['adam'] / rates[name]:.2f} of {name}, asked for {bar}")
    return missed


def _data(folder: Path, item: str, given: argparse.Namespace) -> PreparedDataset:
    size = 224 if item.startswith("vit") else given.size
    name = f"toy{size}"
    if (folder / "prepared" / name).is_dir():
        return PreparedDataset(folder / "prepared" / name)
    return make_prepared(folder, given.cases, size, name=name)


def _settings(folder: Path, data: PreparedDataset, item: str, name: str, given: argparse.Namespace) -> Any:
    network, batch = item.split(":")
    optimizer, *options = name.split(" ")
    return {
        "dataset": data.info.name,
        "data_root": folder,
        "task": "segmentation" if network == "unet" else "classification",
        "model": network,
        "optimizer": optimizer,
        "batch_size": int(batch),
        "epochs": given.epochs,
        "patience": 0,
        "device": given.device,
        **{key: {"off": False}.get(value) if value == "off" else int(value) for key, value in
           (option.split("=") for option in options)},
    }  # fmt: skip


def _train(folder: Path, data: PreparedDataset, item: str, name: str, given: argparse.Namespace) -> float:
    plan, parts = _parts(folder, data, item, name, given)
    run = RunFolder(folder / f"{item}-{name}".replace(" ", "-").replace(":", "-"))
    for part in (run.checkpoints, run.model):
        part.mkdir(parents=True)
    state = TrainingState()
    train_loop(replace(plan, val_rows=plan.val_rows[:16]), parts, state, run, Callback())
    return statistics.median(float(row["images_per_second"]) for row in state.history[1:])


def _parts(folder: Path, data: PreparedDataset, item: str, name: str, given: argparse.Namespace) -> Any:
    config = RunConfig(**_settings(folder, data, item, name, given))
    precision = pick_precision(config.precision, pick_device(config.device))
    plan = make_plan(config.model_copy(update={"precision": precision}), data)
    return plan, build_parts(plan)


def _bare(data: PreparedDataset, item: str, given: argparse.Namespace) -> float:
    plan, parts = _parts(data.root.parents[1], data, item, "adam", given)
    batch = Batches(plan, device=parts.device)[0][0]
    batch = MicroBatch(batch.images, batch.targets, 1.0)
    optimizer = torch.optim.Adam(parts.network.parameters(), lr=1e-4, fused=True, capturable=True)
    parts.network.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        parts.loss_of(batch).backward()
        optimizer.step()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return len(batch.images) / _seconds(graph.replay)


def _monai(data: PreparedDataset, item: str, given: argparse.Namespace) -> float:
    from monai import transforms as mt
    from monai.data import CacheDataset, DataLoader

    plan, parts = _parts(data.root.parents[1], data, item, "adam", given)
    keys, modes = ["image", "mask"], ("bilinear", "nearest")
    chance = [
        mt.RandFlipd(keys, prob=0.5, spatial_axis=1),
        mt.RandAffined(
            keys, prob=1.0, rotate_range=0.26, scale_range=0.15, translate_range=20, mode=modes,
            padding_mode="zeros",
        ),
        mt.RandAdjustContrastd("image", prob=0.8, gamma=(0.75, 1.3)),
        mt.RandGaussianNoised("image", prob=0.5, std=0.1),
    ]  # fmt: skip
    rows = plan.train_rows
    images, masks = data.images(rows), data.masks(rows)
    items = [
        {"image": image[None].astype("float32") / 255, "mask": mask[None].astype("float32")}
        for image, mask in zip(images, masks, strict=True)
    ]
    cached = CacheDataset(items, mt.Compose(chance), num_workers=4, progress=False)
    loader = DataLoader(
        cached, batch_size=plan.config.batch_size, shuffle=True, num_workers=4, pin_memory=True,
        persistent_workers=True, drop_last=True,
    )  # fmt: skip
    optimizer = torch.optim.Adam(parts.network.parameters(), lr=1e-3)
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        for batch in loader:
            optimizer.zero_grad()
            image, mask = (batch[key].to(parts.device, non_blocking=True) for key in keys)
            parts.loss_of(MicroBatch(image.as_tensor(), mask.as_tensor(), 1.0)).backward()
            optimizer.step()
        torch.cuda.synchronize()
        rates.append(len(loader) * plan.config.batch_size / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def _seconds(step: Callable[[], object], steps: int = 20) -> float:
    """Median seconds of a step over five rounds, after one that warms up."""
    rounds = []
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        rounds.append((time.perf_counter() - start) / steps)
    return statistics.median(rounds[1:])


def _profile(folder: Path, given: argparse.Namespace) -> None:
    """Print device and host time of a step, and the kernels that take most of it."""
    from torch.profiler import ProfilerActivity, profile

    item = given.profile
    data = _data(folder, item, given)
    for name in ("adam", "gcsam"):
        made: tuple[Plan, Parts] = _parts(folder, data, item, name, given)
        plan, parts = made
        parts.network.train()
        batches = Batches(plan, device=parts.device)
        steps = Steps(plan.config, parts, print)
        stream = itertools.count()

        def step(steps: Steps = steps, batches: Batches = batches, stream: Any = stream) -> Tensor:
            number = next(stream) % (batches.steps_per_epoch - 1)
            return steps(batches[number], number).loss

        times = {
            "a step": _seconds(step),
            "the same batch again": _seconds(lambda s=steps, b=batches[0]: s(b, 0)),
            "batches alone": _seconds(lambda b=batches, i=stream: b[next(i) % (b.steps_per_epoch - 1)]),
        }
        start = time.perf_counter()
        for _ in range(20):
            step()
        times["the host's part of a step"] = (time.perf_counter() - start) / 20
        for what, seconds in times.items():
            print(f"{item} {name}: {what}: {seconds * 1e3:.2f} ms", flush=True)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
            for _ in range(5):
                step()
            torch.cuda.synchronize()
        print(
            found.key_averages().table(sort_by="self_cuda_time_total", row_limit=24, max_name_column_width=70)
        )


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


if __name__ == "__main__":
    raise SystemExit(main())

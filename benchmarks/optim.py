"""What sharpness-aware steps cost: time, memory and operations.

::

    python benchmarks/optim.py ascent      # ascent and restore, against pytorch_optimizer's SAM(use_gc=True)
    python benchmarks/optim.py memory      # bytes beyond weights, gradients and Adam's state
    python benchmarks/optim.py step        # whole training steps against Adam's, loader included

All variants are taken in turn, round after round, in one run; figures are medians over the rounds. ``ascent``
is given as a multiple of one copy of the weights (torch's ``copy_`` of one flat vector), measured in the same
rounds, since an ascent is bound by memory. The base optimizer's own step is not in it.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytorch_optimizer
import torch
import torchvision
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gcsam_med.optim import Sharpness, build, training_step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("ascent", "memory", "step"))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--networks", default="resnet50,vit_b_16,unet", help="names, with commas")
    parser.add_argument("--size", type=int, default=128, help="step: height and width of the images")
    parser.add_argument("--batch-size", type=int, default=8, help="step: images a batch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads")
    names = arguments.networks.split(",")
    match arguments.what:
        case "ascent":
            ascent(names, arguments.rounds)
        case "memory":
            memory(names)
        case "step":
            step(arguments.rounds, arguments.size, arguments.batch_size)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "unet":  # MONAI's U-Net of 1.6 M weights
        return UNet(2, 1, 1, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)
    return torchvision.models.get_model(name)


def with_gradients(name: str) -> list[Tensor]:
    weights: list[Tensor] = list(network(name).parameters())
    for weight in weights:
        weight.grad = torch.randn_like(weight) * 0.01
    return weights


def in_turn(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 2):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant()
            if number >= 2:  # the first rounds warm up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


# --- Ascent and way back


class NoStep(torch.optim.SGD):
    """A base optimizer whose step costs nothing."""

    def step(self, closure: Any = None) -> Any:
        """Do nothing."""
        del closure


def theirs(weights: list[Tensor], foreach: bool | None) -> Callable[[], None]:
    optimizer = pytorch_optimizer.SAM(weights, NoStep, rho=0.05, use_gc=True, lr=0.0, foreach=foreach)

    def there_and_back() -> None:
        optimizer.first_step()
        optimizer.second_step()

    return there_and_back


def ours(weights: list[Tensor], **options: Any) -> Callable[[], None]:
    sharpness = Sharpness(weights, 0.05, **options)

    def there_and_back() -> None:
        with sharpness.perturbed():
            pass

    return there_and_back


def ascent(names: list[str], rounds: int) -> None:
    for name in names:
        weights = with_gradients(name)
        flat = torch.cat([w.detach().flatten() for w in weights])
        room = torch.empty_like(flat)
        seconds = in_turn(
            {
                "one copy of the weights": partial(room.copy_, flat),
                "pytorch_optimizer, default": theirs(weights, None),
                "pytorch_optimizer, foreach": theirs(weights, True),
                "gcsam": ours(weights, centralize="ascent"),
                "gcsam, norm=raw": ours(weights, centralize="ascent", norm="raw"),
                "sam": ours(weights),
                "asam": ours(weights, adaptive=True),
            },
            rounds,
        )
        copy = seconds["one copy of the weights"]
        best = min(taken for variant, taken in seconds.items() if variant.startswith("pytorch_optimizer"))
        print(f"\n{name}: {flat.numel() / 1e6:.1f} M weights in {len(weights)} parameters, {rounds} rounds")
        print(f"{'':28s} {'ms':>8s} {'copies':>8s} {'of theirs':>10s}")
        for variant, taken in seconds.items():
            print(f"{variant:28s} {1e3 * taken:8.2f} {taken / copy:8.2f} {taken / best:10.2f}")


# --- Memory


def allocated(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes held at the peak beyond those at the start, and bytes allocated in all, on the CPU."""
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    held = peak = total = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
            total += max(0, event.nbytes())
    return peak, total


def memory(names: list[str]) -> None:
    for name in names:
        print(f"\n{name}: copies of the weights")
        print(f"{'':28s} {'peak of step 1':>15s} {'allocated in step 2':>20s}")
        makers: dict[str, Callable[[list[Tensor]], Callable[[], None]]] = {
            "pytorch_optimizer, default": lambda weights: theirs(weights, None),
            "pytorch_optimizer, foreach": lambda weights: theirs(weights, True),
            "gcsam": lambda weights: ours(weights, centralize="ascent"),
            "asam": lambda weights: ours(weights, adaptive=True),
        }
        for variant, make in makers.items():
            weights = with_gradients(name)
            copy = sum(w.numel() * w.element_size() for w in weights)
            work = make(weights)
            peak, _ = allocated(work)
            _, again = allocated(work)
            print(f"{variant:28s} {peak / copy:15.3f} {again / copy:20.4f}")


# --- Whole training steps


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images with a bright ellipse and its mask, turned and noised anew each time."""

    def __init__(self, size: int, count: int = 64) -> None:
        rows, columns = torch.meshgrid(
            torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij"
        )
        self.masks = [
            (rows.square() * (1 + n % 5) + columns.square() < 0.4).float()[None] for n in range(count)
        ]

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        mask = torch.rot90(self.masks[number], int(torch.randint(4, ())), (1, 2))
        return mask + 0.5 * torch.randn_like(mask), mask


def endless(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def trainer(name: str, options: dict[str, Any], size: int, batch_size: int) -> Callable[[], None]:
    """Five steps, the longest cycle of the methods: loading, passes, ascent, Adam, and the loss read."""
    model = network("unet")
    optimizer, sharpness = build(name, model.parameters(), base_options={"lr": 1e-3}, **options)
    stream = endless(DataLoader(Images(size), batch_size, shuffle=True))

    def five_steps() -> None:
        for _ in range(5):
            result = training_step(
                model,
                optimizer,
                sharpness,
                [next(stream)],
                lambda batch: nn.functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1]),
            )
            float(result.loss)

    return five_steps


def step(rounds: int, size: int, batch_size: int) -> None:
    methods: dict[str, tuple[str, dict[str, Any]]] = {
        "adam": ("adam", {}),
        "sam": ("sam", {}),
        "gcsam": ("gcsam", {}),
        "gcsam, ascent_fraction=0.25": ("gcsam", {"ascent_fraction": 0.25}),
        "gcsam, every=5": ("gcsam", {"every": 5}),
        "looksam": ("looksam", {}),
        "msam": ("msam", {}),
    }
    seconds = in_turn(
        {label: trainer(name, options, size, batch_size) for label, (name, options) in methods.items()},
        rounds,
    )
    print(f"\nMONAI U-Net, {size}x{size}, batch {batch_size}, Adam, {rounds} rounds of 5 steps")
    print(f"{'':28s} {'ms a step':>10s} {'of Adam':>9s}")
    for label, taken in seconds.items():
        print(f"{label:28s} {200 * taken:10.1f} {taken / seconds['adam']:9.2f}")


if __name__ == "__main__":
    main()

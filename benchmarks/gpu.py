"""Images a second and memory of training steps on a GPU, against a bare step captured in a CUDA graph.

::

    python benchmarks/gpu.py                            # U-Net, batch 8 and 32; ResNet-50; ViT-B/16
    python benchmarks/gpu.py --device cpu --size 32 --networks unet:2 --steps 2   # does it run at all

The tensors are on the device. A bare step is forward, backward and fused Adam, replayed as one graph; ours is
`training_step` as `gcsam-med train` calls it. Exits with 1 if GCSAM takes over 2.1 times as long as Adam.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from monai.networks.nets import UNet
from torch import Tensor, nn

from gcsam_med.optim import build, training_step

MOST_OF_ADAM = 2.1
METHODS = ("adam", "gcsam", "gcsam every=5", "msam")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", default="unet:8,unet:32,resnet50:32,vit_b_16:32", help="name:batch")
    parser.add_argument("--size", type=int, default=256, help="side of the images; 224 for ViT-B/16")
    parser.add_argument("--steps", type=int, default=20, help="steps a round; 5 rounds")
    given = parser.parse_args()
    device = torch.device(given.device)
    print(f"torch {torch.__version__}, {device_name(device)}, bfloat16 autocast")
    print(
        f"{'network:batch':16s} {'method':16s} {'images/s':>9s} {'of Adam':>8s} {'of bare':>8s} {'MiB':>7s}"
    )
    missed = False
    for item in given.networks.split(","):
        name, batch = item.split(":")
        size = 224 if name.startswith("vit") else given.size
        seconds: dict[str, float] = {}
        memory: dict[str, float] = {}
        kinds = ("bare, captured", *METHODS) if device.type == "cuda" else METHODS
        for kind in kinds:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            step = bare_step if kind.startswith("bare") else our_step
            seconds[kind] = timed(step(kind, name, int(batch), size, device), given.steps, device)
            memory[kind] = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0
        bare = seconds.get("bare, captured", float("nan"))
        for kind, taken in seconds.items():
            of_adam = taken / seconds["adam"]
            over = kind == "gcsam" and of_adam > MOST_OF_ADAM
            missed |= over
            print(
                f"{item:16s} {kind:16s} {int(batch) / taken:9.0f} {of_adam:8.2f} {bare / taken:8.2f} "
                f"{memory[kind]:7.0f}{f'  above {MOST_OF_ADAM}' if over else ''}"
            )
    return int(missed)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def problem(
    name: str, batch: int, size: int, device: torch.device
) -> tuple[nn.Module, Callable[[tuple[Tensor, Tensor]], Tensor], tuple[Tensor, Tensor]]:
    """A network, its loss on a batch, and a batch."""
    torch.manual_seed(0)
    if name == "unet":
        model: nn.Module = UNet(2, 1, 1, channels=(16, 32, 64, 128, 256), strides=(2,) * 4, num_res_units=2)
        images = torch.randn(batch, 1, size, size, device=device)
        targets = (images > 0).float()
        loss: nn.Module = nn.BCEWithLogitsLoss()
    else:
        model = torchvision.models.get_model(name, num_classes=3)
        images = torch.randn(batch, 3, size, size, device=device)
        targets = torch.randint(3, (batch,), device=device)
        loss = nn.CrossEntropyLoss()
    model = model.to(device, memory_format=torch.channels_last)

    def loss_of(pair: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(pair[0])
        return loss(logits.float(), pair[1])

    return model, loss_of, (images.contiguous(memory_format=torch.channels_last), targets)


def our_step(kind: str, name: str, batch: int, size: int, device: torch.device) -> Callable[[], object]:
    model, loss_of, pair = problem(name, batch, size, device)
    method, _, every = kind.partition(" every=")
    options = {"every": int(every)} if every else {}
    base_options = {"lr": 1e-4, "fused": True}
    optimizer, sharpness = build(method, model.parameters(), base_options=base_options, **options)
    return lambda: training_step(model, optimizer, sharpness, [pair], loss_of, max_norm=1.0)


def bare_step(kind: str, name: str, batch: int, size: int, device: torch.device) -> Callable[[], object]:
    del kind
    model, loss_of, pair = problem(name, batch, size, device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True, capturable=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(pair).backward()
        optimizer.step()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        loss_of(pair).backward()
        optimizer.step()
    return graph.replay


def timed(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Median seconds of a step over five rounds, after one that warms up."""
    rounds = []
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        rounds.append((time.perf_counter() - start) / steps)
    return statistics.median(rounds[1:])


if __name__ == "__main__":
    raise SystemExit(main())

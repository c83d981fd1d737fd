"""What the networks cost: parameters, time for a training image, and memory that a training step holds.

::

    python benchmarks/networks.py

Each network makes steps (forward, loss, backward, Adam) on random grey images, one thread. Times are
processor seconds, which other work on the machine lengthens far less than wall time. They are given as ratios
to the default network of the task at 128 pixels, measured in the same run. Memory is that of the tensors kept
for the backward pass, for one image, counted by PyTorch's hooks, so it is the same on any machine; weights,
gradients and Adam's two moments add 16 bytes a parameter.
"""

from __future__ import annotations

import argparse
import time

import torch

from gcsam_med.losses import build_loss, default_loss
from gcsam_med.networks import NETWORKS, build_network, default_model

SIZES = (128, 256)


def measure(name: str, size: int, batch: int, steps: int) -> tuple[int, float, float]:
    """Parameters, processor seconds a training image, and MiB that an image keeps for the backward pass."""
    task = NETWORKS[name].task
    torch.manual_seed(0)
    network = build_network(
        name, task=task, in_channels=1, outputs=1 if task == "segmentation" else 2, size=size
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, loss = torch.optim.Adam(network.parameters()), build_loss(default_loss(task))
    images = torch.rand(batch, 1, size, size).contiguous(memory_format=torch.channels_last)
    targets = (images > 0.5).float() if task == "segmentation" else torch.arange(batch) % 2
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def step() -> None:
        optimizer.zero_grad()
        value = loss(network(images), targets)
        value.backward()
        optimizer.step()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()  # also warms up
    started = time.process_time()
    for _ in range(steps):
        step()
    seconds = (time.process_time() - started) / steps / batch
    return sum(p.numel() for p in network.parameters()), seconds, sum(kept.values()) / batch / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    units: dict[str, float] = {}
    for name, spec in sorted(NETWORKS.items(), key=lambda row: row[0] != default_model(row[1].task)):
        cells = [f"`{name}`"]
        for size in SIZES:
            parameters, seconds, memory = measure(name, size, arguments.batch, arguments.steps)
            unit = units.setdefault(spec.task, seconds)
            cells += [f"{seconds / unit:.1f}", f"{memory:.0f}"]
        cells.insert(1, f"{parameters / 1e6:.1f} M")
        print("| " + " | ".join(cells) + " |", flush=True)
    for task, seconds in units.items():
        print(f"1.0 is {1000 * seconds:.0f} ms of processor time ({default_model(task)}, {SIZES[0]} pixels)")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

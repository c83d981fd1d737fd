"""How much of the network's own speed `predict` keeps, decoding and writing included; and its memory.

::

    python benchmarks/predict.py --images 1000
    python benchmarks/predict.py --images 10000 --size 64 --memory

Bare: the same network and batch on squares already in memory, once with torch's own threads, as it is usually
run, and once in as many threads of one core each as `predict` has lanes, which is the most these cores can
give. Then `predict` on PNG files of demo images in the same process, with and without overlays. Bare and
`predict` take turns, and a ratio is that of medians, so that other work on the machine weighs on both.

With ``--memory``: the process's resident memory after each tenth of the images.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gcsam_med import __version__
from gcsam_med.config import PredictOptions, RunConfig, dump_config
from gcsam_med.datasets.phantom import simulate
from gcsam_med.inference import predict
from gcsam_med.networks import build_network
from gcsam_med.runs import ModelCard, RunFolder, TrainedModel, load_model, save_model
from gcsam_med.runs.folder import settings_sha256
from gcsam_med.transforms.letterbox import Letterbox


def make_run(root: Path, model: str, size: int) -> Path:
    """Save a segmentation network as a run, trained long enough that its masks have the form of lesions."""
    torch.manual_seed(0)
    network = build_network(model, task="segmentation", in_channels=1, outputs=1, size=size)
    train(network)
    card = ModelCard(
        task="segmentation", model=model, classes=["lesion"], modality="ultrasound", in_channels=1, size=size,
        mean=[0.3], std=[0.2], dataset="none", dataset_sha256="none", synthetic=True, optimizer="adam",
        epoch=1, tool_version=__version__, settings_sha256=settings_sha256(RunConfig(dataset="none")),
    )  # fmt: skip
    run = RunFolder(root)
    save_model(run.model, network, card)
    run.config_file.write_text(dump_config(RunConfig(dataset="none")), encoding="utf-8")
    return root


def train(network: torch.nn.Module, side: int = 64, steps: int = 60) -> None:
    """Train on a few phantoms at a small size."""
    phantoms = [simulate(np.random.default_rng(1000 + i), "benign") for i in range(16)]
    geometries = [Letterbox(*phantom.image.shape, side) for phantom in phantoms]
    pairs = list(zip(geometries, phantoms, strict=True))
    images = np.stack([g.place_image(p.image) for g, p in pairs])
    masks = np.stack([g.place_mask(np.any(p.lesions, axis=0)) for g, p in pairs])
    x = (torch.from_numpy(images)[:, None].float() / 255 - 0.3) / 0.2
    y = torch.from_numpy(masks)[:, None].float()
    adam, threads = torch.optim.Adam(network.parameters(), 3e-3), torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for one another where the machine has other work
    for step in range(steps):
        chosen = torch.arange(step * 4, step * 4 + 4) % len(x)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(x[chosen]), y[chosen])
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.set_num_threads(threads)
    network.eval()


def make_images(folder: Path, n: int, kinds: int = 20) -> None:
    """Write n PNGs; phantoms take longer to draw than to predict, so a few are written many times."""
    folder.mkdir()
    pictures = []
    for i in range(kinds):
        path = folder / f"{i:05d}.png"
        Image.fromarray(simulate(np.random.default_rng(i), "benign").image).save(path)
        pictures.append(path.read_bytes())
    for i in range(kinds, n):
        (folder / f"{i:05d}.png").write_bytes(pictures[i % kinds])


def bare(model: TrainedModel, batch: int, n: int, threads: int, lanes: int) -> float:
    """Images a second of the network alone, its input in memory; `lanes` threads of `threads` cores each."""
    size = model.card.size
    x = model.tensor(np.random.default_rng(0).integers(0, 256, (batch, size, size), dtype=np.uint8))
    passes = max(1, n // batch // lanes)

    def lane() -> None:
        torch.set_num_threads(threads)
        for _ in range(passes):
            model.probabilities(x)

    before = torch.get_num_threads()
    start = time.perf_counter()
    workers = [threading.Thread(target=lane) for _ in range(lanes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - start
    torch.set_num_threads(before)
    return passes * lanes * batch / seconds


def resident() -> float:
    """MiB of this process's memory that are in use now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def speed(arguments: argparse.Namespace, root: Path, run: Path) -> None:
    """Compare the network alone and `predict`, in turns."""
    model, cores = load_model(run / "model"), torch.get_num_threads()
    part = max(arguments.batch, arguments.images // arguments.turns)
    make_images(root / "images", arguments.images)
    files = sorted((root / "images").iterdir())
    names = [
        f"network alone, {cores} threads",
        f"network alone, {cores} x 1 thread",
        "masks only",
        "overlays",
    ]
    found: dict[str, list[float]] = {name: [] for name in names}
    bare(model, arguments.batch, 2 * arguments.batch, cores, 1)
    for turn in range(arguments.turns):
        found[names[0]].append(bare(model, arguments.batch, part, cores, 1))
        found[names[1]].append(bare(model, arguments.batch, part, 1, cores))
        for name, overlays in ((names[2], False), (names[3], True)):
            options = PredictOptions(batch_size=arguments.batch, overlays=overlays, device="cpu")
            start = time.perf_counter()
            predict([run], files[turn * part : (turn + 1) * part], root / f"out-{name}-{turn}", options)
            found[name].append(part / (time.perf_counter() - start))
    middle = {name: statistics.median(values) for name, values in found.items()}
    for name in names:
        each = ", ".join(f"{value:.1f}" for value in found[name])
        ratios = " and ".join(f"{middle[name] / middle[bare_name]:.2f}" for bare_name in names[:2])
        print(f"{name:32s} {middle[name]:6.1f} images/s = {ratios} of the network alone   ({each})")


def memory(arguments: argparse.Namespace, root: Path, run: Path) -> None:
    """Print resident memory as `predict` goes on."""
    make_images(root / "images", arguments.images)

    def watched(items: Iterable, what: str, total: int | None = None) -> Iterator:
        for number, item in enumerate(items, 1):
            if number % (arguments.images // 10) == 0:
                print(f"after {number:6d} images: {resident():7.1f} MiB", flush=True)
            yield item

    options = PredictOptions(batch_size=arguments.batch, device="cpu")
    predict([run], [root / "images"], root / "out", options, track=watched)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run = make_run(root / "run", arguments.model, arguments.size)
        (memory if arguments.memory else speed)(arguments, root, run)


if __name__ == "__main__":
    main()

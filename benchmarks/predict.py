"""How much of the network's own speed `predict` keeps, decoding and writing included; and its memory.

::

    python benchmarks/predict.py --images 1000 --size 256

Bare: the same network, batch and threads on squares already in memory. Then `predict` on PNG files in one
process, with and without overlays, and the growth of resident memory over the run.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gcsam_med import __version__
from gcsam_med.config import RunConfig, dump_config
from gcsam_med.datasets.phantom import simulate
from gcsam_med.inference import PredictOptions, predict
from gcsam_med.networks import build_network
from gcsam_med.runs import ModelCard, RunFolder, load_model, save_model


def make_run(root: Path, model: str, size: int) -> Path:
    """Save an untrained segmentation network as a run."""
    network = build_network(model, task="segmentation", in_channels=1, outputs=1, size=size)
    card = ModelCard(
        task="segmentation", model=model, classes=["lesion"], modality="ultrasound", in_channels=1, size=size,
        mean=[0.3], std=[0.2], dataset="none", dataset_sha256="none", synthetic=True, optimizer="adam",
        epoch=1, tool_version=__version__,
    )  # fmt: skip
    run = RunFolder(root)
    save_model(run.model, network, card)
    run.config_file.write_text(dump_config(RunConfig(dataset="none")), encoding="utf-8")
    return root


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


def bare(run: Path, size: int, batch: int, n: int) -> float:
    """Images a second of the network alone, input already in memory."""
    model = load_model(run / "model")
    squares = np.random.default_rng(0).integers(0, 256, (batch, size, size), dtype=np.uint8)
    x = model.tensor(squares)
    model.probabilities(x)
    start = time.perf_counter()
    for _ in range(max(1, n // batch)):
        model.probabilities(x)
    return max(1, n // batch) * batch / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--model", default="unet")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run = make_run(root / "run", arguments.model, arguments.size)
        make_images(root / "images", arguments.images)
        alone = bare(run, arguments.size, arguments.batch, min(arguments.images, 400))
        print(f"{torch.get_num_threads()} threads; network alone {alone:.1f} images/s")
        for overlays in (False, True):
            options = PredictOptions(batch_size=arguments.batch, overlays=overlays, device="cpu")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            start = time.perf_counter()
            predict([run], [root / "images"], root / f"out-{overlays}", options)
            speed = arguments.images / (time.perf_counter() - start)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
            what = "with overlays" if overlays else "masks only"
            print(
                f"{what:14s} {speed:6.1f} images/s = {speed / alone:.2f} of it; peak memory +{grown:.0f} MiB"
            )


if __name__ == "__main__":
    main()

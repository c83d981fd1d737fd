"""Speed and memory of preparing data.

::

    python benchmarks/data.py prepare --source Dataset_BUSI_with_GT
    python benchmarks/data.py pairs --images 100000
    python benchmarks/data.py malformed
    python benchmarks/data.py marks --source FOLDER
    python benchmarks/data.py cores --images 10000
    python benchmarks/data.py nih --images 100000 --folder FOLDER
    python benchmarks/data.py stream --images 100000

``prepare``: wall time of the whole command with audit (promise for 290 PNGs of 100 MB on 2 cores: 12 s).
``pairs``: all close pairs among synthetic hashes (promise for 100,000: 60 s and 2 GB), for hashes drawn at
random, for hashes crowded around a few prototypes as those of chest X-rays are, and for equal ones.
``malformed``: the slowest of the test suite's malformed files and the peak memory (promise: 5 s, 1 GB).
``marks``: sensitivity and specificity of the detector of burned-in text and calipers on the 200 images that
``marks.csv`` labels by eye; FOLDER holds BUSI and BUS-BRA, at any depth.
``cores``: the same synthetic set prepared at size 256 by 1 and by 2 processes (promise: 1.7 times as fast on
a quiet machine with 2 cores).
``nih``: a set of tiny PNGs in the layout of NIH ChestX-ray14, prepared, prepared again, and prepared with one
more image (promise for 100,000 on 2 cores: 20 minutes and 1.5 GiB; then only what changed is read). FOLDER
(default: a temporary folder) is removed at the end.
``stream``: one epoch of training batches of 256x256 pixels, read from the store in random order and
standardized, without augmentation (promise on 2 cores, from the page cache: 3,000 images/s, memory constant).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def prepare(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as data_root:
        command = [sys.executable, "-m", "gcsam_med", "prepare", "--dataset", "busi", "--quiet"]
        command += ["--source", str(arguments.source), "--data-root", data_root]
        for what in ("prepare", "prepare again, nothing changed"):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            print(f"{what}: {time.perf_counter() - start:.1f} s")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"processor time of both, all processes: {used.ru_utime + used.ru_stime:.1f} s")


def pairs(arguments: argparse.Namespace) -> None:
    from gcsam_med.preparation.duplicates import close_pairs

    n, rng = arguments.images, np.random.default_rng(0)
    crowd = rng.integers(0, 2**64, (20, 4), dtype=np.uint64)[rng.integers(0, 20, n)]
    for _ in range(8):
        crowd ^= np.uint64(1) << rng.integers(0, 64, crowd.shape, dtype=np.uint64)
    sets = {
        "random": rng.integers(0, 2**64, (n, 4), dtype=np.uint64),
        "crowded": crowd,
        "equal": np.repeat(crowd[:1], n, axis=0),
    }
    for name, hashes in sets.items():
        start, used = time.perf_counter(), time.process_time()
        found = close_pairs(hashes)
        wall, processors = time.perf_counter() - start, time.process_time() - used
        print(
            f"{name}: {wall:.1f} s ({processors:.1f} s of processors), {len(found.first)} pairs "
            f"up to distance {found.limit}"
        )
    print(f"peak memory: {_peak():.0f} MiB")


def malformed(arguments: argparse.Namespace) -> None:
    del arguments
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from gcsam_med.images import ImageFault, read_image
    from tests.images.malformed import zoo

    slowest, worst = 0.0, ""
    with tempfile.TemporaryDirectory() as folder:
        for name, (content, _) in zoo().items():
            path = Path(folder) / name
            path.write_bytes(content)
            start = time.perf_counter()
            with contextlib.suppress(ImageFault):
                read_image(path)
            took = time.perf_counter() - start
            slowest, worst = max((slowest, worst), (took, name))
    print(f"slowest: {worst}, {slowest:.2f} s; peak memory: {_peak():.0f} MiB")


def marks(arguments: argparse.Namespace) -> None:
    from statsmodels.stats.proportion import proportion_confint

    from gcsam_med.images import read_image
    from gcsam_med.preparation.marks import find_marks

    with (Path(__file__).parent / "marks.csv").open() as table:
        labels = {row["file"]: row["marks"] for row in csv.DictReader(table)}
    marked: dict[bool, list[bool]] = {True: [], False: []}
    for path in sorted(arguments.source.rglob("*.png")):
        if path.name in labels:
            label = labels.pop(path.name)
            grey = np.asarray(Image.fromarray(read_image(path).pixels).convert("L"))
            found, true = find_marks(grey)[0] > 0, label not in ("none", "sign")
            marked[true].append(found == true)
            if found != true:
                print(f"{path.name}: {label}, {'found' if found else 'not found'}")
    if labels:
        raise SystemExit(f"{len(labels)} labelled images are not below {arguments.source}")
    for what, right in (("sensitivity", marked[True]), ("specificity", marked[False])):
        low, high = proportion_confint(sum(right), len(right), method="wilson")
        share = f"{sum(right)}/{len(right)} = {np.mean(right):.3f}"
        print(f"{what} {share} (95 % CI, Wilson, {low:.3f} to {high:.3f})")


def cores(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = [*PREPARE, "--data-root", f"{folder}/source", "--dataset", "busi", "--demo"]
        _measure([*made, "--demo-cases", str(arguments.images), "--size", "256"], "made and prepared")
        source = next(Path(folder).glob("source/**/benign")).parent
        # Each once before it counts: the second reads the files from the page cache as the first does.
        took = {}
        for workers in (2, 1, 2):
            command = [*PREPARE, "--data-root", f"{folder}/{workers}", "--dataset", "busi", "--force"]
            command += ["--source", str(source), "--size", "256", "--workers", str(workers)]
            took[workers] = _measure(command, f"{workers} processes")
        print(f"2 processes are {took[1] / took[2]:.2f} times as fast as 1")


def nih(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        if arguments.folder:
            folder = arguments.folder
            folder.mkdir(parents=True)
            stack.callback(shutil.rmtree, folder)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        start = time.perf_counter()
        _write_nih(folder / "nih", arguments.images)
        print(f"{arguments.images} images written: {time.perf_counter() - start:.0f} s", flush=True)
        command = [*PREPARE, "--dataset", "nih-chestxray14", "--source", str(folder / "nih")]
        command += ["--data-root", str(folder / "data"), "--size", "64"]
        _measure(command, "prepare")
        _measure(command, "again, nothing changed")
        changed = folder / "nih" / "images_001" / "00000001_000.png"
        _picture(np.random.default_rng(-1 % 2**32)).save(changed)
        _measure(command, "again, one image changed")


PREPARE = [sys.executable, "-m", "gcsam_med", "prepare", "--quiet"]


def _measure(command: list[str], what: str) -> float:
    """Run `command`; print and give its seconds; print the peak memory of its processes together."""
    import psutil

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                tree = psutil.Process(process.pid)
                # Shared pages are counted once: the proportional set size.
                sizes = [p.memory_full_info().pss for p in (tree, *tree.children(recursive=True))]
                peak = max(peak, sum(sizes))
            time.sleep(0.5)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what}: {took:.1f} s ({used:.1f} s of processors), {peak / 2**20:.0f} MiB at most", flush=True)
    return took


def _write_nih(root: Path, count: int) -> None:
    """Write `count` images of about a third as many patients, their table and the two lists of the split."""
    rng = np.random.default_rng(0)
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    lists: dict[str, list[str]] = {"train_val": [], "test": []}
    patient = written = 0
    while written < count:
        patient += 1
        split = "test" if rng.random() < 0.2 else "train_val"
        for visit in range(min(int(rng.geometric(0.28)), count - written)):
            folder, name = root / f"images_{written // 10_000 + 1:03d}", f"{patient:08d}_{visit:03d}.png"
            folder.mkdir(parents=True, exist_ok=True)
            _picture(rng).save(folder / name)
            finding = ("No Finding", "Effusion", "Pneumothorax|Mass")[rng.integers(3)]
            rows.append(f"{name},{finding},{visit},{patient},{rng.integers(1, 95)},{'MF'[patient % 2]},PA")
            lists[split].append(name)
            written += 1
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows) + "\n")
    for name, files in lists.items():
        (root / f"{name}_list.txt").write_text("\n".join(files) + "\n")


def _picture(rng: np.random.Generator) -> Image.Image:
    """Draw a grey image of 64 x 64 pixels that looks like no other."""
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8))
    return coarse.resize((64, 64), Image.Resampling.BICUBIC)


def stream(arguments: argparse.Namespace) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from gcsam_med.config import RunConfig
    from gcsam_med.datasets.prepared import open_prepared
    from gcsam_med.training import make_plan
    from gcsam_med.training.batches import Batches
    from tests.builders import make_prepared

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # In a process of its own: its memory is not that of training.
        made = {"n": arguments.images, "size": 256, "with_masks": False}
        maker = multiprocessing.get_context("fork").Process(target=make_prepared, args=(root,), kwargs=made)
        maker.start()
        maker.join()
        config = RunConfig(
            dataset="toy",
            data_root=root,
            task="classification",
            model="resnet18",
            batch_size=32,
            augment=False,
        )
        batches = Batches(make_plan(config, open_prepared(root, "toy")))
        last = batches.steps_per_epoch
        for what, steps in {"the first tenth": range(last // 10), "the whole epoch": range(last)}.items():
            start, seen = time.perf_counter(), 0
            for step in batches.stream(steps.start, steps.stop):
                seen += sum(len(part.images) for part in step)
            rate = seen / (time.perf_counter() - start)
            print(f"{what}: {seen} images, {rate:.0f} images/s; peak memory: {_peak():.0f} MiB")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_subparsers(required=True)
    for run, images in (
        (prepare, None), (pairs, 100_000), (malformed, None), (marks, None), (cores, 10_000), (nih, 100_000),
        (stream, 100_000),
    ):  # fmt: skip
        one = which.add_parser(run.__name__)
        one.set_defaults(run=run)
        if images is not None:
            one.add_argument("--images", type=int, default=images)
        if run in (prepare, marks):
            one.add_argument("--source", type=Path, required=True)
        if run is nih:
            one.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    arguments.run(arguments)


if __name__ == "__main__":
    main()

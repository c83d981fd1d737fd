"""Whether images of healthy classes, whose masks are empty, help a segmentation that trains on them.

Run on a BUSI folder (Dataset_BUSI_with_GT, original layout)::

    python benchmarks/healthy.py --source Dataset_BUSI_with_GT --work healthy-study

The default leaves healthy images out of training; ``--classes benign,malignant,normal`` takes them in, for
training and for the choice of epoch and threshold. Both arms: U-Net, Adam, 96x96, the same epochs, seeds and
rotating test folds of five (``--folds`` of them), so that each seed predicts an image once, by a network that
did not see it. With healthy images an epoch has more steps; ``--longer`` adds an arm without them that makes
as many steps.

Prints, by arm, the Dice of lesion images and the regions marked on healthy ones, and their differences with
95 % intervals over seeds and groups of near-duplicates. The same command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from gcsam_med.cli import run as gcsam_med
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.metrics.seeds import crossed_effects

SIZE = 96
ALL = "benign,malignant,normal"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="Folder that keeps data and runs.")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5, help="Test folds, of five.")
    parser.add_argument("--longer", action="store_true", help="Also train without for as many steps.")
    arguments = parser.parse_args()
    data_root = arguments.work / "data"
    if not (data_root / "prepared" / "busi").exists():
        call("prepare", "--dataset", "busi", "--source", arguments.source, "--data-root", data_root,
             "--size", SIZE, "--folds", 5, "-q")  # fmt: skip
    arms = {"without": (arguments.epochs, ""), "with": (arguments.epochs, ALL)}
    if arguments.longer:
        rows = open_prepared(data_root, "busi").manifest["label"].value_counts()
        share = rows.sum() / (rows.sum() - rows["normal"])
        arms["longer"] = (round(arguments.epochs * share), "")
    done: dict[str, list[pd.DataFrame]] = {name: [] for name in arms}
    for seed in range(arguments.seeds):
        for name, (epochs, classes) in arms.items():
            folds = range(arguments.folds)
            parts = [one_fold(arguments.work, name, epochs, classes, seed, fold) for fold in folds]
            done[name].append(pd.concat(parts).set_index("case_id").sort_index())
        show(done)


def call(*command: object) -> None:
    if code := gcsam_med([str(word) for word in command]):
        raise SystemExit(code)


def one_fold(work: Path, name: str, epochs: int, classes: str, seed: int, fold: int) -> pd.DataFrame:
    """Train and evaluate one network, unless that is done; give its table of test cases."""
    run = work / "runs" / f"{name}-seed{seed}-fold{fold}"
    table = run / "evaluation" / "test" / "cases.csv"
    if not table.exists():
        if not (run / "result.json").exists():
            command = ["train", "--dataset", "busi", "--data-root", work / "data", "--output", run, "-q"]
            command += ["--optimizer", "adam", "--epochs", epochs, "--patience", 0, "--seed", seed]
            command += ["--test-fold", fold, "--device", "cpu"]
            command += ["--classes", classes] if classes else []
            call(*command, *(["--resume"] if (run / "checkpoints").exists() else []))
        call("evaluate", run, "--data-root", work / "data", "--device", "cpu", "--resamples", 100, "-q")
    return pd.read_csv(table)


def show(done: dict[str, list[pd.DataFrame]]) -> None:
    """Print each arm and its difference from training without healthy images."""
    first = done["without"][0]
    healthy = (first["label"] == "normal").to_numpy()
    groups = first["group_id"].to_numpy(dtype=str)
    print(f"{len(done['without'])} seeds, {(~healthy).sum()} lesion and {healthy.sum()} healthy images")
    values = {
        "Dice": (~healthy, lambda t: t["dice"]),
        "false regions per lesion image": (~healthy, lambda t: t["false_positives"]),
        "lesion images with nothing found": (~healthy, lambda t: (t["lesions_found"] == 0).astype(float)),
        "regions per healthy image": (healthy, lambda t: t["false_positives"]),
        "healthy images with a region": (healthy, lambda t: (t["false_positives"] > 0).astype(float)),
    }
    for title, (keep, value) in values.items():
        found = {
            name: np.stack([value(table)[keep].to_numpy(dtype=float) for table in tables])
            for name, tables in done.items()
        }
        print(f"{title}: " + ", ".join(f"{name} {x.mean():.3f}" for name, x in found.items()))
        for name in list(found)[1:]:
            difference = found[name] - found["without"]
            ends = crossed_effects(difference, groups[keep]).mean.ci95 if len(difference) > 1 else None
            interval = f" (95 % CI {ends[0]:+.3f} to {ends[1]:+.3f})" if ends else ""
            print(f"  {name} - without: {difference.mean():+.3f}{interval}")
    print(flush=True)


if __name__ == "__main__":
    main()

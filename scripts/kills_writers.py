"""Kill prepare, evaluate, predict, compare and export while they write, and look at what is left.

    python scripts/kills_writers.py --output DIR             # 30 kills each
    python scripts/kills_writers.py --output DIR --kills 10 --only evaluate

Each command writes one of two results (A and B) to the same place, in turn. Half of the kills come at any
instant, the others just before a change of a file or folder, one after another. After each, what lies there
must be A, or B, and nothing in between; then the command is run again and must give what it gives when it is
never killed. Figures are written, but empty: drawing them takes most of the time and changes no file.
Processes are forked from this one, so that imports are paid once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd
import torch

from gcsam_med.compare import compare_optimizers
from gcsam_med.datasets.demo import demo_folder
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.evaluation import evaluate
from gcsam_med.inference import predict
from gcsam_med.inference.export import export_run
from gcsam_med.preparation.prepare import prepare
from tests.builders import make_prepared, make_run
from tests.reliability.crashes import launch, wait
from tests.reliability.fuzzing import undrawn

Digests = dict[str, str]


@dataclass(frozen=True)
class Writer:
    """A command, and how to look at what it wrote."""

    target: Path
    write: Callable[[str], object]  #: Writes the result ``"A"`` or ``"B"``.
    look: Callable[[], Digests]  #: What must be all of A or all of B; empty where there is no result.
    resumable: bool = False  #: Whether a result may be incomplete, if it says so by having no table.


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _same(one: object, other: object) -> None:
    if one != other:
        raise ValueError(f"files of two results: {one} and {other}")


def writers(root: Path) -> dict[str, Writer]:
    """All five, with the data and runs that they need."""
    data = make_prepared(root / "data", n=60, size=32)
    runs = [make_run(root / "runs", data, name=f"run{i}", steps=2, seed=i) for i in range(3)]
    for run in runs:
        evaluate(run, device="cpu", resamples=100)
    source = demo_folder("busi", root / "source", 24, 0)
    images = root / "images"
    images.mkdir()
    for path in sorted(source.rglob("*.png")):
        if "mask" not in path.name and len(list(images.iterdir())) < 10:
            shutil.copy(path, images)
    prepared = root / "data" / "prepared" / "busi"
    report, masks, study, exported = (
        root / "runs" / "run0" / "evaluation" / "val", root / "masks", root / "study", root / "exported",
    )  # fmt: skip

    def look_prepared() -> Digests:
        opened = PreparedDataset(prepared)
        opened.images(range(len(opened)))
        return {name: _digest(prepared / name) for name in ("images.npy", "masks.npy", "manifest.csv")} | {
            "size": str(opened.info.size)
        }

    def look_report() -> Digests:
        metrics = json.loads((report / "metrics.json").read_text())
        table = pd.read_csv(report / "tables" / "metrics.csv")
        dice = metrics["metrics"]["dice"]["value"]
        _same(round(float(table.loc[table["metric"] == "dice", "value"].iloc[0]), 9), round(dice, 9))
        return {
            "threshold": str(metrics["operating_point"]["threshold"]),
            "cases": _digest(report / "cases.csv"),
            "files": str(sorted(p.relative_to(report).as_posix() for p in report.rglob("*"))),
        }

    def look_masks() -> Digests:
        if not (masks / "predictions.csv").is_file():
            return {}
        names = pd.read_csv(masks / "predictions.csv")["mask"]
        return {"table": _digest(masks / "predictions.csv")} | {n: _digest(masks / n) for n in names}

    def look_study() -> Digests:
        found = json.loads((study / "comparison.json").read_text())
        named = sorted(run for arm in found["arms"] for run in arm["runs"])
        _same(sorted(pd.read_csv(study / "comparison.csv")["run"]), named)
        return {"runs": str(named), "files": str(sorted(p.name for p in study.rglob("*")))}

    def look_exported() -> Digests:
        described = json.loads((exported / "description.json").read_text())
        return {"described": json.dumps(described, sort_keys=True)} | {
            p.name: _digest(p) for p in sorted(exported.iterdir())
        }

    first, second = str(runs[0]), {"A": str(runs[1]), "B": str(runs[2])}
    threshold = {"A": 0.4, "B": 0.6}
    return {
        "prepare": Writer(
            prepared,
            lambda k: prepare(
                "busi", source, root / "data", size={"A": 32, "B": 48}[k], force=True, workers=1
            ),
            look_prepared,
        ),
        "evaluate": Writer(
            report,
            lambda k: evaluate(first, "val", threshold=threshold[k], device="cpu", resamples=100),
            look_report,
        ),
        "predict": Writer(
            masks,
            lambda k: predict(
                first,
                images,
                masks,
                device="cpu",
                threshold=threshold[k],
                overwrite=_other(masks, threshold[k]),
            ),
            look_masks,
            resumable=True,
        ),
        "compare": Writer(
            study,
            lambda k: compare_optimizers([first, second[k]], output=study, split="test", resamples=100),
            look_study,
        ),
        "export": Writer(
            exported,
            lambda k: export_run(Path(second[k]), "safetensors", exported, overwrite=True),
            look_exported,
        ),
    }


def _other(folder: Path, threshold: float) -> bool:
    """Whether a folder holds predictions of another threshold, which --overwrite replaces."""
    journal = folder / "predictions.jsonl"
    if not journal.is_file():
        return False
    return bool(json.loads(journal.read_text().splitlines()[0])["settings"]["threshold"] != threshold)


def campaign(name: str, writer: Writer, kills: int, root: Path, rng: random.Random) -> dict[str, int]:
    """Kill one command again and again; counts, with every fault printed."""
    log = root / f"{name}.log"

    def run(kind: str, dies_at: int = 0) -> int:
        return launch(lambda: writer.write(kind), root, log, dies_at)

    def finish(kind: str) -> tuple[float, int]:
        started = time.monotonic()
        log.unlink(missing_ok=True)
        if wait(run(kind)):
            raise SystemExit(f"{name} {kind} fails by itself:\n{log.read_text()[-3000:]}")
        return time.monotonic() - started, int(log.read_text().split()[-1])

    whole: dict[str, Digests] = {}
    for kind in ("A", "B", "A"):
        length, changes = finish(kind)
        whole[kind] = writer.look()
    counts = {"kills": 0, "at a change": 0, "former": 0, "new": 0, "none yet": 0, "faults": 0}
    standing = "A"
    while counts["kills"] < kills:
        asked = "B" if standing == "A" else "A"
        by_change = counts["kills"] % 2 == 0
        pid = run(asked, 1 + counts["at a change"] % changes if by_change else 0)
        if not by_change:
            time.sleep(rng.choice((rng.uniform(0, 1), rng.uniform(0.7, 1))) * length)
            os.kill(pid, signal.SIGKILL)
        if os.WIFSIGNALED(wait(pid)):
            counts["kills"] += 1
            counts["at a change"] += by_change
        try:
            found = writer.look()
            if not found and writer.resumable:
                counts["none yet"] += 1
            else:
                counts["former" if found == whole[standing] else "new"] += 1
                if found not in (whole[standing], whole[asked]):
                    raise ValueError("neither the former result nor the new one")
        except Exception as error:
            counts["faults"] += 1
            print(f"{name}: after a kill: {type(error).__name__}: {error}")
        length, _ = finish(asked)
        left = [
            p.name for p in writer.target.parent.iterdir() if p.name.startswith(f".{writer.target.name}.")
        ]
        if writer.look() != whole[asked] or left or list(writer.target.rglob(".*")):
            counts["faults"] += 1
            print(f"{name}: the next run does not give what it gives alone, or leaves {left}")
        standing = asked
    return counts


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--only", default="prepare,evaluate,predict,compare,export")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = arguments.output.resolve()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    faults = 0
    with undrawn():
        for name, writer in writers(root).items():
            if name in arguments.only.split(","):
                counts = campaign(name, writer, arguments.kills, root, random.Random(name))  # noqa: S311
                print(name, ", ".join(f"{n} {what}" for what, n in counts.items()), flush=True)
                faults += counts["faults"]
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()

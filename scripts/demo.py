"""The main job on synthetic images, with the commands a user would type, and its metrics at the end.

What is there already is not made again, so a second run only shows the metrics. Needs gcsam-med installed;
`make demo` sees to that.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gcsam_med.cli import run as gcsam_med

NAME = "busi-demo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: ``sys.argv[1:]``.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, default=Path("out/demo"))
    parser.add_argument("--cases", type=int, default=200, help="synthetic images")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--size", type=int, default=128, help="side of the stored images in pixels")
    given = parser.parse_args(arguments)
    trained, untrained = given.runs / "demo", given.runs / "demo-untrained"
    root = ["--data-root", str(given.data_root)]

    # --- Prepare, train and evaluate; then predict
    images = ["--demo", "--demo-cases", str(given.cases), "--size", str(given.size), "--name", NAME]
    settings = ["--epochs", str(given.epochs), "--output", str(trained)]
    _do("run", "--dataset", "busi", *images, *settings, *root)
    if not (given.output / "predictions.csv").is_file():
        found = sorted(given.data_root.glob(f"demo/busi-{given.cases}-0/*/malignant/malignant (?).png"))
        _do("predict", str(trained), *map(str, found), "--output", str(given.output))
    _do("doctor", "--quiet", *root)

    # --- What training brought: the same network before it, through the same evaluation
    if not _report(untrained).is_file():
        _save_untrained(trained, untrained)
        _do("evaluate", str(untrained), "--unfinished", "--quiet")
    before, after = _metrics(untrained), _metrics(trained)
    print("\nTest split of the synthetic images, each metric with its 95 % interval:\n")
    print(f"  {'':12}{'untrained':>28}{'trained with GCSAM':>28}")
    for key, name in (("dice", "Dice"), ("iou", "IoU"), ("hd95", "HD95 (px)")):
        print(f"  {name:12}{_text(before[key]):>28}{_text(after[key]):>28}")
    print(f"\nReport:      {_report(trained)}")
    print(f"Predictions: {given.output / 'overlays'}")
    return 0


def _do(*arguments: str) -> None:
    """Run a command of gcsam-med and say what it is; leave with its exit code if it fails."""
    print(f"\n$ gcsam-med {shlex.join(arguments)}", flush=True)
    began = time.perf_counter()
    code = gcsam_med(list(arguments))
    if code != 0:
        sys.exit(code)
    print(f"({time.perf_counter() - began:.0f} s)", flush=True)


def _report(run: Path) -> Path:
    return run / "evaluation" / "test" / "report.html"


def _metrics(run: Path) -> dict[str, dict[str, object]]:
    path = run / "evaluation" / "test" / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8"))["metrics"]


def _text(estimate: dict[str, object]) -> str:
    if estimate["value"] is None:
        return "none"
    low, high = estimate["ci95"]  # type: ignore[misc]
    places = 3 if estimate["value"] < 10 else 0  # type: ignore[operator]
    return f"{estimate['value']:.{places}f} ({low:.{places}f} to {high:.{places}f})"


def _save_untrained(trained: Path, untrained: Path) -> None:
    """Save a run whose network is the trained one's with the weights it began with: random ones."""
    import torch

    from gcsam_med.networks import build_network
    from gcsam_med.runs import RunFolder, save_model
    from gcsam_med.runs.model import load_card

    source, target = RunFolder(trained), RunFolder(untrained)
    card = load_card(source.model)
    torch.manual_seed(0)
    network = build_network(
        card.model,
        task=card.task,
        in_channels=card.in_channels,
        outputs=1,
        size=card.size,
        dropout=card.dropout,
    )
    target.root.mkdir(parents=True, exist_ok=True)
    target.config_file.write_bytes(source.config_file.read_bytes())
    save_model(target.model, network, card.model_copy(update={"epoch": 0, "optimizer": "none"}))


if __name__ == "__main__":
    sys.exit(main())

"""Train 200 short epochs and watch memory and open files.

A leak of one object an epoch would be seen; a million steps cannot be waited for.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from gcsam_med.training import Callback, EpochEnd, train
from tests.builders import make_prepared
from tests.reliability.kills import Trial, tiny_network

EPOCHS, FIRST = 200, 20


class Watch(Callback):
    """Notes resident memory (MiB) and open files after each epoch."""

    def __init__(self) -> None:
        self.memory: list[float] = []
        self.files: list[int] = []

    def epoch_end(self, event: EpochEnd) -> None:
        """Measure."""
        del event
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        self.files.append(len(list(Path("/proc/self/fd").iterdir())))


def main() -> None:
    """Run and print the measured values; exit 1 if memory or files grow."""
    watch = Watch()
    with TemporaryDirectory() as folder, tiny_network():
        root = Path(folder)
        make_prepared(root, n=36, size=32)
        config = Trial("gcsam", 0.9).config(root)
        config = config.model_copy(update={"epochs": EPOCHS, "patience": 0, "checkpoint_steps": None})
        train(config, root / "run", watch)
    for epoch in (1, FIRST, 50, 100, 150, EPOCHS):
        print(f"epoch {epoch:3d}: {watch.memory[epoch - 1]:7.1f} MiB, {watch.files[epoch - 1]} open files")
    grown = watch.memory[-1] - watch.memory[FIRST - 1]
    files = watch.files[-1] - watch.files[FIRST - 1]
    print(f"from epoch {FIRST} to {EPOCHS}: {grown:+.1f} MiB, {files:+d} files")
    sys.exit(grown > 10 or files > 0)


if __name__ == "__main__":
    main()

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gcsam_med.pools import ahead

SCRIPT = """
import os, pathlib, sys
from gcsam_med.pools import processes

pathlib.Path({folder!r}, f"script-{{os.getpid()}}").touch()
pool = processes(2)
pid = pool.submit(os.getpid).result()
pathlib.Path({folder!r}, f"worker-{{pid}}").touch()
if "die" in sys.argv:
    os._exit(9)
"""


def test_results_come_in_order_and_few_items_are_read_ahead():
    """Oracle: by hand; a pool of 2 with a depth of 3 has at most 3 items that are not given back yet."""
    taken = []

    def items():
        for i in range(20):
            taken.append(i)
            yield i

    with ThreadPoolExecutor(2) as pool:
        for count, result in enumerate(ahead(pool, lambda i: i * i, items(), depth=3)):
            assert result == count**2
            assert len(taken) <= count + 3
    assert len(taken) == 20
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(ahead(pool, lambda i: 1 // i, range(3), depth=2))


@pytest.mark.parametrize("end", ["return", "die"])
def test_workers_neither_run_the_script_again_nor_outlive_it(tmp_path: Path, end: str):
    """Oracle: files that the script writes; the system's list of processes."""
    script = tmp_path / "unguarded.py"
    script.write_text(SCRIPT.format(folder=str(tmp_path)))
    subprocess.run([sys.executable, script, end], check=False, timeout=60)
    assert len(list(tmp_path.glob("script-*"))) == 1
    (worker,) = (int(path.name.split("-")[1]) for path in tmp_path.glob("worker-*"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the worker is still there")

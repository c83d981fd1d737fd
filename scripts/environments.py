"""Run the commands where a machine is not as it should be, and say what came of it: a row each.

    python scripts/environments.py --output DIR            # all, some minutes
    python scripts/environments.py --output DIR --only home,streams

A row fails if a command ends with another exit code than expected, with a traceback, or without its result.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.builders import make_prepared, make_run  # noqa: E402

START = f"import sys; sys.path.append({str(ROOT)!r}); from gcsam_med.cli import main; main()"
OTHER = 65534  # a user
HOSTILE = ("torch", "numpy", "signal", "yaml", "json", "typer", "matplotlib", "sitecustomize")


@dataclass
class Place:
    """A folder with a data set and a finished run."""

    root: Path

    @property
    def run(self) -> Path:
        """The run."""
        return self.root / "runs" / "run"

    def evaluate(self, *more: str) -> list[str]:
        """Evaluate it."""
        return ["evaluate", str(self.run), "--device", "cpu", "--resamples", "100", *more]

    def result(self) -> bool:
        """Whether there is a report."""
        return (self.run / "evaluation" / "test" / "metrics.json").is_file()


@dataclass
class Trial:
    """One command in one environment."""

    group: str
    name: str
    arguments: list[str]
    codes: tuple[int, ...] = (0,)
    environment: dict[str, str | None] = field(default_factory=dict)  #: None takes a variable away.
    how: dict[str, Any] = field(default_factory=dict)  #: For `subprocess.run`.
    check: Callable[[], bool] = lambda: True  #: What must be so afterwards.
    within: tuple[str, ...] = ()  #: A command that starts it.


def _limit(what: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (value, value))


def _closed(*streams: int) -> Callable[[], None]:
    def close() -> None:
        for stream in streams:
            os.close(stream)

    return close


def _broken() -> int:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def trials(sound: Path, work: Path) -> Iterator[Trial]:
    """All of them; each has a copy of the sound place to itself."""

    def place(name: str) -> Place:
        return Place(Path(shutil.copytree(sound, work / name)))

    for name, environment in {
        "no HOME": {"HOME": None, "XDG_CACHE_HOME": None},
        "a HOME that is not there": {"HOME": "/nonexistent/home"},
        "a HOME that cannot be written": {"HOME": "/proc", "MPLCONFIGDIR": None},
        "no TMPDIR": {"TMPDIR": "/nonexistent/tmp"},
    }.items():
        p = place(name)
        yield Trial("home", name, p.evaluate(), environment=environment, check=p.result)
    p = place("usetex")
    (p.root / "matplotlibrc").write_text("text.usetex: True\n")
    yield Trial("home", "matplotlibrc with usetex", p.evaluate(), how={"cwd": p.root}, check=p.result)
    for name, environment in {
        "LANG=C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"},
        "latin-1 output": {"PYTHONIOENCODING": "latin-1"},
        "20 columns": {"COLUMNS": "20"},
        "0 columns": {"COLUMNS": "0"},
        "TERM=dumb": {"TERM": "dumb"},
    }.items():
        p = place(f"{name} Ünï-体")
        yield Trial(
            "text", f"{name}, a path of letters and 体", p.evaluate(), environment=environment, check=p.result
        )
    for name, how in {
        "stdout closed": {"preexec_fn": _closed(1)},
        "stderr closed": {"preexec_fn": _closed(2)},
        "stdin, stdout and stderr closed": {"preexec_fn": _closed(0, 1, 2)},
        "stdout broken": {"stdout": _broken()},
        "stderr broken": {"stderr": _broken()},
    }.items():
        p = place(name)
        yield Trial(
            "streams", name, p.evaluate(), how=how, check=p.result, codes=(0, 3) if "stdout" in name else (0,)
        )
    p = place("files")
    yield Trial(
        "limits",
        "64 open files",
        p.evaluate(),
        how={"preexec_fn": _limit(resource.RLIMIT_NOFILE, 64)},
        check=p.result,
    )
    p = place("core")
    yield Trial(
        "limits",
        "one core",
        p.evaluate(),
        how={"preexec_fn": lambda: os.sched_setaffinity(0, {0})},
        check=p.result,
    )
    p = place("memory")
    yield Trial(
        "limits", "3 GiB of address space", p.evaluate(), codes=(3,),
        how={"preexec_fn": _limit(resource.RLIMIT_AS, 3 * 2**30)},
    )  # fmt: skip
    p = place("hostile")
    for module in HOSTILE:
        (p.root / f"{module}.py").write_text("open('canary', 'w').close()\n")
    yield Trial(
        "folder", "torch.py and others in the current folder", p.evaluate(), how={"cwd": p.root},
        check=lambda: p.result() and not (p.root / "canary").exists(),
    )  # fmt: skip
    p = place("future")
    for path in p.root.rglob("*"):
        os.utime(path, (4e9, 4e9))
    yield Trial("folder", "files of the year 2096 (a clock set back)", p.evaluate(), check=p.result)
    p = place("moved")
    elsewhere = work / "elsewhere"
    shutil.move(p.root / "runs", elsewhere)
    shutil.move(p.root / "data", work / "other data")
    moved = ["--data-root", str(work / "other data")]
    yield Trial(
        "folder", "run and data moved", ["evaluate", str(elsewhere / "run"), *p.evaluate()[2:], *moved],
        check=(elsewhere / "run" / "evaluation" / "test" / "metrics.json").is_file,
    )  # fmt: skip
    if os.getuid() == 0:
        p = place("shm")
        shm = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m none /dev/shm && exec "$@"', "sh")
        yield Trial("limits", "64 MB of shared memory", p.evaluate(), check=p.result, within=shm)
        # Root without the rights of root is another user, who may still run this Python.
        plain = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner")
        p = place("others")
        for path in (p.root, *p.root.rglob("*")):
            os.chown(path, OTHER, OTHER)
        yield Trial("folder", "a run of another user", p.evaluate(), codes=(3,), within=plain)
        yield Trial(
            "folder", "a run of another user, with --output", p.evaluate("--output", str(work / "report")),
            within=plain, check=(work / "report" / "metrics.json").is_file,
        )  # fmt: skip


def attempt(trial: Trial) -> str:
    """Run it; what is wrong, or nothing."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | trial.environment
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | trial.how
    try:
        done = subprocess.run(
            [*trial.within, sys.executable, "-P", "-c", START, *trial.arguments],
            check=False,
            timeout=600,
            env={name: value for name, value in environment.items() if value is not None},
            **how,
        )
    except FileNotFoundError:
        return f"not tried: there is no {trial.within[0]}"
    said = (done.stderr or b"").decode(errors="replace") + (done.stdout or b"").decode(errors="replace")
    if done.returncode not in trial.codes:
        return f"exit code {done.returncode}: {said[-300:]}"
    if "Traceback" in said or "A bug in" in said:
        return said[-300:]
    if done.returncode == 0 and not trial.check():
        return "no result"
    return ""


def main() -> None:
    """Run what is asked for, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default="home,text,streams,limits,folder")
    arguments = parser.parse_args()
    root = arguments.output.resolve()
    shutil.rmtree(root, ignore_errors=True)
    make_run(root / "sound" / "runs", make_prepared(root / "sound" / "data", n=36))
    bad = 0
    for trial in trials(root / "sound", root):
        if trial.group in arguments.only.split(","):
            fault = attempt(trial)
            print(f"| {trial.name} | {trial.arguments[0]} | {fault or 'as expected'} |", flush=True)
            bad += bool(fault)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()

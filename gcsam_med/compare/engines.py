"""Where the runs of a study are made: here one by one, in processes beside each other, on Ray, on SLURM.

Each engine does what is left and skips what is there, so any of them goes on where another stopped.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcsam_med.compare.execute import carry_out, is_done
from gcsam_med.compare.plan import PlannedRun, StudyPlan
from gcsam_med.errors import GcsamMedError, Interrupted, MissingExtra
from gcsam_med.progress import Track, silent
from gcsam_med.training import Callback
from gcsam_med.training.process import StopSignals

Tell = Callable[[str], None]
_PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class Failure:
    """A run that could not be made; the others were."""

    run: str  #: Its name.
    message: str  #: What went wrong.
    exit_code: int  #: What the run alone would have left with.


def run_here(
    plan: StudyPlan,
    *,
    device: str | None,
    sharpness: bool,
    view: Callable[[], AbstractContextManager[Callback]],
    track: Track = silent,
    tell: Tell,
) -> list[Failure]:
    """Make the runs one after another in this process.

    Parameters
    ----------
    plan : StudyPlan
        What to make.
    device : str, optional
        Instead of the configurations'.
    sharpness : bool
        Also measure each minimum.
    view : callable
        Gives the callback of one training.
    track, tell : callable
        Show progress.

    Returns
    -------
    list of Failure
        Runs that failed; those after them were made all the same.

    Raises
    ------
    Interrupted
        If a signal came; what was done is saved.
    """
    left, failures = _left(plan, sharpness), []
    for number, run in enumerate(left, start=1):
        tell(f"run {number} of {len(left)}: {run.name}")
        try:
            with view() as callback:
                carry_out(plan, run, device=device, sharpness=sharpness, callback=callback, track=track)
        except Interrupted as stop:
            raise Interrupted(stop.message, _go_on(plan), stop.exit_code) from stop
        except GcsamMedError as error:
            tell(f"{run.name} failed: {error.message}")
            failures.append(Failure(run.name, str(error), error.exit_code))
    return failures


def run_in_processes(
    plan: StudyPlan, devices: Sequence[str], *, sharpness: bool, tell: Tell
) -> list[Failure]:
    """Make the runs in processes, as many at once as devices are named.

    Parameters
    ----------
    plan : StudyPlan
        What to make; is written to its folder, where the processes read it.
    devices : sequence of str
        One a process: ``("cuda:0", "cuda:1")``, or ``("cpu", "cpu")`` to share the cores.
    sharpness, tell
        See `run_here`.

    Returns
    -------
    list of Failure
        Runs that failed; what they said is in ``logs/NAME.txt``.

    Raises
    ------
    Interrupted
        If a signal came; it is passed on, and each process saves what it has.
    """
    plan.write()
    logs = plan.folder / "logs"
    logs.mkdir(exist_ok=True)
    waiting, free = _left(plan, sharpness), list(devices)
    total, failures = len(waiting), []
    at_work: dict[str, tuple[subprocess.Popen[bytes], str]] = {}
    with StopSignals() as stop:
        while waiting or at_work:
            while waiting and free and stop.exit_code is None:
                run, device = waiting.pop(0), free.pop(0)
                tell(f"run {total - len(waiting)} of {total}: {run.name} on {device}")
                at_work[run.name] = (_start(plan, run, device, len(devices), sharpness, logs), device)
            for name, (process, device) in list(at_work.items()):
                code = process.poll()
                if code is None:
                    continue
                del at_work[name]
                free.append(device)
                if code and stop.exit_code is None:
                    tell(f"{name} failed with exit code {code}; see {logs / name}.txt")
                    failures.append(Failure(name, _last_words(logs / f"{name}.txt"), code))
            if stop.exit_code is not None:
                _end(process for process, _ in at_work.values())
                raise Interrupted(
                    f"Stopped by {stop.name}; what was done is saved.", _go_on(plan), stop.exit_code
                )
            time.sleep(_PROGRESS_SECONDS)
    return failures


def run_on_ray(plan: StudyPlan, *, sharpness: bool, tell: Tell, cpus: float, gpus: float) -> list[Failure]:
    """Make the runs as tasks of a Ray cluster, or of a local Ray where there is none.

    Parameters
    ----------
    plan : StudyPlan
        What to make; data and study must lie where every node sees them.
    sharpness, tell
        See `run_here`.
    cpus, gpus : float
        What a run takes for itself.

    Returns
    -------
    list of Failure
        Runs that failed.

    Raises
    ------
    MissingExtra
        If Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtra("--engine ray", "ray") from None
    plan.write()
    ours = not ray.is_initialized()
    if ours:
        # RAY_ADDRESS names a cluster; without it a local Ray is started. No dashboard, no usage report.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=1)(_as_task)
        root = plan.folder.resolve()
        left = {task.remote(str(root), run.name, sharpness): run.name for run in _left(plan, sharpness)}
        tell(f"{len(left)} runs given to Ray")
        failures: list[Failure] = []
        while left:
            (ready, *_), _ = ray.wait(list(left), num_returns=1)
            name = left.pop(ready)
            outcome = _outcome(ray, ready, name)
            tell(f"{name} {'failed: ' + outcome.message if outcome else 'is done'}; {len(left)} left")
            failures += [outcome] if outcome else []
        return failures
    finally:
        if ours:
            ray.shutdown()


def _as_task(folder: str, name: str, sharpness: bool) -> tuple[str, int] | None:
    """Make one run inside a Ray worker; errors come back as plain text, whatever the worker can pickle."""
    from gcsam_med.compare.plan import chosen_run, read_study_plan

    plan = read_study_plan(Path(folder))
    try:
        carry_out(plan, chosen_run(plan, name), sharpness=sharpness)
    except GcsamMedError as error:
        return str(error), error.exit_code
    return None


def _outcome(ray: Any, ready: Any, name: str) -> Failure | None:
    try:
        said = ray.get(ready)
    except ray.exceptions.RayError as error:
        return Failure(name, f"the worker died or broke ({type(error).__name__})", 1)
    return None if said is None else Failure(name, *said)


def slurm_script(plan: StudyPlan, *, sharpness: bool) -> str:
    """Return a SLURM array script whose tasks are the runs of the plan, and how to use it.

    A task is told two minutes before its time is over (SIGUSR1), saves a checkpoint, leaves with 143 and is
    queued again, so that a run may take longer than the time limit of the queue.
    """
    folder = plan.folder.resolve()
    options = " --sharpness" if sharpness else ""
    return f"""#!/bin/bash
#SBATCH --job-name=gcsam-med
#SBATCH --array=0-{len(plan.runs) - 1}
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --output={folder}/logs/%a.txt
# {len(plan.runs)} runs. Save as study.sbatch and start with:  sbatch study.sbatch
# When all are done, compare them with:  gcsam-med compare --output {shlex.quote(str(folder))}
srun gcsam-med compare --output {shlex.quote(str(folder))} --only "$SLURM_ARRAY_TASK_ID"{options}
code=$?
if [ "$code" -eq 143 ]; then scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"; fi
exit "$code"
"""


def _left(plan: StudyPlan, sharpness: bool) -> list[PlannedRun]:
    return [run for run in plan.runs if not is_done(plan, run, sharpness=sharpness)]


def _go_on(plan: StudyPlan) -> str:
    return f"Go on with the same command, or: gcsam-med compare --output {plan.folder}"


def _start(
    plan: StudyPlan, run: PlannedRun, device: str, share: int, sharpness: bool, logs: Path
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gcsam_med", "compare", "--output", str(plan.folder), "--only", run.name]
    command += ["--device", device, *(["--sharpness"] if sharpness else [])]
    threads = str(max(1, (os.cpu_count() or 1) // share))
    with (logs / f"{run.name}.txt").open("ab") as log:
        # A process group of its own: Ctrl-C reaches this process alone, which then tells the others.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"OMP_NUM_THREADS": threads, **os.environ},
            process_group=0,
        )


def _end(processes: Any) -> None:
    """Ask processes to save and end, and wait until they have."""
    at_work = list(processes)
    for process in at_work:
        process.terminate()
    for process in at_work:
        process.wait()


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = [line for line in lines if line.startswith("error:")]
    return (said or lines or ["it said nothing"])[-1].removeprefix("error: ")

"""Make the runs of a study: here one by one, in processes beside each other, on Ray, on SLURM.

Each of these does what is left and skips what is there, so any of them continues where another stopped.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gcsam_med.compare.plan import PlannedRun, StudyPlan, chosen_run, read_study_plan
from gcsam_med.config import RunConfig, SharpnessOptions
from gcsam_med.devices import usable_cores
from gcsam_med.errors import GcsamMedError, InputError, Interrupted, MissingExtra
from gcsam_med.evaluation import evaluate
from gcsam_med.evaluation.flatness import measure_sharpness, read_sharpness, write_sharpness
from gcsam_med.files import locked, make_folder, open_to_append
from gcsam_med.progress import Track, silent
from gcsam_med.reading import MOST_LINES, read_json_or_empty, read_plain
from gcsam_med.runs import RunFolder
from gcsam_med.runs.folder import changed_settings
from gcsam_med.training import Callback, resume, train
from gcsam_med.training.process import StopSignals

Tell = Callable[[str], None]
State = Literal["to do", "unfinished", "damaged", "trained", "evaluated"]

# Enough for the two metrics of the comparison, and for one line of the landscape.
SHARPNESS = SharpnessOptions(cases=32, eigenvalues=1, trace_samples=10, line_points=21, surface_points=0)
_PROGRESS_SECONDS = 0.2
SLIM = "slim"  # an empty file: the run was slimmed down
_ROOT = Path(__file__).resolve().parents[2]
# A process whose parent is killed would train on, unseen. Its stdin ends with the parent, however that ends;
# then it saves a checkpoint and ends as on SIGTERM.
_END_WITH_PARENT = (
    "import os, signal, threading; threading.Thread("
    "target=lambda: (os.read(0, 1), os.kill(os.getpid(), signal.SIGTERM)), daemon=True).start()"
)


def state_of(plan: StudyPlan, run: PlannedRun) -> State:
    """Say how far a run is; ``"damaged"`` where its settings cannot be read.

    Raises
    ------
    InputError
        If its folder holds a run of other settings.
    """
    folder = plan.folder_of(run)
    if not folder.config_file.is_file():
        return "to do"
    try:
        before = folder.config()
    except GcsamMedError:
        return "damaged"
    _check_settings(folder, before, run)
    if not folder.result_file.is_file():
        return "unfinished"
    return "evaluated" if is_evaluated(folder, plan.split) else "trained"


def states(plan: StudyPlan) -> dict[str, State]:
    """Say how far every run is, by name; see `state_of`."""
    return {run.name: state_of(plan, run) for run in plan.runs}


def missing_runs(plan: StudyPlan) -> list[str]:
    """Names of the runs that are not trained and evaluated yet."""
    return [name for name, state in states(plan).items() if state != "evaluated"]


def save_plan(plan: StudyPlan) -> None:
    """Write a plan to its folder, unless that holds a run of other settings; see `state_of`."""
    states(plan)
    plan.write()


def is_done(plan: StudyPlan, run: PlannedRun, *, sharpness: bool) -> bool:
    """Whether nothing is left of a run."""
    done = state_of(plan, run) == "evaluated"
    return done and (not sharpness or _is_measured(plan.folder_of(run)))


def finish_run(
    plan: StudyPlan,
    run: PlannedRun,
    *,
    device: str | None = None,
    sharpness: bool = False,
    callback: Callback | None = None,
    track: Track = silent,
) -> None:
    """Do what is left of a run of a study; nothing if all is there.

    `device` is used instead of the configuration's; with `sharpness` the minimum is measured as well;
    `callback` hears how the training goes, `track` shows the rest.

    Raises
    ------
    GcsamMedError
        As `train`, `resume` and `evaluate` do.
    """
    folder, state = plan.folder_of(run), state_of(plan, run)
    device = device or run.config.device
    if state == "to do":
        config = run.config.model_copy(update={"device": device})
        train(config, folder.root, callback)
    elif state in ("unfinished", "damaged"):  # the latter says what is wrong
        resume(folder.root, callback, device=device, data_root=run.config.data_root)
    where: dict[str, Any] = {"data_root": run.config.data_root, "device": device}
    if not is_evaluated(folder, plan.split):
        evaluate(folder.root, plan.split, track=track, **where)
    if sharpness and not _is_measured(folder):
        measured = measure_sharpness(
            folder.root, SHARPNESS, track=track, batch_size=run.config.batch_size, **where
        )
        write_sharpness(folder.sharpness, measured)


def is_evaluated(run: RunFolder, split: str) -> bool:
    """Whether the evaluation there is of the weights that are there."""
    found = read_json_or_empty(run.evaluation(split) / "metrics.json")
    return (
        bool(found)
        and (run.evaluation(split) / "cases.csv").is_file()
        and (found.get("run", {}).get("weights_sha256") == _weights(run))
    )


def _is_measured(run: RunFolder) -> bool:
    try:
        return bool(read_sharpness(run, str(_weights(run))))
    except InputError:  # damaged: it is measured again
        return False


def _weights(run: RunFolder) -> Any:
    return read_json_or_empty(run.model / "model.json").get("weights_sha256")


def _check_settings(folder: RunFolder, config: RunConfig, run: PlannedRun) -> None:
    changed = changed_settings(config, run.config)
    differing = [text for name, text in changed.items() if getattr(run.config, name) != "auto"]
    if differing:
        raise InputError(
            f"{folder.root} was made with other settings ({'; '.join(differing)}).",
            "Choose another --output, or ask for the settings it was made with.",
        )


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
    """Make the runs one after another in this process; return those that failed.

    Those after a failed one are made all the same. `view` gives the callback of one training; `track` and
    `tell` show progress; the rest is as in `finish_run`.

    Raises
    ------
    Interrupted
        If a signal came; what was done is saved.
    """
    save_plan(plan)
    failures = []
    with _alone(plan):
        left = runs_left(plan, sharpness)
        for number, run in enumerate(left, start=1):
            tell(f"run {number} of {len(left)}: {run.name}")
            try:
                with view() as callback:
                    finish_run(plan, run, device=device, sharpness=sharpness, callback=callback, track=track)
            except Interrupted as stop:
                raise Interrupted(stop.message, _go_on(plan), stop.exit_code) from stop
            except GcsamMedError as error:
                tell(f"{run.name} failed: {error.message}")
                failures.append(Failure(run.name, str(error), error.exit_code))
    return failures


def _alone(plan: StudyPlan) -> AbstractContextManager[None]:
    """Two processes that make the runs of one study would take them from each other."""
    return locked(plan.folder / ".lock", f"making the runs of {plan.folder}")


def run_in_processes(
    plan: StudyPlan,
    devices: Sequence[str],
    *,
    sharpness: bool,
    tell: Tell,
    deadline: float | None = None,
    slim: bool = False,
    last: Collection[str] = (),
) -> list[Failure]:
    """Make the runs in processes, as many at once as devices are named; return those that failed.

    A device stands for one process: ``("cuda:0", "cuda:1")``, or ``("cpu", "cpu")`` to share the cores. The
    plan is written to its folder, where the processes read it; what they print is in ``logs/NAME.txt``. No
    run is begun that would not end before `deadline` (`time.monotonic`), as those of its arm that ended here
    tell; those that are at work then save a checkpoint and end. Runs named in `last` are begun after the
    others. With `slim`, a finished run keeps only what a comparison reads (`slim_down`).

    Raises
    ------
    Interrupted
        If a signal came; it is passed on, and each process saves what it has.
    """
    save_plan(plan)
    logs = make_folder(plan.folder, "logs")
    waiting, free = sorted(runs_left(plan, sharpness), key=lambda run: run.name in last), list(devices)
    total, failures = len(waiting), []
    at_work: dict[str, tuple[subprocess.Popen[bytes], str]] = {}
    clock = _Clock(deadline)
    for run in plan.runs:
        if slim and is_done(plan, run, sharpness=sharpness):
            slim_down(plan, run)
    with _alone(plan), StopSignals() as stop:
        while waiting or at_work:
            waiting = [run for run in waiting if clock.allows(run)]
            if clock.is_over:
                _end(process for process, _ in at_work.values())
                break
            while waiting and free and stop.exit_code is None:
                run, device = waiting.pop(0), free.pop(0)
                clock.begin(run)
                tell(f"run {total - len(waiting)} of {total}: {run.name} on {device}")
                at_work[run.name] = (_start(plan, run, device, len(devices), sharpness, logs), device)
            for name, (process, device) in list(at_work.items()):
                code = process.poll()
                if code is None:
                    continue
                del at_work[name]
                _let_go(process)
                free.append(device)
                if not code:
                    clock.end(name)
                if not code and slim:
                    slim_down(plan, chosen_run(plan, name))
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


class _Clock:
    """Knows how long runs of each network and arm took, and which would still end in time."""

    def __init__(self, deadline: float | None) -> None:
        self.deadline = math.inf if deadline is None else deadline
        self._begun: dict[str, tuple[PlannedRun, float]] = {}
        self._took: dict[tuple[str | None, str], float] = {}

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline

    def begin(self, run: PlannedRun) -> None:
        self._begun[run.name] = run, time.monotonic()

    def end(self, name: str) -> None:
        run, begun = self._begun[name]
        kind = run.config.model, run.arm
        self._took[kind] = max(self._took.get(kind, 0.0), time.monotonic() - begun)

    def allows(self, run: PlannedRun) -> bool:
        """Whether a run would end in time; one of a kind that never ended here is tried."""
        return time.monotonic() + self._took.get((run.config.model, run.arm), 0.0) < self.deadline


def slim_down(plan: StudyPlan, run: PlannedRun) -> None:
    """Remove of a finished run what no comparison reads: weights, checkpoints, pictures, report."""
    folder = plan.folder_of(run)
    if (folder.root / SLIM).exists():
        return
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    for path in folder.model.glob("*.safetensors"):
        path.unlink()
    for pattern in (
        "*.png",
        "log.txt",
        "evaluation/*/report.*",
        "evaluation/*/figures",
        "evaluation/*/tables",
    ):
        for path in folder.root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder.root / SLIM).touch()


def run_on_ray(plan: StudyPlan, *, sharpness: bool, tell: Tell, cpus: float, gpus: float) -> list[Failure]:
    """Make the runs as tasks of a Ray cluster, or of a local Ray; return those that failed.

    Data and study must lie where every node sees them; `cpus` and `gpus` are what a run takes for itself.

    Raises
    ------
    MissingExtra
        If Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtra("--engine ray", "ray") from None
    save_plan(plan)
    ours = not ray.is_initialized()
    if ours:
        # RAY_ADDRESS names a cluster; without it a local Ray is started. No dashboard, no usage report.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=1)(_as_task)
        root = plan.folder.resolve()
        left = {task.remote(str(root), run.name, sharpness): run.name for run in runs_left(plan, sharpness)}
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
    plan = read_study_plan(Path(folder))
    try:
        finish_run(plan, chosen_run(plan, name), sharpness=sharpness)
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
    if not str(folder).isprintable() or {'"', "\\"} & set(str(folder)):
        raise InputError(
            "The path of the study holds a control character, quote or backslash, which SLURM does not take.",
            "Choose another --output.",
        )
    options = " --sharpness" if sharpness else ""
    logs = f"{folder}/logs/".replace("%", "%%") + "%a.txt"
    return f"""#!/bin/bash
#SBATCH --job-name=gcsam-med
#SBATCH --array=0-{len(plan.runs) - 1}
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --output="{logs}"
# {len(plan.runs)} runs. Save as study.sbatch and start with:  sbatch study.sbatch
# When all are done, compare them with:  gcsam-med compare --output {shlex.quote(str(folder))}
srun gcsam-med compare --output {shlex.quote(str(folder))} --only "$SLURM_ARRAY_TASK_ID"{options}
code=$?
if [ "$code" -eq 143 ]; then scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"; fi
exit "$code"
"""


def runs_left(plan: StudyPlan, sharpness: bool) -> list[PlannedRun]:
    """Runs of which something is left to do, in order."""
    return [run for run in plan.runs if not is_done(plan, run, sharpness=sharpness)]


def _go_on(plan: StudyPlan) -> str:
    return f"Go on with the same command, or: gcsam-med compare --output {plan.folder}"


def _start(
    plan: StudyPlan, run: PlannedRun, device: str, share: int, sharpness: bool, logs: Path
) -> subprocess.Popen[bytes]:
    # Not -m: it would look for modules in the working directory first.
    start = f"import sys; sys.path.append({str(_ROOT)!r}); from gcsam_med.cli import main; main()"
    code = f"{_END_WITH_PARENT}; {start}"
    command = [sys.executable, "-P", "-c", code, "compare", "--output", str(plan.folder), "--only", run.name]
    command += ["--device", device, *(["--sharpness"] if sharpness else [])]
    threads = str(max(1, usable_cores() // share))
    with open_to_append(logs / f"{run.name}.txt") as log:
        # A process group of its own: Ctrl-C reaches this process alone, which then tells the others.
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
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
        _let_go(process)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Close our end of an ended process's stdin."""
    if process.stdin is not None:
        process.stdin.close()


def _last_words(log: Path) -> str:
    lines = read_plain(log, MOST_LINES).decode(errors="replace").strip().splitlines()
    said = [line for line in lines if line.startswith("error:")]
    return (said or lines or ["it said nothing"])[-1].removeprefix("error: ")

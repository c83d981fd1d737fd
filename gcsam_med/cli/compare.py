"""`gcsam-med compare`: train several recipes with several seeds and compare them on the same cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcsam_med.cli import console, options

if TYPE_CHECKING:
    from gcsam_med.compare.engines import Failure
    from gcsam_med.compare.plan import StudyPlan
    from gcsam_med.reporting.comparison import Comparison

_WHAT, _HOW, _WHERE = "What is compared", "How each run is trained", "Where and when"
ENGINES = ("local", "ray", "slurm")


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN...]", help="Finished runs to compare; or plan new ones by options."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Name of a prepared data set.", rich_help_panel=_WHAT)
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="segmentation or classification.", rich_help_panel=_WHAT)
    ] = None,
    optimizers: Annotated[
        str, typer.Option("--optimizers", help="The first is the reference.", rich_help_panel=_WHAT)
    ] = "adam,sam,gcsam",
    models: Annotated[
        str | None,
        typer.Option("--models", help="E.g. unet,segresnet; default by task.", rich_help_panel=_WHAT),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="E.g. 0-4 or 1,3,5.", rich_help_panel=_WHAT)] = "0-4",
    folds: Annotated[
        str | None, typer.Option("--folds", help="all, or e.g. 0-2.", rich_help_panel=_WHAT)
    ] = None,
    equal_compute: Annotated[
        bool,
        typer.Option(
            "--equal-compute",
            help="Add the plain optimizer with as many gradient computations as the dearest.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    sharpness: Annotated[
        bool, typer.Option("--sharpness", help="Also measure each minimum.", rich_help_panel=_WHAT)
    ] = False,
    split: Annotated[str, typer.Option("--split", help="test or val.", rich_help_panel=_WHAT)] = "test",
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="Of the bootstrap.", rich_help_panel=_WHAT)
    ] = 2000,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Use only these.", rich_help_panel=_HOW)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="At the most.", rich_help_panel=_HOW)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Cases a pass.", rich_help_panel=_HOW)
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Of all arms.", rich_help_panel=_HOW)] = None,
    rho: Annotated[
        float | None, typer.Option("--rho", min=0, help="Of all arms that ascend.", rich_help_panel=_HOW)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file of settings.", rich_help_panel=_HOW)
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: key=value.", rich_help_panel=_HOW)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the study, to go on with too.", rich_help_panel=_WHERE
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Folder of prepared data sets.", rich_help_panel=_WHERE)
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_WHERE)
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Runs at once; default: one a GPU.", rich_help_panel=_WHERE),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine", help="local, ray (extra: ray), or slurm (prints a script).", rich_help_panel=_WHERE
        ),
    ] = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and the time it takes.", rich_help_panel=_WHERE)
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            "--only", help="Make this run of the plan in --output (name or number).", rich_help_panel=_WHERE
        ),
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Compare recipes fairly: same cases, several seeds, corrected tests, and what each gain cost."""
    del quiet, verbose, json, debug
    from gcsam_med.errors import InputError, unknown_name

    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if split not in ("test", "val"):
        raise InputError(f"--split is test or val here, but got '{split}'.")
    if runs:
        if dataset or only or dry_run:
            raise InputError("Give finished runs, or options that plan new ones, not both.")
        _compare_finished(runs, split, resamples, output)
        return
    if only is not None:
        _make_one(output, only, device, sharpness)
        return
    settings: dict[str, Any] = {
        "dataset": dataset,
        "task": task,
        "classes": [name.strip() for name in classes.split(",")] if classes else None,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "rho": rho,
        "data_root": data_root,
        "device": device,
    }
    plan = _planned(
        settings, optimizers, models, seeds, folds, equal_compute, output, config, sets or [], split
    )
    if dry_run:
        _show_plan(plan, device)
        return
    if engine == "slurm":
        _print_slurm(plan, sharpness)
        return
    failures = _make_all(plan, engine, device, jobs, sharpness)
    for failure in failures:
        console.warn(f"{failure.run} is missing: {failure.message}")
    if len(failures) < len(plan.runs):
        from gcsam_med.compare import compare_study

        _finish(compare_study(plan, n_resamples=resamples), plan.folder)
    if failures:
        raise typer.Exit(failures[0].exit_code)


def numbers(text: str, what: str) -> tuple[int, ...]:
    """Read ``0-4`` or ``0,2,5-7``."""
    from gcsam_med.errors import InputError

    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"--{what} takes numbers such as 0-4 or 0,2,5, but got '{text}'.")
        stop = int(last or first)
        if stop < int(first) or stop - int(first) > 10_000:
            raise InputError(f"--{what} {text}: {part.strip()} is no range.")
        found += range(int(first), stop + 1)
    return tuple(found)


def _planned(
    settings: dict[str, Any],
    optimizers: str,
    models: str | None,
    seeds: str,
    folds: str | None,
    equal_compute: bool,
    output: Path | None,
    config: Path | None,
    sets: list[str],
    split: str,
) -> StudyPlan:
    """The plan that the options ask for, or the one that the folder holds."""
    from gcsam_med.compare.plan import PLAN_FILE, Question, make_study_plan, read_study_plan
    from gcsam_med.config import load_config
    from gcsam_med.errors import InputError

    if settings["dataset"] is None and config is None:
        if output is None or not (output / PLAN_FILE).is_file():
            raise InputError(
                "Say what to compare: --dataset NAME, finished runs, or --output with the folder of a study."
            )
        return read_study_plan(output)
    question = Question(
        optimizers=tuple(name.strip() for name in optimizers.split(",") if name.strip()),
        seeds=numbers(seeds, "seeds"),
        folds=() if folds is None else ("all",) if folds == "all" else numbers(folds, "folds"),
        models=tuple(name.strip() for name in models.split(",") if name.strip()) if models else (),
        equal_compute=equal_compute,
        settings=settings,
    )
    name = load_config(config, settings, sets).dataset
    folder = output or Path("runs") / f"compare-{name}"
    return make_study_plan(question, folder, config=config, sets=sets, split=split)


def _make_one(output: Path | None, only: str, device: str | None, sharpness: bool) -> None:
    from gcsam_med.cli.live import LiveView
    from gcsam_med.compare.execute import carry_out
    from gcsam_med.compare.plan import chosen_run, read_study_plan
    from gcsam_med.errors import InputError

    if output is None:
        raise InputError("--only needs --output with the folder of the study.")
    plan = read_study_plan(output)
    run = chosen_run(plan, only)
    with LiveView() as view:
        carry_out(plan, run, device=device, sharpness=sharpness, callback=view, track=console.track)
    console.result({"run": str(plan.folder_of(run).root)}, f"Done: {plan.folder_of(run).root}")


def _make_all(
    plan: StudyPlan, engine: str, device: str | None, jobs: int | None, sharpness: bool
) -> list[Failure]:
    from gcsam_med.cli.live import LiveView
    from gcsam_med.compare.engines import run_here, run_in_processes, run_on_ray
    from gcsam_med.compare.execute import states
    from gcsam_med.devices import cuda_devices

    states(plan)
    plan.write()
    gpus = cuda_devices() if device in (None, "auto", "cuda") else []
    if engine == "ray":
        return run_on_ray(plan, sharpness=sharpness, tell=console.say, cpus=1, gpus=1 if gpus else 0)
    places = gpus or [device or "auto"]
    count = jobs or len(places)
    if count == 1:
        return run_here(
            plan, device=device, sharpness=sharpness, view=LiveView, track=console.track, tell=console.say
        )
    devices = [places[i % len(places)] for i in range(count)]
    return run_in_processes(plan, devices, sharpness=sharpness, tell=console.say)


def _print_slurm(plan: StudyPlan, sharpness: bool) -> None:
    from gcsam_med.compare.engines import slurm_script
    from gcsam_med.compare.execute import states

    states(plan)
    plan.write()
    (plan.folder / "logs").mkdir(exist_ok=True)
    script = slurm_script(plan, sharpness=sharpness)
    console.say(f"The plan is in {plan.folder}; the script follows on stdout.")
    console.result({"script": script}, "")
    if not console.voice.as_json:
        typer.echo(script, nl=False)


def _show_plan(plan: StudyPlan, device: str | None) -> None:
    from gcsam_med.compare.cost import passes_per_step
    from gcsam_med.compare.estimate import estimate_seconds
    from gcsam_med.compare.execute import states

    console.say("Timing a few steps of each network on this machine ...")
    seconds = estimate_seconds(plan, device)
    standing = states(plan)
    console.table(
        f"{len(plan.runs)} runs in {plan.folder}",
        ["run", "optimizer", "epochs", "passes a step", "minutes", "state"],
        [
            (
                run.name,
                run.config.optimizer,
                run.config.epochs,
                f"{passes_per_step(run.config):g}",
                f"{seconds[run.name] / 60:.1f}",
                standing[run.name],
            )
            for run in plan.runs
        ],
        result=True,
    )
    left = sum(s for name, s in seconds.items() if standing[name] in ("to do", "unfinished"))
    console.result(
        {
            "folder": str(plan.folder),
            "seconds_left": left,
            "runs": [{"run": n, "seconds": s, "state": standing[n]} for n, s in seconds.items()],
        },
        f"About {left / 3600:.1f} hours of training are left, one run after another; nothing was started.",
    )


def _compare_finished(runs: list[Path], split: str, resamples: int, output: Path | None) -> None:
    from gcsam_med.compare import compare_runs

    found = compare_runs(runs, split=split, n_resamples=resamples)
    _finish(found, output or Path("runs") / f"comparison-{found.dataset}")


def _finish(found: Comparison, folder: Path) -> None:
    from gcsam_med.metrics.table import METRICS
    from gcsam_med.reporting import write_comparison
    from gcsam_med.reporting.text import arm_name, interval, number, p_text, pair_name, sentence, signed
    from gcsam_med.reporting.write import comparison_json

    files = write_comparison(found, folder)
    for notice in found.notices:
        if notice.stamp:
            console.warn(f"{notice.title}. {notice.text}")
    name = METRICS[found.task][found.main_metric].title
    console.table(
        f"{name} on the {found.split} split of {found.title}, {found.n_cases} cases",
        ["arm", "runs", "mean", "95 % interval", "gradient computations", "minutes a run"],
        [
            (
                arm_name(found, arm),
                len(arm.runs),
                number(arm.main.value),
                interval(arm.main),
                f"{arm.cost.passes:,.0f}",
                number(arm.cost.minutes),
            )
            for arm in found.arms
        ],
        result=True,
    )
    console.table(
        "Differences",
        ["pair", "difference", "95 % interval", "p (Holm)", "verdict"],
        [
            (
                pair_name(found, pair),
                signed(pair.difference.value),
                interval(pair.difference),
                p_text(pair.p_holm),
                pair.verdict,
            )
            for pair in found.pairs
        ],
        result=True,
    )
    console.result(comparison_json(found), f"{sentence(found)}\nComparison: {files[0]}")

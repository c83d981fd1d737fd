"""`gcsam-med compare`: train several recipes with several seeds and compare them on the same cases."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import ConfigFile, Given, Output, Sets, from_models
from gcsam_med.cli.prepare import as_one_set
from gcsam_med.config import CompareOptions, PlanOptions, RunConfig, load_config
from gcsam_med.errors import InputError
from gcsam_med.fields import Minutes, Options, Positive, option
from gcsam_med.files import make_folder

if TYPE_CHECKING:
    from gcsam_med.compare.execute import Failure
    from gcsam_med.compare.plan import StudyPlan
    from gcsam_med.compare.study import StudyPart
    from gcsam_med.config import Language
    from gcsam_med.reporting.comparison import CentreStudy, Comparison

_WHERE = "Where and when"
Told = tuple[dict[str, Any], str, Path]  # a comparison as JSON, in a sentence, and its page
Common = Annotated[
    dict[str, Any], Given(RunConfig, without=("model", "optimizer", "seed", "fold", "leave_out"))
]


class MakeOptions(Options):
    """Where and when the runs of a study are made."""

    jobs: Positive | None = option(None, "Runs at once; default: one per GPU.", _WHERE)
    engine: Literal["local", "ray", "slurm"] = option(
        "local", "local, ray (extra: ray), or slurm (prints a script).", _WHERE
    )
    dry_run: bool = option(False, "Show the plan and the time it takes.", _WHERE)
    study: Path | None = option(None, "YAML file of a study of several parts.", _WHERE)
    minutes: Minutes | None = option(
        None, "Stop after these minutes, and begin no run that would end later.", _WHERE
    )
    slim: bool = option(
        False, "Keep only what a comparison needs of finished runs: no weights, no reports.", _WHERE
    )
    only: str | None = option(None, "Train only this run of the plan in --output (name or number).", _WHERE)


@from_models
def compare_command(
    options: CompareOptions,
    making: MakeOptions,
    settings: Common,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN...]",
            help="Finished runs to compare, or the folder of a study; or plan new ones by options.",
            autocompletion=completion.of("runs"),
        ),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the study, new or unfinished.")
    ] = None,
) -> None:
    """Compare recipes fairly: same cases, several seeds, corrected tests, and what each gain cost."""
    if runs:
        planned = "dataset" in settings or making.dry_run or bool(making.only)
        _compare_finished(runs, options, output, planned=planned)
    elif making.study is not None and making.dry_run:
        _show_estimates(making.study, settings, making.minutes)
    elif making.study is not None:
        _make_study(making.study, making, settings, output or Path("runs") / making.study.stem)
    elif making.only is not None:
        _make_one(output, making.only, settings.get("device"), options.sharpness)
    else:
        as_one_set(settings, options.datasets)
        _make_new(options, making, settings, output, config, sets or [])


def _compare_finished(
    runs: list[Path], options: CompareOptions, output: Path | None, *, planned: bool
) -> None:
    """Compare finished runs, or what is finished of the studies in a folder."""
    from gcsam_med.compare import compare_runs
    from gcsam_med.compare.plan import read_study_plan

    if planned:
        raise InputError("Give finished runs, or options that plan new ones, not both.")
    studies = _studies(runs[0]) if len(runs) == 1 else []
    if studies:
        _tell({folder.name: _analyse(read_study_plan(folder), options) for folder in studies})
        return
    found = compare_runs(runs, options)
    _tell({"": _finish(found, output or Path("runs") / f"comparison-{found.dataset}", options.lang)})


def _make_new(
    options: CompareOptions,
    making: MakeOptions,
    settings: dict[str, Any],
    output: Path | None,
    config: Path | None,
    sets: list[str],
) -> None:
    """Make the runs of one study, its tries first, and compare them."""
    from gcsam_med.compare.execute import missing_runs

    maker = _Maker(making, settings.get("device"))

    def make_tries(tries: StudyPlan) -> None:
        if making.engine != "slurm":
            maker.make(tries)
        elif missing_runs(tries):
            _print_slurm(tries, sharpness=False)
            console.say("These are the tries of --tune. When they are done, give the same command again.")
            raise typer.Exit

    make = None if making.dry_run else make_tries
    plan, tries = _planned(options, settings, output, config, sets, make)
    if making.dry_run:
        _show_plan(plan, maker.device, tries, making.minutes)
        return
    if making.engine == "slurm":
        _print_slurm(plan, options.sharpness)
        return
    failures = maker.make(plan, options.sharpness)
    if len(failures) < len(plan.runs):
        _tell({"": _analyse(plan, options)})
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _make_study(file: Path, making: MakeOptions, settings: dict[str, Any], folder: Path) -> None:
    """Make the parts of a study one after another, as far as the time goes, and compare what is there."""
    from gcsam_med.compare.study import read_study

    parts = read_study(file, settings)
    maker = _Maker(making, settings.get("device"))
    plans = [_make_part(part, folder / part.name, maker) for part in parts]
    made = [(part, plan) for part, plan in zip(parts, plans, strict=True) if plan is not None]
    _tell({part.name: _analyse(plan, part.options) for part, plan in made}, in_parts=True)


def _make_part(part: StudyPart, folder: Path, maker: _Maker) -> StudyPlan | None:
    """Make what is left of a part of a study in time; None if tries of --tune are missing."""
    from gcsam_med.compare.execute import missing_runs
    from gcsam_med.compare.tune import plan_study

    as_one_set(part.settings, part.options.datasets)
    plan, tries = plan_study(part.options, part.settings, folder)
    if tries is not None and missing_runs(tries):
        maker.make(tries)
        if missing_runs(tries):
            console.warn(f"{folder}: not all tries of --tune are finished, so no run was begun.")
            return None
        plan, _ = plan_study(part.options, part.settings, folder)
    maker.make(plan, part.options.sharpness)
    return plan


class _Maker:
    """Makes the runs of studies that are left, and says which failed."""

    def __init__(self, making: MakeOptions, device: str | None) -> None:
        self.making, self.device = making, device
        self.deadline = None if making.minutes is None else time.monotonic() + 60 * making.minutes

    def make(self, plan: StudyPlan, sharpness: bool = False) -> list[Failure]:
        """Make the runs of a plan; return those that failed."""
        failures = self._make(plan, sharpness)
        for failure in failures:
            console.warn(f"{failure.run} is missing: {failure.message}")
        return failures

    def _make(self, plan: StudyPlan, sharpness: bool) -> list[Failure]:
        from gcsam_med.cli.live import StudyView
        from gcsam_med.compare.execute import run_here, run_in_processes, run_on_ray, runs_left
        from gcsam_med.compare.plan import estimate_seconds
        from gcsam_med.devices import cuda_devices
        from gcsam_med.training.cost import passes_per_step

        making = self.making
        gpus = cuda_devices() if self.device in (None, "auto", "cuda") else []
        if making.engine == "ray":
            return run_on_ray(plan, sharpness=sharpness, tell=console.say, cpus=1, gpus=1 if gpus else 0)
        places = gpus or [self.device or "auto"]
        count = making.jobs or len(places)
        if count == 1 and self.deadline is None and not making.slim:
            configs = (run.config for run in runs_left(plan, sharpness))
            study = StudyView([config.epochs * passes_per_step(config) for config in configs])
            return run_here(
                plan,
                device=self.device,
                sharpness=sharpness,
                view=study.next_run,
                track=console.track,
                tell=console.say,
            )
        last: list[str] = []
        if self.deadline is not None:
            left = replace(plan, runs=tuple(runs_left(plan, sharpness)))
            minutes = (self.deadline - time.monotonic()) / 60
            last = _too_long(estimate_seconds(left, self.device), minutes)
        return run_in_processes(
            plan,
            [places[i % len(places)] for i in range(count)],
            sharpness=sharpness,
            tell=console.say,
            deadline=self.deadline,
            slim=making.slim,
            last=last,
        )


def _show_estimates(file: Path, settings: dict[str, Any], minutes: float | None) -> None:
    from gcsam_med.compare.study import estimate, read_study

    found = [estimate(part) for part in read_study(file, settings)]
    said = {True: "measured", False: "partly guessed"}
    console.table(
        "On one NVIDIA H200, runs one after another, without early stopping",
        ["part", "runs", "minutes", "longest run", "rates"],
        [
            (e.part, e.runs, f"{e.minutes:,.0f}", f"{max(e.each.values()):.1f}", said[e.measured])
            for e in found
        ],
        result=True,
    )
    _too_long({f"{e.part}: {run}": 60 * long for e in found for run, long in e.each.items()}, minutes)
    total = sum(e.minutes for e in found)
    console.result(
        {"minutes": total, "parts": [asdict(e) for e in found]},
        f"About {total:,.0f} GPU minutes at most; several runs at once on the card (--jobs 4) take less. "
        "Tries of --tune come on top. Nothing was started.",
    )


def _too_long(seconds: dict[str, float], minutes: float | None) -> list[str]:
    """Name the runs that take longer than the minutes given, and say what becomes of them."""
    found = [] if minutes is None else [name for name, long in seconds.items() if long > 60 * minutes]
    if found:
        shown = [f"{name} (about {console.duration(seconds[name])})" for name in found[:10]]
        more = f", and {len(found) - 10} more" if len(found) > 10 else ""
        console.warn(
            f"These runs probably take longer than the {minutes:.3g} minutes given. They are begun last and "
            f"do not end this time: {', '.join(shown)}{more}. The same command continues them from their "
            "checkpoints; where those are not kept, such a run never ends: give more minutes."
        )
    return found


def _studies(folder: Path) -> list[Path]:
    """Folders of studies: this one, or those in it; empty if it is a run."""
    from gcsam_med.compare.plan import PLAN_FILE

    if (folder / PLAN_FILE).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{PLAN_FILE}"))


def _analyse(plan: StudyPlan, options: CompareOptions) -> Told | None:
    """Compare what is finished of a study, and say what is missing; None if nothing is finished."""
    from gcsam_med.compare import compare_centres, compare_study
    from gcsam_med.compare.execute import missing_runs

    missing = missing_runs(plan)
    if len(missing) == len(plan.runs):
        console.warn(f"{plan.folder}: none of {len(plan.runs)} runs is finished.")
        return None
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        console.warn(f"{plan.folder}: {len(missing)} of {len(plan.runs)} runs are missing: {shown}")
    if plan.centres:
        return _finish_centres(compare_centres(plan, options), plan.folder, options.lang)
    return _finish(compare_study(plan, options), plan.folder, options.lang)


def _tell(found: dict[str, Told | None], *, in_parts: bool = False) -> None:
    """Give the results of comparisons, by part; of several as one JSON document, ``{"parts": {...}}``."""
    known = {name: told for name, told in found.items() if told is not None}
    if in_parts or len(found) > 1:
        payload: dict[str, Any] = {"parts": {name: content for name, (content, _, _) in known.items()}}
    else:
        payload = next((content for content, _, _ in known.values()), {})
    pages = " ".join(str(page) for _, _, page in known.values())
    console.result(
        payload,
        "\n".join(f"{text}\nComparison: {page}" for _, text, page in known.values()),
        then=f"open {pages} in a browser" if pages else "",
    )


def _finish_centres(found: CentreStudy, folder: Path, language: Language) -> Told:
    from gcsam_med.metrics.table import METRICS
    from gcsam_med.reporting.text import interval, number
    from gcsam_med.reporting.write import centres_json, write_centres

    files = write_centres(found, folder, language=language)
    name = METRICS[found.task][found.main_metric].title
    console.table(
        f"{name} by centre that was left out",
        ["what", *found.by_centre, "over centres", "95 % interval", "of a new centre"],
        [
            (
                one.name,
                *(number(one.values[c].value) if c in one.values else "–" for c in found.by_centre),
                number(one.mean.value),
                interval(one.mean),
                "–" if one.prediction is None else " to ".join(map(number, one.prediction)),
            )
            for one in (*found.arms, *found.pairs)
        ],
        result=True,
    )
    return (
        centres_json(found),
        f"{found.title}: {len(found.by_centre)} centres, each left out once.",
        files[0],
    )


@from_models
def plan_command(
    options: PlanOptions,
    pilot: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY|RUN...",
            help="A study made by compare, or finished runs, as pilot.",
            autocompletion=completion.of("runs"),
        ),
    ],
    output: Output = None,
) -> None:
    """Say how many patients and seeds a comparison takes, and what the pilot's test images can show."""
    from gcsam_med.compare.planning import plan_size
    from gcsam_med.metrics.table import METRICS
    from gcsam_med.reporting.text import count, number
    from gcsam_med.reporting.write import check_report_folder, plain, write_study_sizes

    folder = output or pilot[0] / "plan"
    check_report_folder(folder, "plan.json")
    found = plan_size(pilot, options)
    task = "segmentation" if found.metric == "dice" else "classification"
    name = METRICS[task][found.metric].title
    unit = "patient" if found.group_kind == "patient" else "group"
    files = write_study_sizes(found, name, unit, folder)

    def needed(n: int | None) -> str:
        return "not reachable: add seeds" if n is None else f"{n:,}"

    console.table(
        f"{unit.capitalize()}s of test images needed in {name}, with a power of {found.power:.0%}",
        [
            "seeds",
            f"for a difference of {found.margin:g}, or not worse",
            f"for equivalence within {found.margin:g}",
            "smallest difference these images can show",
            "smallest margin of equivalence",
        ],
        [
            (
                row.n_seeds,
                needed(row.needed["not worse"]),
                needed(row.needed["equivalent"]),
                number(row.now["not worse"]),
                number(row.now["equivalent"]),
            )
            for row in found.rows
        ],
        result=True,
    )
    most = found.rows[-1]
    console.say(f"Pilot: {found.basis}. Two-sided 5 %, one comparison; with several arms more are needed.")
    console.result(
        plain(found),
        f"What can these {count(found.n_cases, 'test image')} ({count(found.n_groups, unit)}) show? With "
        f"{found.rows[0].n_seeds} seeds a difference of {number(found.rows[0].now['not worse'])} or more in "
        f"{name}, with {most.n_seeds} seeds of {number(most.now['not worse'])}, with a power of "
        f"{found.power:.0%}.\nCurves: {files[0]}",
        then=f"gcsam-med compare --dataset DATASET --margin {found.margin:g}",
    )


def _planned(
    options: CompareOptions,
    settings: dict[str, Any],
    output: Path | None,
    config: Path | None,
    sets: list[str],
    make_tries: Callable[[StudyPlan], None] | None,
) -> tuple[StudyPlan, StudyPlan | None]:
    """The plan that the options ask for, or the one that the folder holds; and that of its tries."""
    from gcsam_med.compare.plan import PLAN_FILE, read_study_plan
    from gcsam_med.compare.tune import plan_study

    if "dataset" not in settings and config is None:
        if output is None or not (output / PLAN_FILE).is_file():
            raise InputError(
                "Say what to compare: --dataset NAME, finished runs, or --output with the folder of a study."
            )
        return read_study_plan(output), None
    name = load_config(config, settings, sets).dataset
    folder = output or Path("runs") / f"compare-{name}"
    return plan_study(options, settings, folder, config=config, sets=sets, make=make_tries)


def _make_one(output: Path | None, only: str, device: str | None, sharpness: bool) -> None:
    from gcsam_med.cli.live import LiveView
    from gcsam_med.compare.execute import finish_run
    from gcsam_med.compare.plan import chosen_run, read_study_plan

    if output is None:
        raise InputError("--only needs --output with the folder of the study.")
    plan = read_study_plan(output)
    run = chosen_run(plan, only)
    with LiveView() as view:
        finish_run(plan, run, device=device, sharpness=sharpness, callback=view, track=console.track)
    console.result({"run": str(plan.folder_of(run).root)}, f"Done: {plan.folder_of(run).root}")


def _print_slurm(plan: StudyPlan, sharpness: bool) -> None:
    from gcsam_med.compare.execute import save_plan, slurm_script

    save_plan(plan)
    make_folder(plan.folder, "logs")
    script = slurm_script(plan, sharpness=sharpness)
    console.say(f"The plan is in {plan.folder}; the script follows on stdout.")
    console.result({"script": script}, "")
    if not console.voice.as_json:
        typer.echo(script, nl=False)


def _show_plan(plan: StudyPlan, device: str | None, tries: StudyPlan | None, minutes: float | None) -> None:
    from gcsam_med.compare.execute import states
    from gcsam_med.compare.plan import estimate_seconds
    from gcsam_med.reporting.text import readable_arm
    from gcsam_med.training.cost import passes_per_step

    console.say("Timing a few steps of each network on this machine ...")
    together = replace(plan, runs=(*(() if tries is None else tries.runs), *plan.runs))
    seconds = estimate_seconds(together, device)
    standing = states(plan) | ({} if tries is None else states(tries))
    if tries is not None:
        console.say(
            f"The first {len(tries.runs)} runs are the tries of --tune, on validation; the others take over "
            "what is best there, instead of the values they have now."
        )
    console.table(
        f"{len(together.runs)} runs in {plan.folder}",
        ["run", "arm", "epochs", "passes per image", "time", "state"],
        [
            (
                run.name,
                readable_arm(run.arm),
                run.config.epochs,
                f"{run.config.epochs * passes_per_step(run.config):g}",
                console.duration(seconds[run.name]),
                standing[run.name],
            )
            for run in together.runs
        ],
        result=True,
    )
    to_do = {name: s for name, s in seconds.items() if standing[name] in ("to do", "unfinished")}
    left = sum(to_do.values())
    _too_long(to_do, minutes)
    console.result(
        {
            "folder": str(plan.folder),
            "seconds_left": left,
            "runs": [{"run": n, "seconds": s, "state": standing[n]} for n, s in seconds.items()],
        },
        f"About {console.duration(left)} of training left, one run after another; nothing was started.",
        then="the same command without --dry-run",
    )


def _finish(found: Comparison, folder: Path, language: Language) -> Told:
    from gcsam_med.metrics.table import METRICS
    from gcsam_med.reporting.text import arm_name, interval, number, p_text, pair_name, sentence, signed
    from gcsam_med.reporting.write import comparison_json, write_comparison

    files = write_comparison(found, folder, language=language)
    for notice in found.notices:
        if notice.key == "no-patients" or (notice.stamp and notice.key != "research-only"):
            console.warn(f"{notice.title}. {notice.text}")
    name = METRICS[found.task][found.main_metric].title
    console.table(
        f"{name} on the {found.split} split of {found.title}, {found.n_cases} cases",
        ["arm", "runs", "mean", "95 % interval", "gradient computations", "time per run"],
        [
            (
                arm_name(found, arm),
                len(arm.runs),
                number(arm.main.value),
                interval(arm.main),
                f"{arm.cost.passes:,.0f}",
                "–" if arm.cost.minutes is None else console.duration(60 * arm.cost.minutes),
            )
            for arm in found.arms
        ],
        result=True,
    )
    console.table(
        "Differences",
        ["pair", "difference", "95 % interval", "p (Holm)", "verdict"]
        + ([] if found.margin is None else [f"margin {found.margin:g}"]),
        [
            (
                pair_name(found, pair),
                signed(pair.difference.value),
                interval(pair.difference),
                p_text(pair.p_holm),
                pair.verdict,
                *(() if found.margin is None else (pair.answer,)),
            )
            for pair in found.pairs
        ],
        result=True,
    )
    return comparison_json(found), sentence(found), files[0]

"""`compare` from end to end on a tiny data set: planned, made, stopped, gone on with, compared."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gcsam_med.cli import run
from gcsam_med.compare import compare_study
from gcsam_med.compare.execute import _END_WITH_PARENT, run_here, run_in_processes, slurm_script
from gcsam_med.compare.plan import StudyPlan, read_study_plan
from gcsam_med.config import CompareOptions
from gcsam_med.errors import InputError
from gcsam_med.training import Callback
from tests.builders import make_prepared

pytestmark = pytest.mark.slow

ARMS = ("adam", "adam-2x", "gcsam")


def options(folder: Path) -> list[str]:
    return [
        "compare", "--dataset", "toy", "--data-root", str(folder / "data"), "--task", "segmentation",
        "--models", "basic-unet", "--optimizers", "adam,gcsam", "--equal-compute", "--seeds", "0-1",
        "--epochs", "1", "--device", "cpu", "--resamples", "200", "-q",
        "--output", str(folder / "study"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A finished study of three arms with two seeds."""
    folder = tmp_path_factory.mktemp("compare")
    make_prepared(folder / "data", n=36, size=32)
    assert run(options(folder)) == 0
    return folder / "study"


def test_every_run_is_there_and_compared(study):
    """Oracle: the plan's arms and seeds; the mean of what `evaluate` wrote for each run."""
    found = json.loads((study / "comparison.json").read_text())
    assert [arm["name"] for arm in found["arms"]] == list(ARMS)
    assert found["synthetic"] is True
    for arm in found["arms"]:
        dice = [
            json.loads((study / "runs" / name / "evaluation/test/metrics.json").read_text())["metrics"][
                "dice"
            ]
            for name in arm["runs"]
        ]
        assert arm["main"]["value"] == pytest.approx(np.mean([d["value"] for d in dice]))
    epochs = {arm["name"]: arm["cost"]["epochs"] for arm in found["arms"]}
    passes = {arm["name"]: arm["cost"]["passes"] for arm in found["arms"]}
    assert epochs == {"adam": 1, "adam-2x": 2, "gcsam": 1}
    assert passes["adam-2x"] == passes["gcsam"] == 2 * passes["adam"]
    rows = pd.read_csv(study / "comparison.csv")
    assert sorted(rows["run"]) == sorted(p.name for p in (study / "runs").iterdir())
    page = (study / "comparison.html").read_text()
    assert "The same cases in each arm" in page
    assert 'href="runs/' in page
    assert "Synthetic images" in page
    assert "<script" not in page
    for figure in ("arms", "differences", "cost"):
        assert (study / "figures" / f"{figure}.png").is_file()
        assert f"fig-{figure}-title" in page


def test_the_same_command_again_makes_nothing_anew(study):
    """Oracle: every run's files keep their times; the comparison comes out the same but for its time."""
    before = {
        p: p.stat().st_mtime_ns for p in (study / "runs").rglob("*") if p.is_file() and p.name != ".lock"
    }
    found = json.loads((study / "comparison.json").read_text())
    assert run(options(study.parent)) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    again = json.loads((study / "comparison.json").read_text())
    for content in (found, again):
        del content["created"], content["seal"]  # the seal is of the time, too
    assert again == found


def test_finished_runs_give_the_same_comparison(study, tmp_path):
    """Oracle: the study's own comparison of the same runs."""
    runs = [str(p) for arm in ("adam", "gcsam") for p in sorted((study / "runs").glob(f"*-{arm}-seed*"))]
    assert run(["compare", *runs, "-q", "--resamples", "200", "--output", str(tmp_path / "c")]) == 0
    one = json.loads((tmp_path / "c/comparison.json").read_text())
    whole = json.loads((study / "comparison.json").read_text())
    wanted = next(p for p in whole["pairs"] if (p["first"], p["second"]) == ("adam", "gcsam"))
    assert one["pairs"][0]["difference"] == wanted["difference"]
    assert one["pairs"][0]["p_value"] == wanted["p_value"]


def test_a_margin_is_named_before_the_results(study, tmp_path, capsys):
    """Oracle: exit 2 and the plan as before; finished runs are compared with one that is said to be late."""
    before = (study / "study.json").read_bytes()
    assert run([*options(study.parent), "--margin", "0.05"]) == 2
    assert "cannot be named or changed" in " ".join(capsys.readouterr().err.split())
    assert (study / "study.json").read_bytes() == before
    runs = [str(p) for arm in ("adam", "gcsam") for p in sorted((study / "runs").glob(f"*-{arm}-seed*"))]
    folder = str(tmp_path / "c")
    assert run(["compare", *runs, "-q", "--resamples", "200", "--margin", "0.05", "--output", folder]) == 0
    found = json.loads((tmp_path / "c/comparison.json").read_text())
    assert (found["margin"], found["margin_before"]) == (0.05, False)
    assert found["pairs"][0]["answer"] == "not answerable"  # two seeds
    assert "Margin named afterwards" in (tmp_path / "c/comparison.html").read_text()


def test_a_study_tells_how_large_the_next_one_has_to_be(study, tmp_path, capsys):
    """Oracle: more seeds take no more groups; the files are there; what one run cannot tell is said."""
    command = ["plan", str(study), "--margin", "0.05", "--seeds", "3,10", "--json", "-o", str(tmp_path / "p")]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    needed = [row["needed"]["not worse"] for row in found["rows"]]
    assert needed[0] is None or needed[0] >= needed[1]
    assert found["basis"] == "gcsam minus adam, 2 seeds"
    assert {p.name for p in (tmp_path / "p").iterdir()} == {"power.svg", "power.png", "plan.json"}
    assert run(["plan", str(study / "runs/basic-unet-adam-seed0"), "--margin", "0.05", "--json"]) == 0
    assert "what seeds add is not known" in json.loads(capsys.readouterr().out)["basis"]
    assert run(["plan", str(study), "--margin", "0.05", "--arms", "adam,gcsamm"]) == 2
    assert "Did you mean 'gcsam'" in capsys.readouterr().err


def test_a_dry_run_starts_nothing(study, tmp_path, capsys):
    """Oracle: no folder appears; as many runs are named as the options ask for."""
    command = [*options(study.parent)[:-1], str(tmp_path / "new"), "--dry-run", "--json"]
    assert run(command) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [r["state"] for r in plan["runs"]] == ["to do"] * 6
    assert plan["seconds_left"] > 0
    assert not (tmp_path / "new").exists()


def test_other_settings_do_not_overwrite_a_study(study, capsys):
    """Oracle: exit 2, and the setting is named with both values."""
    command = options(study.parent)
    command[command.index("--epochs") + 1] = "3"
    assert run(command) == 2
    assert "epochs: 1 in the run, 3 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "3-1"], "no range"),
        (["--seeds", "x"], "takes numbers"),
        (["--seeds", "1,1"], "more than once"),
        (["--optimizers", "adamm"], "Did you mean"),
        (["--engine", "slurmm"], "Did you mean"),
        (["--set", "rho=auto"], "fixed rho"),
        (["--folds", "77"], "Fold 77"),
        (["--optimizers", "gcsam", "--equal-compute"], "nothing to add"),
    ],
)
def test_mistakes_are_named(study, arguments, said, tmp_path, capsys):
    """Oracle: exit 2 and a sentence that names the mistake; nothing is made."""
    command = [*options(study.parent)[:-1], str(tmp_path / "new"), *arguments]
    assert run([c for c in command if c != "--equal-compute" or "--equal-compute" in arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def forget(study: Path, name: str) -> Path:
    """Take a run's evaluation away, so that it is to be made again."""
    folder = study / "runs" / name / "evaluation" / "test"
    (folder / "metrics.json").unlink()
    return folder


def test_a_failed_run_is_named_and_the_others_are_made(study):
    """Oracle: in two processes; the model file of one run is broken and its failure says so."""
    plan = read_study_plan(study)
    broken, sound = "basic-unet-adam-seed0", "basic-unet-adam-seed1"
    for name in (broken, sound):
        forget(study, name)
    weights = study / "runs" / broken / "model" / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-7])
    try:
        (failure,) = run_in_processes(plan, ["cpu", "cpu"], sharpness=False, tell=print)
    finally:
        weights.write_bytes(whole)
    assert (failure.run, failure.exit_code) == (broken, 4)
    assert "weights.safetensors" in failure.message
    assert (study / "runs" / sound / "evaluation/test/metrics.json").is_file()
    assert {p.name for p in (study / "logs").iterdir()} == {f"{broken}.txt", f"{sound}.txt"}
    view = nullcontext(Callback())
    assert run_here(plan, device="cpu", sharpness=False, view=lambda: view, tell=print) == []


def test_a_process_of_a_study_ends_with_its_parent():
    """Oracle: it would sleep for a minute; SIGTERM, on which training saves, comes as the pipe closes."""
    sleeper = f"{_END_WITH_PARENT}; import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", sleeper], stdin=subprocess.PIPE) as child:
        child.communicate()
    assert child.returncode == -signal.SIGTERM


def test_names_that_slurm_would_read_otherwise_are_escaped_or_refused():
    """Oracle: sbatch's manual: %% is a percent sign; a line of the script is one line."""
    script = slurm_script(StudyPlan(Path("/data/50 % done"), ()), sharpness=False)
    assert '#SBATCH --output="/data/50 %% done/logs/%a.txt"' in script.splitlines()
    for name in ("/a\nscancel --me", '/a"b', "/a\\b"):
        with pytest.raises(InputError, match="SLURM does not take"):
            slurm_script(StudyPlan(Path(name), ()), sharpness=False)


def test_the_slurm_script_makes_the_runs_of_the_plan(study, tmp_path):
    """Oracle: bash runs it with stand-ins for SLURM's commands; the run of that number is made."""
    plan = read_study_plan(study)
    number = next(i for i, r in enumerate(plan.runs) if r.name == "basic-unet-gcsam-seed1")
    folder = forget(study, "basic-unet-gcsam-seed1")
    script = slurm_script(plan, sharpness=False)
    assert "--array=0-5" in script
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    (stand_ins / "srun").write_text('#!/bin/sh\nexec "$@"\n')
    (stand_ins / "gcsam-med").write_text(f'#!/bin/sh\nexec {sys.executable} -m gcsam_med "$@"\n')
    for stand_in in stand_ins.iterdir():
        stand_in.chmod(0o755)
    (tmp_path / "study.sbatch").write_text(script)
    done = subprocess.run(
        ["bash", str(tmp_path / "study.sbatch")],
        check=False,
        env={**os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(number)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "metrics.json").is_file()


def test_ray_makes_the_runs(study):
    """Oracle: what was taken away is there again, made by a worker of a local Ray."""
    ray = pytest.importorskip("ray")
    from gcsam_med.compare.execute import run_on_ray

    folder = forget(study, "basic-unet-gcsam-seed0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        assert run_on_ray(read_study_plan(study), sharpness=False, tell=print, cpus=1, gpus=0) == []
    finally:
        ray.shutdown()
    assert (folder / "metrics.json").is_file()


@pytest.mark.parametrize("file", ["evaluation/test/cases.csv", "result.json", "config.yaml"])
def test_a_damaged_run_does_not_stop_the_others(study, tmp_path, file):
    """Oracle: the other runs are compared, and a stamped warning names the one that was left out."""
    folder = Path(shutil.copytree(study, tmp_path / "study"))
    plan = read_study_plan(folder)
    damaged = plan.runs[-1].name
    (folder / "runs" / damaged / file).write_text("{")
    found = compare_study(plan, CompareOptions(resamples=100))
    assert {run for arm in found.arms for run in arm.runs} == {run.name for run in plan.runs[:-1]}
    assert found.notices[0].stamp
    assert damaged in found.notices[0].text


@pytest.mark.parametrize(
    "damage",
    [
        lambda plan: plan.update(schema=99),
        lambda plan: plan["runs"][0].update(name="../../out"),
        lambda plan: plan["runs"][0].update(config={"nonsense": 1}),
        lambda plan: plan.pop("runs"),
    ],
)
def test_a_damaged_plan_is_refused(study, tmp_path, damage, capsys):
    """Oracle: exit 2, and nothing is made outside the study."""
    plan = json.loads((study / "study.json").read_text())
    del plan["seal"]
    damage(plan)
    (tmp_path / "study.json").write_text(json.dumps(plan))
    assert run(["compare", "--output", str(tmp_path), "--only", "0"]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["study.json"]
    assert capsys.readouterr().err

"""Arms of a study: what their names mean, what they may not change, and what each of them costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcsam_med.cli import _joined_arms
from gcsam_med.compare.arms import ADDITIONS, REFUSED, planned_arms
from gcsam_med.compare.plan import make_study_plan
from gcsam_med.config import CompareOptions, RunConfig
from gcsam_med.errors import ConfigError, InputError
from gcsam_med.fields import chosen
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.training.cost import passes_per_step
from tests.builders import make_prepared

BASE = RunConfig(dataset="toy", epochs=30, weight_decay=0.01)


def arms(*texts: str, optimizers: str = "adam", equal: bool = False) -> dict[str, RunConfig]:
    options = chosen(CompareOptions, optimizers=optimizers, arm=list(texts), equal_compute=equal)
    return {arm.name: arm.config(BASE) for arm in planned_arms(options, BASE)}


def test_the_words_after_a_plus() -> None:
    """Oracle: the settings that each stands for, read from the configuration of the run."""
    found = arms(optimizers="adam,sgd+gc,gcsam+ema,adam+gc+swad")
    assert (found["adam"].optimizer, found["adam"].ema, found["adam"].swa) == ("adam", 0.0, 0.0)
    assert (found["sgd+gc"].optimizer, found["sgd+gc"].base) == ("gc", "sgd")
    assert (found["gcsam+ema"].optimizer, found["gcsam+ema"].ema) == ("gcsam", 0.999)
    dense = found["adam+gc+swad"]
    assert (dense.optimizer, dense.base, dense.swa, dense.swa_every) == ("gc", "adam", 0.25, "step")
    assert all(config.weight_decay == 0.01 for config in found.values())


def test_an_arm_by_name_changes_the_reference_s_settings() -> None:
    """Oracle: what was written; values are YAML, and the rest is the reference's and the common one."""
    found = arms(
        "raw norm=raw", "bare augment=no lr=1e-4", "raw-both optimizer=gcsam norm=raw centralize=both",
        optimizers="gcsam+ema",
    )  # fmt: skip
    assert (found["raw"].optimizer, found["raw"].ema, found["raw"].norm) == ("gcsam", 0.999, "raw")
    assert (found["bare"].augment, found["bare"].lr, found["bare"].weight_decay) == (False, 1e-4, 0.01)
    assert (found["raw-both"].norm, found["raw-both"].centralize) == ("raw", "both")


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_would_make_arms_incomparable_is_refused(key: str) -> None:
    """Oracle: the table of refused settings, each with its reason in the message."""
    with pytest.raises(ConfigError, match="may not set") as refused:
        arms(f"other {key}=1")
    assert REFUSED[key] in refused.value.message


@pytest.mark.parametrize(
    ("optimizers", "texts", "said"),
    [
        ("adam+swaa", (), "Did you mean 'swa'"),
        ("adamm+swa", (), "Did you mean 'adam"),
        ("sam+gc", (), "plain optimizer"),
        ("adam", ("x",), "takes a name and settings"),
        ("adam", ("../x lr=1",), "takes a name and settings"),
        ("adam", ("x lr=1", "x lr=2"), "names 'x' twice"),
        ("adam", ("adam lr=1",), "Two arms are called 'adam'"),
        ("adam", ("x lr=-1",), "Arm 'x'"),
        ("adam", ("x epoch=3",), "Did you mean"),
        ("adam", ("x rho=auto",), "fixed rho"),
        ("adam+ema+swa", (), "two ways"),
        ("sam,gcsam", (), "nothing to add"),
    ],
)
def test_mistakes_are_named(optimizers: str, texts: tuple[str, ...], said: str) -> None:
    """Oracle: the message names the mistake."""
    with pytest.raises(InputError) as refused:
        arms(*texts, optimizers=optimizers, equal="nothing" in said)
    assert said in f"{refused.value.message} {refused.value.advice}"


def test_equal_compute_holds_for_every_arm() -> None:
    """Oracle: epochs times passes of each method's row; the added arms cost what the dearest one costs."""
    every = [*OPTIMIZERS, "adam+swa", "adam+gc"]
    found = arms("slow every=4 optimizer=gcsam", optimizers=",".join(every), equal=True)
    cost = {name: config.epochs * passes_per_step(config) for name, config in found.items()}
    assert max(cost.values()) == 60
    for name in [*every, "slow"]:
        factor = 60 / cost[name]
        assert factor == 1 or cost[f"{name}-{factor:.3g}x"] == pytest.approx(60, abs=1)
    assert {name for name in found if name.endswith("x")} >= {"adam-2x", "adam+swa-2x", "gc-2x", "slow-1.6x"}


def test_the_plan_holds_complete_runs_of_each_arm(tmp_path: Path) -> None:
    """Oracle: the arms' settings; a rho that is common to all does not make an ascent of gc."""
    make_prepared(tmp_path, n=36, size=32)
    options = chosen(
        CompareOptions, optimizers="adam+gc,gcsam", arm=["raw optimizer=gcsam norm=raw"], seeds="0-1"
    )
    settings = {"dataset": "toy", "data_root": tmp_path, "epochs": 3, "rho": 0.1}
    plan = make_study_plan(options, settings, tmp_path / "study")
    assert [run.name for run in plan.runs[:3]] == [
        "unet-adam+gc-seed0", "unet-gcsam-seed0", "unet-raw-seed0",
    ]  # fmt: skip
    assert [run.config.rho for run in plan.runs[:3]] == [0.0, 0.1, 0.1]
    assert [run.config.norm for run in plan.runs[:3]] == [None, None, "raw"]


def test_the_words_of_an_arm_need_no_quotes() -> None:
    """Oracle: what a quoted text would be; paths and other options stay as they are."""
    line = [
        "compare",
        "--arm",
        "raw",
        "optimizer=gcsam",
        "norm=raw",
        "--seeds",
        "0",
        "--arm=b",
        "lr=1",
        "runs/a",
    ]
    assert _joined_arms(line) == [
        "compare", "--arm", "raw optimizer=gcsam norm=raw", "--seeds", "0", "--arm=b lr=1", "runs/a",
    ]  # fmt: skip


def test_every_addition_is_a_setting() -> None:
    """Oracle: the model of settings."""
    assert all(set(settings) <= set(RunConfig.model_fields) for settings in ADDITIONS.values())

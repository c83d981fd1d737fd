"""The arms of a study: an arm is an optimizer with settings of its own, over those common to all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gcsam_med.config import CompareOptions, RunConfig, with_overrides
from gcsam_med.errors import ConfigError, InputError, unknown_name
from gcsam_med.optim import BASES, OPTIMIZERS
from gcsam_med.runs.folder import MACHINE_FIELDS
from gcsam_med.training.cost import passes_per_step

ADDITIONS: dict[str, Mapping[str, Any]] = {
    "gc": {"optimizer": "gc"},
    "ema": {"ema": 0.999},
    "swa": {"swa": 0.25},
    "swad": {"swa": 0.25, "swa_every": "step"},
}
"""What may stand after a plus in ``--optimizers``, and the settings it means."""

_SAME_DATA = "all arms have to see the same cases in the same splits"
REFUSED: dict[str, str] = {
    **dict.fromkeys(sorted(MACHINE_FIELDS), "it says where and for how long a run trains, not what"),
    **dict.fromkeys(
        ("dataset", "data_root", "classes", "task", "fold", "test_fold", "leave_out"), _SAME_DATA
    ),
    "seed": "equal seeds pair the runs of two arms; choose them with --seeds",
    "model": "every arm is trained with every network; choose them with --models",
}
"""Settings that no arm may have of its own, and why."""

# A factor below this is rounding.
_SAME_COST = 1.01


@dataclass(frozen=True)
class ArmPlan:
    """An arm before its runs are planned."""

    name: str
    settings: Mapping[str, Any]  #: Of `RunConfig`, over those common to all runs.

    def config(self, base: RunConfig) -> RunConfig:
        """The arm's settings over the common ones.

        Raises
        ------
        ConfigError
            If they do not hold.
        """
        for key in self.settings:
            if key in REFUSED:
                raise ConfigError(f"Arm '{self.name}' may not set {key}: {REFUSED[key]}.")
        try:
            config = with_overrides(base, self.settings)
        except InputError as error:
            raise ConfigError(f"Arm '{self.name}': {error.message}", error.advice) from error
        if config.rho == "auto":
            raise ConfigError(
                "A comparison needs a fixed rho: --rho auto would look at validation for some runs only.",
                "Use --tune rho, which gives every arm as many tries, or --rho VALUE.",
            )
        return config


def planned_arms(options: CompareOptions, base: RunConfig) -> list[ArmPlan]:
    """List the arms of a study, the reference first; `base` holds the settings common to all runs.

    An arm given by name has the settings of the reference, changed by its own. With ``equal_compute`` each
    arm that computes fewer gradients than the most expensive one is there a second time, with as many epochs
    as make it cost the same.

    Raises
    ------
    InputError
        If a name is unknown or given twice, or a setting may not differ between arms.
    """
    arms = [ArmPlan(name, _settings(name)) for name in options.optimizers]
    arms += [ArmPlan(name, {**arms[0].settings, **own}) for name, own in options.arm.items()]
    if options.equal_compute:
        arms = _with_equal_compute(arms, base)
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two arms are called '{name}'.", "Give each its own name.")
    return arms


def _settings(name: str) -> dict[str, Any]:
    """Settings of ``adam``, ``adam+swa``, ``adam+gc+ema``, ..."""
    optimizer, *additions = name.split("+")
    if optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", optimizer, OPTIMIZERS.keys())
    settings: dict[str, Any] = {"optimizer": optimizer}
    for addition in additions:
        if addition not in ADDITIONS:
            raise unknown_name(f"addition in '{name}'", addition, ADDITIONS.keys())
        if addition == "gc" and optimizer not in BASES:
            raise InputError(
                f"'{name}': gc centres the gradient of a plain optimizer ({', '.join(BASES)}).",
                f'For {optimizer} use --arm: --arm NAME "optimizer={optimizer} centralize=both".',
            )
        settings |= {"base": optimizer} if addition == "gc" else {}
        settings |= ADDITIONS[addition]
    return settings


def _with_equal_compute(arms: Sequence[ArmPlan], base: RunConfig) -> list[ArmPlan]:
    configs = [arm.config(base) for arm in arms]
    cost = [config.epochs * passes_per_step(config) for config in configs]
    most = max(cost)
    found: list[ArmPlan] = []
    for arm, config, own in zip(arms, configs, cost, strict=True):
        found.append(arm)
        if most > _SAME_COST * own:
            epochs = round(config.epochs * most / own)
            name = f"{arm.name}-{most / own:.3g}x"
            found.append(replace(arm, name=name, settings={**arm.settings, "epochs": epochs}))
    if len(found) == len(arms):
        raise InputError(
            "--equal-compute has nothing to add: all arms compute as many gradients.",
            "Name a plain optimizer (adam, adamw or sgd) and a sharpness-aware one.",
        )
    return found

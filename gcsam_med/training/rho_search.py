"""`--rho auto`: choose the radius of the ascent on the validation split, by short runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gcsam_med.config import RunConfig
from gcsam_med.errors import InputError
from gcsam_med.files import write_durably
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.runs import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

FACTORS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Radii that are tried, in units of the method's own."""

SHARE = 0.2
"""Part of the epochs that each of them trains for."""


@dataclass(frozen=True)
class RhoSearch:
    """What the short runs showed."""

    metric: str  #: Validation metric that chose; higher is better.
    values: dict[float, float]  #: Best value of the metric for each radius.

    @property
    def chosen(self) -> float:
        """The radius with the best value; the smallest of equals."""
        return min(self.values, key=lambda rho: (-self.values[rho], rho))


def find_rho(
    config: RunConfig, folder: Path, train: Callable[[RunConfig, Path], tuple[str, float]]
) -> RhoSearch:
    """Train shortly with several radii; what is in `folder` from before is used again.

    All runs start from the same weights and see the same batches. The differences between neighbouring radii
    are often within the noise of the seed: the choice is a sensible radius, not evidence for it.

    Parameters
    ----------
    config : RunConfig
        The run to come.
    folder : Path
        Where the short runs and ``search.json`` go.
    train : callable
        Trains, or goes on training, a configuration in a folder; returns metric and best value.

    Returns
    -------
    RhoSearch
        Every radius with its value.

    Raises
    ------
    InputError
        If the optimizer does not ascend, or `folder` holds runs of other settings.
    """
    method = OPTIMIZERS[config.optimizer]
    if method.ascent is None:
        raise InputError(f"'{config.optimizer}' does not ascend, so it has no rho.", "Leave --rho out.")
    epochs = max(1, round(SHARE * config.epochs))
    metric, values = "", {}
    for factor in FACTORS:
        rho = round(factor * method.rho, 6)
        short = config.model_copy(update={"rho": rho, "epochs": epochs, "patience": 0})
        metric, values[rho] = train(short, folder / f"rho-{rho:g}")
    search = RhoSearch(metric, values)
    content = {"metric": metric, "values": {f"{r:g}": v for r, v in values.items()}, "chosen": search.chosen}
    write_durably(folder / "search.json", (json.dumps(content, indent=2) + "\n").encode())
    return search


def same_settings(run: RunFolder, config: RunConfig) -> bool:
    """Whether a run was made with these settings, as far as they were given."""
    given = config.model_dump(exclude={"data_root", "device", "workers"})
    made = run.config().model_dump()
    return all(made[name] == value for name, value in given.items() if value is not None)

"""The methods by name: one row each, from which the rest of the project reads what it asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gcsam_med.optim.options import check_options
from gcsam_med.optim.relatives import GSAM, FriendlySAM, LookSAM, MomentumSAM
from gcsam_med.optim.sharpness import Sharpness


@dataclass(frozen=True)
class Method:
    """One row of the table of methods."""

    summary: str  #: What it does, in a sentence.
    equation: str  #: The perturbation or the descent gradient; g is the gradient, C centres it.
    paper: str  #: Where it comes from.
    #: The class that changes the step of the base optimizer; None for an optimizer alone.
    ascent: Callable[..., Sharpness] | None = None
    options: tuple[str, ...] = ()  #: Names in `OPTIONS` that it takes; each has its range there.
    presets: Mapping[str, Any] = field(default_factory=dict)  #: Values of options that make the method.
    rho: float = 0.0  #: Radius where none is given.
    extra_passes: int = 0  #: Forward-backward passes that an ascent costs.
    copies: int = 0  #: Copies of the weights in memory beyond weights, gradients and the optimizer's state.

    @property
    def ascends(self) -> bool:
        """Whether it has a radius: gradient centralization alone works on the descent only."""
        return "rho" in self.options

    def passes(self, every: int | None = None, ascent_fraction: float = 1.0) -> float:
        """Forward-backward passes over the batch that a step costs on average; `every`: the method's own."""
        every = self.presets.get("every", 1) if every is None else every
        return 1.0 + self.extra_passes * ascent_fraction / every


BASES: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
"""The optimizers that take the step."""

COMMON = ("rho", "centralize", "norm", "conv_only", "every", "ascent_fraction")

OPTIMIZERS: dict[str, Method] = {
    "adam": Method(
        summary="Adam: momentum, and a step size for each weight.",
        equation="w - lr m / (sqrt(v) + eps)",
        paper="Kingma and Ba, ICLR 2015, arXiv 1412.6980",
    ),
    "adamw": Method(
        summary="Adam with weight decay apart from the gradient.",
        equation="w (1 - lr decay) - lr m / (sqrt(v) + eps)",
        paper="Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101",
    ),
    "sgd": Method(
        summary="Stochastic gradient descent with momentum.",
        equation="w - lr v, v = momentum v + g",
        paper="Sutskever et al., ICML 2013",
    ),
    "gc": Method(
        summary="A plain optimizer with centralized gradients, without an ascent.",
        equation="C(g) instead of g",
        paper="Yong et al., ECCV 2020, arXiv 2004.01461",
        ascent=Sharpness,
        options=("conv_only",),
        presets={"centralize": "both"},
    ),
    "sam": Method(
        summary="Descend by the gradient at the worst weights within rho.",
        equation="eps = rho g / |g|",
        paper="Foret et al., ICLR 2021, arXiv 2010.01412",
        ascent=Sharpness,
        options=COMMON,
        rho=0.05,
        extra_passes=1,
        copies=1,
    ),
    "gcsam": Method(
        summary="SAM that ascends along the centralized gradient.",
        equation="eps = rho C(g) / |C(g)|",
        paper="Hassan et al., IEEE Access 2025, arXiv 2501.11584",
        ascent=Sharpness,
        options=COMMON,
        presets={"centralize": "ascent"},
        rho=0.05,
        extra_passes=1,
        copies=1,
    ),
    "asam": Method(
        summary="SAM whose radius grows with the size of each weight.",
        equation="eps = rho T^2 g / |T g|, T = |w| + eta",
        paper="Kwon et al., ICML 2021, arXiv 2102.11600",
        ascent=Sharpness,
        options=(*COMMON, "eta", "exempt_vectors"),
        presets={"adaptive": True},
        rho=0.5,
        extra_passes=1,
        copies=1,
    ),
    "gsam": Method(
        summary="SAM that also narrows the gap between the loss and the worst loss nearby.",
        equation="g_s - alpha (g - <g, g_s> g_s / |g_s|^2)",
        paper="Zhuang et al., ICLR 2022, arXiv 2203.08065",
        ascent=GSAM,
        options=(*COMMON, "alpha"),
        rho=0.05,
        extra_passes=1,
        copies=2,
    ),
    "looksam": Method(
        summary="SAM on each fifth step, its lasting part reused in between.",
        equation="g + alpha |g| g_v / |g_v|",
        paper="Liu et al., CVPR 2022, arXiv 2203.02714",
        ascent=LookSAM,
        options=(*COMMON, "alpha"),
        presets={"every": 5},
        rho=0.05,
        extra_passes=1,
        copies=2,
    ),
    "friendly-sam": Method(
        summary="SAM along what is special about the batch: without the average gradient.",
        equation="eps = rho d / |d|, d = g - sigma m, m = decay m + (1 - decay) g",
        paper="Li et al., CVPR 2024, arXiv 2403.12350",
        ascent=FriendlySAM,
        options=(*COMMON, "sigma", "decay"),
        rho=0.05,
        extra_passes=1,
        copies=2,
    ),
    "msam": Method(
        summary="Ascend along the momentum, which costs no pass.",
        equation="eps = -rho v / |v|",
        paper="Becker et al., 2024, arXiv 2401.12033",
        ascent=MomentumSAM,
        options=("rho", "centralize", "norm", "conv_only", "every"),
        rho=0.5,
        copies=1,
    ),
}
"""Name to method. Those without an ascent take the step themselves; for the others one of `BASES` does."""


def build(
    name: str,
    params: Iterable[Tensor] | Iterable[dict[str, Any]],
    *,
    base: str = "adam",
    rho: float | None = None,
    base_options: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Optimizer, Sharpness | None]:
    """Build the optimizer that takes the step and the ascent, if the method has one.

    Parameters
    ----------
    name : str
        A name in `OPTIMIZERS`.
    params : iterable of Tensor or of dict
        Parameters or groups, as for any torch optimizer; a group may bring its own ``"rho"``.
    base : str
        A name in `BASES`; ignored where `name` is one itself.
    rho : float, optional
        Radius; the method's own where left out.
    base_options : dict, optional
        Of the optimizer: lr, weight_decay, fused, and so on. SGD has momentum 0.9 unless told otherwise.
    **options
        Of the ascent: those that the row of the method names.

    Returns
    -------
    optimizer : Optimizer
        A plain torch optimizer.
    sharpness : Sharpness or None
        The ascent over the optimizer's parameters.

    Raises
    ------
    ValueError
        For a name, base or option that is not known, and for a value out of its range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, but is {name!r}")
    method = OPTIMIZERS[name]
    check_taken(name, options)
    base = name if method.ascent is None else base
    if base not in BASES:
        raise ValueError(f"base must be one of {', '.join(BASES)}, but is {base!r}")
    presets = {"momentum": 0.9} if base == "sgd" else {}
    optimizer = BASES[base](params, **(presets | (base_options or {})))
    if method.ascent is None:
        return optimizer, None
    radius = method.rho if rho is None or not method.ascends else rho
    return optimizer, method.ascent(optimizer, radius, **(dict(method.presets) | options))


def check_taken(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a method does not take, or whose values are out of range.

    Raises
    ------
    ValueError
        Names the options that the method does take, or the range.
    """
    method = OPTIMIZERS[name]
    unknown = [option for option in options if option not in method.options]
    if unknown and method.ascent is None:
        raise ValueError(f"{name} does not ascend, so it takes no {', '.join(unknown)}")
    if unknown:
        raise ValueError(f"{name} takes no {', '.join(unknown)}; it takes {', '.join(method.options)}")
    check_options(**options)


# --- How rho changes over a run

RHO_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
"""From progress in [0, 1] to the share of the way from the last rho to the first: 1 at the start."""


def rho_factor(name: str, progress: float, end: float = 0.0) -> float:
    """What to multiply rho by at this point of a run; set `Sharpness.rho_factor` to it before each step.

    Parameters
    ----------
    name : str
        A name in `RHO_SCHEDULES`.
    progress : float
        Steps done over steps in all; held within [0, 1].
    end : float, >= 0
        The factor at the end.

    Returns
    -------
    float
        1 at the start, `end` at the end of a linear or cosine schedule.

    Raises
    ------
    ValueError
        For a name that is not in the table.

    Examples
    --------
    >>> [round(rho_factor("cosine", t, end=0.2), 3) for t in (0, 0.5, 1)]
    [1.0, 0.6, 0.2]
    """
    if name not in RHO_SCHEDULES:
        raise ValueError(f"rho schedule must be one of {', '.join(RHO_SCHEDULES)}, but is {name!r}")
    return end + (1.0 - end) * RHO_SCHEDULES[name](min(1.0, max(0.0, progress)))

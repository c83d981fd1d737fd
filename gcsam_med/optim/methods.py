"""The methods by name, each with its cost, its source, and how to build it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gcsam_med.optim.gsam import GSAM
from gcsam_med.optim.looksam import LookSAM
from gcsam_med.optim.msam import MomentumSAM
from gcsam_med.optim.sharpness import Sharpness


@dataclass(frozen=True)
class Method:
    """One line of the table of methods."""

    summary: str  #: What it does, in a sentence.
    passes: str  #: Forward-backward passes a step.
    copies: int  #: Copies of the weights in memory beyond weights, gradients and the optimizer's state.
    equation: str  #: The perturbation or the descent gradient; g is the gradient, C centres it.
    paper: str  #: Where it comes from.
    perturbation: Callable[..., Sharpness] | None = None  #: The ascent; None for an optimizer alone.
    rho: float = 0.0  #: Radius where none is given.
    options: dict[str, Any] = field(default_factory=dict)  #: What the method fixes or presets of the ascent.


BASES: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
"""The optimizers that take the step."""

OPTIMIZERS: dict[str, Method] = {
    "adam": Method(
        summary="Adam: momentum, and a step size for each weight.",
        passes="1",
        copies=0,
        equation="w - lr m / (sqrt(v) + eps)",
        paper="Kingma and Ba, ICLR 2015, arXiv 1412.6980",
    ),
    "adamw": Method(
        summary="Adam with weight decay apart from the gradient.",
        passes="1",
        copies=0,
        equation="w (1 - lr decay) - lr m / (sqrt(v) + eps)",
        paper="Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101",
    ),
    "sgd": Method(
        summary="Stochastic gradient descent with momentum.",
        passes="1",
        copies=0,
        equation="w - lr v, v = momentum v + g",
        paper="Sutskever et al., ICML 2013",
    ),
    "sam": Method(
        summary="Descend by the gradient at the worst weights within rho.",
        passes="2",
        copies=1,
        equation="eps = rho g / |g|",
        paper="Foret et al., ICLR 2021, arXiv 2010.01412",
        perturbation=Sharpness,
        rho=0.05,
    ),
    "gcsam": Method(
        summary="SAM that ascends along the centralized gradient.",
        passes="2",
        copies=1,
        equation="eps = rho C(g) / |C(g)|",
        paper="Hassan et al., IEEE Access 2025, arXiv 2501.11584",
        perturbation=Sharpness,
        rho=0.05,
        options={"centralize": "ascent"},
    ),
    "asam": Method(
        summary="SAM whose radius grows with the size of each weight.",
        passes="2",
        copies=1,
        equation="eps = rho T^2 g / |T g|, T = |w| + eta",
        paper="Kwon et al., ICML 2021, arXiv 2102.11600",
        perturbation=Sharpness,
        rho=0.5,
        options={"adaptive": True},
    ),
    "gsam": Method(
        summary="SAM that also narrows the gap between the loss and the worst loss nearby.",
        passes="2",
        copies=2,
        equation="g_s - alpha (g - <g, g_s> g_s / |g_s|^2)",
        paper="Zhuang et al., ICLR 2022, arXiv 2203.08065",
        perturbation=GSAM,
        rho=0.05,
    ),
    "looksam": Method(
        summary="SAM on each fifth step, its lasting part reused in between.",
        passes="1.2",
        copies=2,
        equation="g + alpha |g| g_v / |g_v|",
        paper="Liu et al., CVPR 2022, arXiv 2203.02714",
        perturbation=LookSAM,
        rho=0.05,
    ),
    "msam": Method(
        summary="Ascend along the momentum, which costs no pass.",
        passes="1",
        copies=1,
        equation="eps = -rho v / |v|",
        paper="Becker et al., 2024, arXiv 2401.12033",
        perturbation=MomentumSAM,
        rho=0.5,
    ),
}
"""Name to method. The first three take the step themselves; the others ascend and one of `BASES` steps."""


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
        Of the ascent: see `Sharpness`, and `alpha` of LookSAM and GSAM.

    Returns
    -------
    optimizer : Optimizer
        A plain torch optimizer.
    sharpness : Sharpness or None
        The ascent over the optimizer's parameters.

    Raises
    ------
    ValueError
        For a name, base or option that is not known.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, but is {name!r}")
    method = OPTIMIZERS[name]
    base = name if method.perturbation is None else base
    if base not in BASES:
        raise ValueError(f"base must be one of {', '.join(BASES)}, but is {base!r}")
    presets = {"momentum": 0.9} if base == "sgd" else {}
    optimizer = BASES[base](params, **(presets | (base_options or {})))
    if method.perturbation is None:
        if options:
            raise ValueError(f"{name} does not ascend, so it takes no {', '.join(options)}")
        return optimizer, None
    return optimizer, method.perturbation(
        optimizer, method.rho if rho is None else rho, **(method.options | options)
    )

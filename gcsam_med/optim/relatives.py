"""Relatives of SAM that keep something between passes or steps: GSAM, LookSAM, Momentum-SAM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gcsam_med.optim.ascent import Copies, dot, ratio
from gcsam_med.optim.options import check_options
from gcsam_med.optim.sharpness import Sharpness

Params = Optimizer | Iterable[Tensor] | Iterable[dict[str, Any]]


class GSAM(Sharpness):
    r"""SAM whose descent leaves out what only lowers the loss at the unperturbed weights.

    With g before and :math:`g_s` after the ascent the descent uses

    .. math::
        g_s - \alpha \, g_\perp, \qquad
        g_\perp = g - \frac{\langle g, g_s \rangle}{\lVert g_s \rVert^2} \, g_s

    Costs two passes, and one more copy of the weights in memory.

    Parameters
    ----------
    params : Optimizer, or iterable of Tensor or of dict
        As for `Sharpness`.
    rho : float
        Radius of the ascent.
    alpha : float
        Weight of the surrogate gap; zero is SAM.
    **options
        Those of `Sharpness`.

    References
    ----------
    Zhuang et al., "Surrogate Gap Minimization Improves Sharpness-Aware Training", ICLR 2022, arXiv
    2203.08065, algorithm 1.
    """

    local_first_pass = False
    """Both gradients join in the descent: they must be the same on every worker."""

    def __init__(self, params: Params, rho: float = 0.05, *, alpha: float = 0.4, **options: Any) -> None:
        check_options(alpha=alpha)
        super().__init__(params, rho, **options)
        self.alpha = alpha
        self._before = Copies()
        self._ascended: list[Tensor] = []

    def ascend(self) -> None:
        """Ascend, and keep the gradient for the decomposition."""
        super().ascend()
        self._ascended = _keep_gradients(self, self._before)

    @torch.no_grad()
    def finish_gradients(self) -> None:
        """Take the perpendicular part of the first gradient from the second."""
        if self._ascended:
            after, before = _gradients(self._ascended), [self._before.of(p) for p in self._ascended]
            factor = 1 + self.alpha * ratio(dot(before, after), dot(after, after))
            for g_s, g in zip(after, before, strict=True):
                g_s.mul_(factor.to(g_s.device)).sub_(g, alpha=self.alpha)
            self._ascended = []
        super().finish_gradients()


class LookSAM(Sharpness):
    r"""SAM's gradient on each k-th step, and its lasting part on the others.

    On a step that ascends, with g before and :math:`g_s` after the ascent,

    .. math:: g_v = g_s - \frac{\langle g, g_s \rangle}{\lVert g \rVert^2} \, g

    is kept, and the descent uses :math:`g_s`. On a plain step the descent uses

    .. math:: g + \alpha \, \frac{\lVert g \rVert}{\lVert g_v \rVert} \, g_v

    Costs 1 + 1/every passes, and one more copy of the weights in memory. After an ascent with a gradient that
    was not finite nothing is kept, so that the steps up to the next ascent are plain ones.

    Parameters
    ----------
    params : Optimizer, or iterable of Tensor or of dict
        As for `Sharpness`.
    rho : float
        Radius of the ascent.
    every : int
        Ascend on each k-th step (k in the paper).
    alpha : float
        Weight of the reused part.
    **options
        Those of `Sharpness`.

    References
    ----------
    Liu, Mai, Chen, Hsieh, You, "Towards Efficient and Scalable Sharpness-Aware Minimization", CVPR 2022,
    arXiv 2203.02714, algorithm 1.
    """

    local_first_pass = False
    """The kept part joins both gradients: they must be the same on every worker."""

    def __init__(
        self, params: Params, rho: float = 0.05, *, every: int = 5, alpha: float = 0.7, **options: Any
    ) -> None:
        check_options(alpha=alpha)
        super().__init__(params, rho, every=every, **options)
        self.alpha = alpha
        self._kept = Copies()
        self._length: Tensor | None = None  # of what is kept
        self._ascended: list[Tensor] = []

    def ascend(self) -> None:
        """Ascend, and keep the gradient for the decomposition."""
        super().ascend()
        self._ascended = _keep_gradients(self, self._kept)

    @torch.no_grad()
    def finish_gradients(self) -> None:
        """Decompose the gradient after an ascent; add the kept part on a plain step."""
        if self._ascended:
            self._decompose(self._ascended)
        elif self._length is not None:
            self._reuse([p for p in self.parameters() if p.grad is not None and p in self._kept.tensors])
        self._ascended = []
        super().finish_gradients()

    def _decompose(self, parameters: list[Tensor]) -> None:
        after, kept = _gradients(parameters), [self._kept.of(p) for p in parameters]
        share = ratio(dot(kept, after), dot(kept, kept))
        for g_s, g in zip(after, kept, strict=True):
            g.mul_(-share.to(g.device)).add_(g_s)
        square = dot(kept, kept)
        finite = torch.isfinite(square)
        for g_v in kept:
            g_v.copy_(torch.where(finite.to(g_v.device), g_v, 0.0))
        length = torch.where(finite, square, 0.0).sqrt()
        self._length = length if self._length is None else self._length.copy_(length)

    def _reuse(self, parameters: list[Tensor]) -> None:
        if self._length is None or not parameters:
            return
        now = _gradients(parameters)
        factor = self.alpha * ratio(dot(now, now).sqrt(), self._length.to(now[0].device))
        for g, parameter in zip(now, parameters, strict=True):
            g.addcmul_(self._kept.of(parameter), factor.to(g.device, g.dtype))

    def state_dict(self) -> dict[str, Any]:
        """As `Sharpness`, and the kept part by number of the parameter."""
        state = super().state_dict()
        if self._length is not None:
            state |= {"kept": self._kept.state_dict(self.parameters()), "length": self._length}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state made by `state_dict`."""
        super().load_state_dict(state)
        self._length, self._ascended = None, []
        self._kept.load_state_dict(state.get("kept", {}), self.parameters())
        if "length" in state:
            self._length = state["length"].to(self.parameters()[0].device, copy=True)


class MomentumSAM(Sharpness):
    r"""Perturb against the momentum of the optimizer, before the only pass of the step.

    .. math:: \epsilon = - \rho \, \frac{v}{\lVert v \rVert_2}

    v is the momentum buffer of SGD or the first moment of Adam. The sign is the paper's: on along the way
    that the last steps went. The first step, which has no momentum yet, is a plain one.

    Costs one pass.

    Parameters
    ----------
    optimizer : Optimizer
        SGD with momentum, or of Adam's family.
    rho : float
        Radius; the authors' range is some ten times that of SAM.
    **options
        Those of `Sharpness`; v is centred where a gradient would be.

    Raises
    ------
    ValueError
        When the optimizer keeps no momentum.

    References
    ----------
    Becker, Altrock, Risse, "Momentum-SAM", 2024, arXiv 2401.12033.
    """

    sign = -1.0
    needs_first_pass = False
    """The momentum is there already."""

    def __init__(self, optimizer: Optimizer, rho: float = 0.5, **options: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ValueError(
                f"MomentumSAM needs the optimizer, whose momentum it ascends by, but got {type(optimizer)}"
            )
        for group in optimizer.param_groups:
            if "betas" not in group and not group.get("momentum"):
                raise ValueError(
                    f"MomentumSAM needs momentum, but {type(optimizer).__name__} has none: set momentum=0.9"
                )
        super().__init__(optimizer, rho, **options)
        self._optimizer = optimizer

    def source(self, parameter: Tensor) -> Tensor | None:
        """The momentum, where there is one."""
        state = self._optimizer.state.get(parameter, {})
        return state.get("momentum_buffer", state.get("exp_avg"))

    def _no_direction(self) -> None:
        """The first step has no momentum."""


def _keep_gradients(sharpness: Sharpness, copies: Copies) -> list[Tensor]:
    """Copy the gradients of the perturbed parameters, which are returned."""
    moved = sharpness.moved
    for parameter in moved:
        if parameter.grad is not None:
            copies.of(parameter).copy_(parameter.grad)
    return moved


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    """The gradients of parameters; zeros, where one vanished between two passes."""
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]

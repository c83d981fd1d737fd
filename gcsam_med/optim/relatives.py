"""Relatives of SAM that keep something between passes or steps: GSAM, LookSAM, Friendly SAM, Momentum-SAM."""

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


class _KeepsGradient(Sharpness):
    """Keeps the gradient of the first pass until that of the second has come."""

    local_first_pass = False
    """Both gradients join in the descent: they must be the same on every worker."""

    def __init__(self, params: Params, rho: float, *, alpha: float, **options: Any) -> None:
        check_options(alpha=alpha)
        super().__init__(params, rho, **options)
        self.alpha = alpha
        self._kept = Copies()
        self._ascended: list[Tensor] = []

    def ascend(self) -> None:
        """Ascend, and keep the gradient."""
        super().ascend()
        self._ascended = self.moved
        for parameter in self._ascended:
            if parameter.grad is not None:
                self._kept.of(parameter).copy_(parameter.grad)

    def _gradients(self, parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What is kept of each, and its gradient; zeros, where that vanished between the passes."""
        kept = [self._kept.of(parameter) for parameter in parameters]
        return kept, [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


class GSAM(_KeepsGradient):
    r"""SAM whose descent leaves out what only lowers the loss at the unperturbed weights.

    With g before and :math:`g_s` after the ascent the descent uses

    .. math::
        g_s - \alpha \, g_\perp, \qquad
        g_\perp = g - \frac{\langle g, g_s \rangle}{\lVert g_s \rVert^2} \, g_s

    Costs two passes, and one more copy of the weights in memory.

    Parameters
    ----------
    params, rho, **options
        As for `Sharpness`.
    alpha : float
        Weight of the surrogate gap; zero is SAM.

    References
    ----------
    Zhuang et al., "Surrogate Gap Minimization Improves Sharpness-Aware Training", ICLR 2022, arXiv
    2203.08065, algorithm 1.
    """

    def __init__(self, params: Params, rho: float = 0.05, *, alpha: float = 0.4, **options: Any) -> None:
        super().__init__(params, rho, alpha=alpha, **options)

    @torch.no_grad()
    def finish_gradients(self) -> None:
        """Take the perpendicular part of the first gradient from the second."""
        if self._ascended:
            before, after = self._gradients(self._ascended)
            factor = 1 + self.alpha * ratio(dot(before, after), dot(after, after))
            for g_s, g in zip(after, before, strict=True):
                g_s.mul_(factor.to(g_s.device)).sub_(g, alpha=self.alpha)
            self._ascended = []
        super().finish_gradients()


class LookSAM(_KeepsGradient):
    r"""SAM's gradient on each k-th step, and its lasting part on the others.

    On a step that ascends, with g before and :math:`g_s` after the ascent,

    .. math:: g_v = g_s - \frac{\langle g, g_s \rangle}{\lVert g \rVert^2} \, g

    is kept, and the descent uses :math:`g_s`. On a plain step the descent uses

    .. math:: g + \alpha \, \frac{\lVert g \rVert}{\lVert g_v \rVert} \, g_v

    Costs 1 + 1/every passes, and one more copy of the weights in memory. After an ascent with a gradient that
    was not finite nothing is kept, so that the steps up to the next ascent are plain ones.

    Parameters
    ----------
    params, rho, **options
        As for `Sharpness`.
    every : int
        Ascend on each k-th step (k in the paper).
    alpha : float
        Weight of the reused part.

    References
    ----------
    Liu, Mai, Chen, Hsieh, You, "Towards Efficient and Scalable Sharpness-Aware Minimization", CVPR 2022,
    arXiv 2203.02714, algorithm 1.
    """

    def __init__(
        self, params: Params, rho: float = 0.05, *, every: int = 5, alpha: float = 0.7, **options: Any
    ) -> None:
        super().__init__(params, rho, every=every, alpha=alpha, **options)
        self._length: Tensor | None = None  # of what is kept

    @torch.no_grad()
    def finish_gradients(self) -> None:
        """Decompose the gradient after an ascent; add the kept part on a plain step."""
        if self._ascended:
            self._decompose()
        elif self._length is not None:
            self._reuse(self._length)
        self._ascended = []
        super().finish_gradients()

    def _decompose(self) -> None:
        kept, after = self._gradients(self._ascended)
        share = ratio(dot(kept, after), dot(kept, kept))
        for g_s, g in zip(after, kept, strict=True):
            g.mul_(-share.to(g.device)).add_(g_s)
        square = dot(kept, kept)
        finite = torch.isfinite(square)
        for g_v in kept:
            g_v.copy_(torch.where(finite.to(g_v.device), g_v, 0.0))
        length = torch.where(finite, square, 0.0).sqrt()
        self._length = length if self._length is None else self._length.copy_(length)

    def _reuse(self, length: Tensor) -> None:
        known = [p for p in self.parameters() if p.grad is not None and p in self._kept.tensors]
        if not known:
            return
        kept, now = self._gradients(known)
        factor = self.alpha * ratio(dot(now, now).sqrt(), length.to(now[0].device))
        for g, g_v in zip(now, kept, strict=True):
            g.addcmul_(g_v, factor.to(g.device, g.dtype))

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


class FriendlySAM(Sharpness):
    r"""SAM that takes an estimate of the full gradient out of the gradient of the ascent.

    .. math::
        m_t = \lambda \, m_{t-1} + (1 - \lambda) \, g_t, \qquad
        \epsilon = \rho \, \frac{g_t - \sigma m_t}{\lVert g_t - \sigma m_t \rVert_2}

    The average m holds gradients of the unscaled loss: each is divided by `loss_scale`, which `training_step`
    sets from the `GradScaler` on every step, on the device. A step written by hand with a scaled loss sets
    it too: ``sharpness.loss_scale = scaler.scale(torch.ones((), device=device))``. A gradient that is not
    finite leaves the average as it was.

    Costs two passes, and one more copy of the weights in memory.

    Parameters
    ----------
    params, rho, **options
        As for `Sharpness`.
    sigma : float
        Share of the average that is taken away; zero is SAM.
    decay : float
        Lambda of the paper: how slowly the average forgets.

    References
    ----------
    Li, Zhou, He, Cheng, Huang, "Friendly Sharpness-Aware Minimization", CVPR 2024, arXiv 2403.12350,
    algorithm 1.
    """

    local_first_pass = False
    """The average is part of the run's state: it must be the same on every worker."""

    def __init__(
        self, params: Params, rho: float = 0.05, *, sigma: float = 1.0, decay: float = 0.9, **options: Any
    ) -> None:
        check_options(sigma=sigma, decay=decay)
        super().__init__(params, rho, **options)
        self.sigma, self.decay = sigma, decay
        self._average = Copies()

    def direction(self, parameter: Tensor) -> Tensor | None:
        """The unscaled gradient less the average that includes it."""
        gradient = self._unscaled(parameter)
        return gradient - self.sigma * self._average_with(gradient, parameter)

    @torch.no_grad()
    def ascend(self) -> None:
        """Ascend, and take the gradient into the average."""
        super().ascend()
        for parameter in self.moved:
            gradient, average = self._unscaled(parameter), self._average.of(parameter)
            finite = torch.isfinite(torch.as_tensor(self.norm)).to(parameter.device)
            average.copy_(torch.where(finite, self._average_with(gradient, parameter), average))

    def _unscaled(self, parameter: Tensor) -> Tensor:
        gradient = torch.as_tensor(parameter.grad)
        scale = self.loss_scale
        return gradient / (scale.to(gradient.device) if isinstance(scale, Tensor) else scale)

    def _average_with(self, gradient: Tensor, parameter: Tensor) -> Tensor:
        return self._average.of(parameter) * self.decay + gradient * (1 - self.decay)

    def state_dict(self) -> dict[str, Any]:
        """As `Sharpness`, and the average by number of the parameter."""
        return super().state_dict() | {"average": self._average.state_dict(self.parameters())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state made by `state_dict`."""
        super().load_state_dict(state)
        self._average.load_state_dict(state["average"], self.parameters())


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

"""Friendly SAM: ascend along what is special about the batch, without the gradient that all batches share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gcsam_med.optim.ascent import Copies
from gcsam_med.optim.options import check_options
from gcsam_med.optim.sharpness import Sharpness


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
    params : Optimizer, or iterable of Tensor or of dict
        As for `Sharpness`.
    rho : float
        Radius of the ascent.
    sigma : float
        Share of the average that is taken away; zero is SAM.
    decay : float
        Lambda of the paper: how slowly the average forgets.
    **options
        Those of `Sharpness`.

    References
    ----------
    Li, Zhou, He, Cheng, Huang, "Friendly Sharpness-Aware Minimization", CVPR 2024, arXiv 2403.12350,
    algorithm 1.
    """

    local_first_pass = False
    """The average is part of the run's state: it must be the same on every worker."""

    def __init__(
        self,
        params: Optimizer | Iterable[Tensor] | Iterable[dict[str, Any]],
        rho: float = 0.05,
        *,
        sigma: float = 1.0,
        decay: float = 0.9,
        **options: Any,
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

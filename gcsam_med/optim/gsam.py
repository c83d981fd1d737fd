"""GSAM: the descent also narrows the gap between the loss and the worst loss nearby."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gcsam_med.optim.memory import Memory, gradients, inner
from gcsam_med.optim.sharpness import Sharpness
from gcsam_med.optim.sums import ratio


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
    rho : float, >= 0
        Radius of the ascent.
    alpha : float, >= 0
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

    _in_place = False

    def __init__(
        self,
        params: Optimizer | Iterable[Tensor] | Iterable[dict[str, Any]],
        rho: float = 0.05,
        *,
        alpha: float = 0.4,
        **options: Any,
    ) -> None:
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0, but is {alpha}")
        super().__init__(params, rho, **options)
        self.alpha = alpha
        self._before = Memory()
        self._ascended = False

    def ascend(self) -> None:
        """Ascend, and keep the gradient for the decomposition."""
        super().ascend()
        if self._perturbed and self._walk is not None:
            with torch.no_grad():
                self._before.keep_gradients(self._walk.parameters)
            self._ascended = True

    @torch.no_grad()
    def finish_gradients(self) -> None:
        """Take the perpendicular part of the first gradient from the second."""
        if self._ascended and self._walk is not None:
            blocks, parameters = self._walk.scratch_blocks, self._walk.parameters
            after, before = gradients(parameters), self._before.beside(parameters)
            share = ratio(inner(blocks, before, after), inner(blocks, after, after))
            for block in blocks:
                block.load(after)
                block.scale((1 + self.alpha * share).to(block.kind.device))
                block.store(after)
            torch._foreach_add_(after, before, alpha=-self.alpha)
            self._ascended = False
        super().finish_gradients()

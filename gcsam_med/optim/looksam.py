"""LookSAM: ascend on each k-th step, and on the steps between reuse what that ascent changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gcsam_med.optim.memory import Memory, gradients, inner
from gcsam_med.optim.sharpness import Sharpness
from gcsam_med.optim.sums import ratio, total


class LookSAM(Sharpness):
    r"""SAM's gradient on each k-th step, and its lasting part on the others.

    On a step that ascends, with g before and :math:`g_s` after the ascent,

    .. math:: g_v = g_s - \frac{\langle g, g_s \rangle}{\lVert g \rVert^2} \, g

    is kept, and the descent uses :math:`g_s`. On a plain step the descent uses

    .. math:: g + \alpha \, \frac{\lVert g \rVert}{\lVert g_v \rVert} \, g_v

    Costs 1 + 1/every passes, and one more copy of the weights in memory.

    Parameters
    ----------
    params : Optimizer, or iterable of Tensor or of dict
        As for `Sharpness`.
    rho : float, >= 0
        Radius of the ascent.
    every : int, >= 1
        Ascend on each k-th step (k in the paper).
    alpha : float, >= 0
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

    _in_place = False

    def __init__(
        self,
        params: Optimizer | Iterable[Tensor] | Iterable[dict[str, Any]],
        rho: float = 0.05,
        *,
        every: int = 5,
        alpha: float = 0.7,
        **options: Any,
    ) -> None:
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0, but is {alpha}")
        super().__init__(params, rho, every=every, **options)
        self.alpha = alpha
        self._kept = Memory()
        self._length: Tensor | None = None  # of what is kept; None while nothing usable is
        self._ascended = False  # since the last step
        self._fresh = False  # what is kept comes from the last step

    @property
    def needs_first_pass(self) -> bool:
        """True also when a skipped step has left nothing to reuse."""
        due = self._length is None or self.steps % self.every == 0
        return due and any(self._rho(group) > 0 for group in self.param_groups)

    def ascend(self) -> None:
        """Ascend, and keep the gradient for the decomposition."""
        super().ascend()
        if self._perturbed and self._walk is not None:
            with torch.no_grad():
                self._kept.keep_gradients(self._walk.parameters)
            self._ascended = True

    @torch.no_grad()
    def finish_gradients(self) -> None:
        """Decompose the gradient after an ascent; add the kept part on a plain step."""
        self._fresh = self._ascended
        if self._ascended:
            self._decompose()
        elif self._length is not None:
            self._reuse(self._length)
        self._ascended = False
        super().finish_gradients()

    def forget(self) -> None:
        """Let the next step ascend, if the one skipped has spoilt what was kept."""
        if self._fresh:
            self._length = None

    def _decompose(self) -> None:
        if self._walk is None:
            return
        blocks, parameters = self._walk.scratch_blocks, self._walk.parameters
        after, kept = gradients(parameters), self._kept.beside(parameters)
        share = ratio(inner(blocks, kept, after), inner(blocks, kept, kept))
        squares = []
        for block in blocks:
            block.load(kept)
            block.scale(-share.to(block.kind.device))
            block.add(after)
            block.store(kept)
            squares.append(block.inner(kept))
        self._length = total(squares).sqrt()

    def _reuse(self, length: Tensor) -> None:
        ascending = self._ascending().only(self._kept.tensors)
        if not ascending.parameters:
            return
        blocks = self._walk_over(ascending).scratch_blocks
        now, kept = ascending.directions, self._kept.beside(ascending.parameters)
        factor = self.alpha * ratio(inner(blocks, now, now).sqrt(), length)
        for block in blocks:
            block.load(kept)
            block.scale(factor.to(block.kind.device))
            block.add_to(now)

    def state_dict(self) -> dict[str, Any]:
        """As `Sharpness`, and the kept part by number of the parameter."""
        state = super().state_dict()
        if self._length is not None:
            kept = {
                n: self._kept.tensors[p] for n, p in enumerate(self._parameters()) if p in self._kept.tensors
            }
            state |= {"kept": kept, "length": self._length}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state made by `state_dict`."""
        super().load_state_dict(state)
        self._kept, self._length, self._ascended, self._fresh = Memory(), None, False, False
        if "length" in state:
            parameters = self._parameters()
            for number, tensor in state["kept"].items():
                self._kept.beside([parameters[number]])[0].copy_(tensor)
            self._length = state["length"].to(parameters[0].device, copy=True)

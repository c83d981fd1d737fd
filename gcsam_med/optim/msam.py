"""Momentum-SAM: ascend along the optimizer's momentum, which costs no pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from gcsam_med.optim.sharpness import Sharpness


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
    rho : float, >= 0
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

    _sign = -1.0

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

    @property
    def needs_first_pass(self) -> bool:
        """Never: the momentum is there already."""
        return False

    @property
    def ascends_next_step(self) -> bool:
        """On each k-th step, if `every` says so."""
        return self.steps % self.every == 0 and any(self._rho(group) > 0 for group in self.param_groups)

    def _direction(self, parameter: Tensor) -> Tensor | None:
        state = self._optimizer.state.get(parameter, {})
        return state.get("momentum_buffer", state.get("exp_avg"))

    def _nothing_to_ascend(self) -> None:
        """The first step has no momentum."""

"""SAM and GCSAM in the shape of the usual wrapper, for code written for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gcsam_med.optim.replay import RandomState
from gcsam_med.optim.sharpness import Centralize, Norm, Sharpness


class SAM(Optimizer):
    """Sharpness-aware minimization around a base optimizer, in two steps or by a closure.

    Takes the place of ``SAM`` of github.com/davda54/sam. Unlike there, weights come back bit for bit,
    `state_dict` holds the base optimizer's moments, parameters whose gradient appears or vanishes between the
    passes do no harm, and a step with an infinite or NaN gradient is skipped and counted.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Parameters or groups. A group may bring its own ``"rho"``.
    base_optimizer : type
        Class of the optimizer that takes the step, `torch.optim.Adam` for one.
    rho : float, >= 0
        Radius of the ascent.
    adaptive : bool
        ASAM: scale the ascent by the size of each weight.
    ascent : mapping, optional
        Further options of `Sharpness`, such as ``{"every": 2}``.
    **base_options
        Options of the base optimizer: lr, weight_decay, and so on.

    Attributes
    ----------
    base_optimizer : Optimizer
        Takes the step; shares `param_groups` and `state`.
    sharpness : Sharpness
        The ascent. ``with optimizer.sharpness.perturbed():`` is safer than the two steps: it restores the
        weights when the second pass fails.
    skipped : int
        Steps skipped for a non-finite gradient.

    Examples
    --------
    >>> model, x = torch.nn.Linear(2, 1), torch.randn(8, 2)
    >>> optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
    >>> model(x).square().mean().backward()
    >>> optimizer.first_step(zero_grad=True)
    >>> model(x).square().mean().backward()
    >>> optimizer.second_step(zero_grad=True)

    References
    ----------
    Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization", ICLR 2021, arXiv 2010.01412.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        adaptive: bool = False,
        *,
        ascent: Mapping[str, Any] | None = None,
        **base_options: Any,
    ) -> None:
        super().__init__(params, {"rho": rho})
        self.base_optimizer = base_optimizer(self.param_groups, **base_options)
        self.sharpness = Sharpness(self.base_optimizer, rho, **{"adaptive": adaptive, **(ascent or {})})
        self.defaults |= self.base_optimizer.defaults
        self.skipped = 0
        self._ascended = False
        self._share()

    def _share(self) -> None:
        """Have one list of groups and one state with the base optimizer, so that a scheduler reaches both."""
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, which ascends from the next step on."""
        if not hasattr(self, "base_optimizer"):
            super().add_param_group(param_group)
            return
        param_group.setdefault("rho", self.defaults["rho"])
        self.base_optimizer.add_param_group(param_group)

    def first_step(self, zero_grad: bool = False) -> None:
        """Ascend along the gradient of the first pass.

        Parameters
        ----------
        zero_grad : bool
            Clear the gradient, as the second pass needs it.
        """
        if self.sharpness.needs_first_pass:
            self.sharpness.ascend()
        self._ascended = True
        if zero_grad:
            self.zero_grad()

    def restore(self) -> None:
        """Put the weights back without a step; before ``GradScaler.step``, which may not call `step`."""
        self.sharpness.restore()

    def second_step(self, zero_grad: bool = False) -> None:
        """Put the weights back and step by the gradient of the second pass.

        Parameters
        ----------
        zero_grad : bool
            Clear the gradient afterwards.
        """
        self.step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take both steps with a closure; or the second one, after `first_step`, without.

        Parameters
        ----------
        closure : callable, optional
            Forward and backward pass; returns the loss. The first gradient may be there already, else the
            closure is called for it too, with the same random numbers as for the second. The gradient is
            cleared before each call, and at the end, so that no step can take the last one's for its own.

        Returns
        -------
        Any
            What the closure returned on its first call; None without one.

        Raises
        ------
        RuntimeError
            Without a closure, when there was no `first_step`.
        """
        if closure is not None:
            return self._step_by(torch.enable_grad()(closure))
        if not self._ascended:
            raise RuntimeError(
                "step() needs a closure, or first_step() and a second backward pass before it."
            )
        self._ascended = False
        self.sharpness.restore()
        self.sharpness.finish_gradients()
        if self._gradients_are_finite():
            self.base_optimizer.step()
        else:
            self.skipped += 1
        return None

    def _step_by(self, closure: Callable[[], Any]) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"]]
        first = None
        if all(p.grad is None for p in parameters):
            random_state = RandomState({p.device for p in parameters})
            first = closure()
            random_state.rewind()
        try:
            self.first_step(zero_grad=True)
            second = closure()
        except BaseException:
            self._ascended = False
            raise
        finally:
            self.restore()
        self.step()
        self.zero_grad()
        return second if first is None else first

    def _gradients_are_finite(self) -> bool:
        """One look from the host at the gradients of both passes."""
        present = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm(present)
        if self.sharpness.norm is not None:
            norm = norm + 0.0 * self.sharpness.norm.to(norm.device)
        return bool(torch.isfinite(norm))

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state, and the ascent's under ``"sharpness"``."""
        return self.base_optimizer.state_dict() | {
            "sharpness": self.sharpness.state_dict(),
            "skipped": self.skipped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state made by `state_dict`."""
        self.base_optimizer.load_state_dict(state_dict)
        self.sharpness.load_state_dict(state_dict["sharpness"])
        self.skipped = state_dict["skipped"]
        self._share()


class GCSAM(SAM):
    """SAM that ascends along the centralized gradient.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Parameters or groups. A group may bring its own ``"rho"``.
    base_optimizer : type
        Class of the optimizer that takes the step, `torch.optim.Adam` in the paper.
    rho : float, >= 0
        Radius of the ascent.
    norm : {"centralized", "raw"}
        Divide by the norm of the centred gradient, or as in the authors' published script by that before
        centring.
    centralize : {"ascent", "both"}
        Centre the gradient of the ascent, or that of the descent too.
    **base_options
        Options of the base optimizer: lr, weight_decay, and so on.

    Examples
    --------
    >>> model, x = torch.nn.Linear(2, 1), torch.randn(8, 2)
    >>> optimizer = GCSAM(model.parameters(), torch.optim.Adam, rho=0.05, lr=1e-3)
    >>> def closure():
    ...     loss = model(x).square().mean()
    ...     loss.backward()
    ...     return loss
    >>> loss = optimizer.step(closure)

    References
    ----------
    Hassan, Vakanski, Zhang, Xian, "GCSAM: Gradient Centralized Sharpness Aware Minimization", IEEE Access 13,
    2025, 182661-182674, arXiv 2501.11584.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        norm: Norm = "centralized",
        centralize: Centralize = "ascent",
        **base_options: Any,
    ) -> None:
        ascent = {"norm": norm, "centralize": centralize}
        super().__init__(params, base_optimizer, rho, ascent=ascent, **base_options)

"""The ascent of sharpness-aware minimization, as a context around the second backward pass."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from gcsam_med.optim.centralize import is_centralized
from gcsam_med.optim.items import Item
from gcsam_med.optim.sums import total
from gcsam_med.optim.walk import Walk

Centralize = Literal["none", "ascent", "both"]
Norm = Literal["centralized", "raw"]


class Ascending(NamedTuple):
    """Who takes part in an ascent."""

    parameters: list[Tensor]  #: The weights that move.
    directions: list[Tensor]  #: Parallel to them: what each moves along.
    rhos: list[int]  #: Parallel to them: which radius each has.
    radii: list[float]  #: The radii, each once.

    def only(self, wanted: Container[Tensor]) -> Ascending:
        """Those among `wanted`."""
        kept = [n for n, parameter in enumerate(self.parameters) if parameter in wanted]
        return Ascending(
            [self.parameters[n] for n in kept],
            [self.directions[n] for n in kept],
            [self.rhos[n] for n in kept],
            self.radii,
        )


class Sharpness:
    r"""Ascend to the worst weights within rho, and come back bit for bit.

    .. math:: \epsilon = \rho \, \frac{T^2 \Phi(g)}{\lVert T \Phi(g) \rVert_2}

    g is the gradient of all parameters at the weights w; the descent uses the gradient at w + epsilon. Where
    T = 1, epsilon is rho long, whatever the scale of the loss. Special cases:

    =====  ==================  =====================================
    SAM    Phi(g) = g, T = 1   Foret et al. 2021, equation 2
    GCSAM  Phi centres, T = 1  Hassan et al. 2025 (arXiv 2501.11584)
    ASAM   T = abs(w) + eta    Kwon et al. 2021, equation 9
    =====  ==================  =====================================

    A step costs two forward-backward passes; `every` and `ascent_fraction` make it cheaper.

    Parameters
    ----------
    params : Optimizer, or iterable of Tensor or of dict
        What ascends. An optimizer is read anew at each ascent, so that groups added to it later ascend too. A
        group may bring its own ``"rho"``; parameters of groups with rho 0 neither ascend nor count in the
        norm.
    rho : float, >= 0
        Radius of the ascent, for groups without their own. Zero is the base optimizer, exactly and at its
        price.
    centralize : {"none", "ascent", "both"}
        Centre the gradient that is ascended along, or that of the descent as well.
    norm : {"centralized", "raw"}
        Divide by the norm of the centred gradient, or by that of the gradient before centring. The second, as
        in the published script of the GCSAM authors, ascends less far than rho.
    conv_only : bool
        Centre convolution weights only.
    adaptive : bool
        Scale the ascent by the size of each weight (ASAM).
    eta : float, >= 0
        ASAM's constant; the authors use 0.01.
    exempt_vectors : bool
        With `adaptive`: T = 1 for parameters of one dimension, biases and norm layers.
    every : int, >= 1
        Ascend on each k-th step only, beginning with the first; the steps between are plain ones.
    ascent_fraction : float, in (0, 1]
        Part of each batch from which the gradient for the ascent is taken; see `training_step`.

    Raises
    ------
    ValueError
        For a setting outside its range.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> sharpness = Sharpness(optimizer, rho=0.05, centralize="ascent")
    >>> x = torch.randn(8, 2)
    >>> model(x).square().mean().backward()
    >>> with sharpness.perturbed():
    ...     optimizer.zero_grad()
    ...     model(x).square().mean().backward()
    >>> optimizer.step()

    References
    ----------
    Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization", ICLR 2021, arXiv 2010.01412.
    Kwon, Kim, Park, Choi, "ASAM", ICML 2021, arXiv 2102.11600.
    Hassan, Vakanski, Zhang, Xian, "GCSAM", IEEE Access 13, 2025, arXiv 2501.11584.
    """

    local_first_pass = True
    """Each worker may ascend by its own gradient (m-sharpness): one exchange between workers saved."""

    _sign = 1.0
    """Of the ascent along `_direction`."""

    _in_place = True
    """Whether blocks may do without scratch."""

    def __init__(
        self,
        params: Optimizer | Iterable[Tensor] | Iterable[dict[str, Any]],
        rho: float = 0.05,
        *,
        centralize: Centralize = "none",
        norm: Norm = "centralized",
        conv_only: bool = False,
        adaptive: bool = False,
        eta: float = 0.0,
        exempt_vectors: bool = False,
        every: int = 1,
        ascent_fraction: float = 1.0,
    ) -> None:
        _require(math.isfinite(rho) and rho >= 0, f"rho must be a finite number of at least 0, but is {rho}")
        _require(
            centralize in ("none", "ascent", "both"),
            f"centralize must be none, ascent or both, but is {centralize!r}",
        )
        _require(norm in ("centralized", "raw"), f"norm must be centralized or raw, but is {norm!r}")
        _require(eta >= 0, f"eta must be at least 0, but is {eta}")
        _require(every >= 1, f"every must be at least 1, but is {every}")
        _require(
            0 < ascent_fraction <= 1,
            f"ascent_fraction must be above 0 and at most 1, but is {ascent_fraction}",
        )
        self.rho = rho
        self.rho_factor = 1.0
        self.centralize = centralize
        self.norm_of = norm
        self.conv_only = conv_only
        self.adaptive = adaptive
        self.eta = eta
        self.exempt_vectors = exempt_vectors
        self.every = every
        self.ascent_fraction = ascent_fraction
        self.steps = 0
        self.norm: Tensor | None = None
        self._source = params if isinstance(params, Optimizer) else _groups(params)
        self._walk: Walk | None = None
        self._perturbed = False

    # --- What the coming step is

    @property
    def needs_first_pass(self) -> bool:
        """Whether the coming step ascends along a gradient that a first backward pass has to bring."""
        return self.steps % self.every == 0 and any(self._rho(group) > 0 for group in self.param_groups)

    @property
    def ascends_next_step(self) -> bool:
        """Whether the coming step ascends at all."""
        return self.needs_first_pass

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups that ascend; those of the optimizer, if there is one."""
        return self._source.param_groups if isinstance(self._source, Optimizer) else self._source

    # --- The ascent

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Ascend, run the body at the perturbed weights, restore the weights bit for bit.

        The weights come back by exception too. On a step that does not ascend the body runs at the weights as
        they are, so that one loop serves every method.

        Raises
        ------
        RuntimeError
            When there is no gradient to ascend along, when one is sparse, or when the weights are perturbed
            already.
        """
        try:
            if self.ascends_next_step:
                self.ascend()
            yield
        finally:
            self.restore()

    @torch.no_grad()
    def ascend(self) -> None:
        """Add epsilon to the weights. `perturbed` is this and `restore`, and safer.

        `norm` then holds the norm that was divided by, on its device. If it is infinite or NaN the perturbed
        weights are NaN, so that the second pass brings the fault to every worker and to every check of
        gradients without a look from the host.
        """
        if self._perturbed:
            raise RuntimeError(
                "The weights are perturbed already: leave perturbed(), or call restore(), first."
            )
        ascending = self._ascending()
        if not ascending.parameters:
            self._nothing_to_ascend()
            return
        walk = self._walk_over(ascending)
        squares: list[Tensor] = []
        for block in walk.blocks:
            squares += block.squares(ascending.directions, centre=self.norm_of == "centralized")
        self.norm = total(squares).sqrt()
        signed = [self._sign * rho for rho in ascending.radii]
        scales = _scales(signed, self.norm, {block.kind.device for block in walk.blocks})
        self._perturbed = True  # from here on there may be something to restore
        for block in walk.blocks:
            block.move(scales[block.kind.device, block.kind.rho])

    @torch.no_grad()
    def restore(self) -> None:
        """Put back the weights that `ascend` moved, bit for bit; without an ascent before it does nothing.

        Allocates nothing, so that it works when memory has run out.
        """
        if self._perturbed and self._walk is not None:
            self._walk.restore()
        self._perturbed = False

    # --- The descent

    @torch.no_grad()
    def finish_gradients(self) -> None:
        """Turn the last pass's gradient into the method's descent gradient, in place, and count the step.

        To be called on every step, between the last backward pass and unscaling, clipping and the optimizer.
        """
        if self.centralize == "both":
            for parameter in self._parameters():
                gradient = parameter.grad
                if gradient is not None and is_centralized(parameter, self.conv_only):
                    gradient.sub_(gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True))
        self.steps += 1

    def forget(self) -> None:
        """Drop what a skipped step, one with a non-finite gradient, may have spoilt."""

    # --- State

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on: plain numbers and tensors."""
        return {"steps": self.steps, "rho_factor": self.rho_factor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state made by `state_dict`."""
        self.steps = int(state["steps"])
        self.rho_factor = float(state["rho_factor"])

    # --- Inside

    def _rho(self, group: Mapping[str, Any]) -> float:
        return float(group.get("rho", self.rho)) * self.rho_factor

    def _direction(self, parameter: Tensor) -> Tensor | None:
        """What to ascend along: the gradient."""
        return parameter.grad

    def _ascending(self) -> Ascending:
        """Who ascends now, along what, and how far."""
        found = Ascending([], [], [], [])
        for group in self.param_groups:
            rho = self._rho(group)
            if rho == 0:
                continue
            if rho not in found.radii:
                found.radii.append(rho)
            number = found.radii.index(rho)
            for parameter in group["params"]:
                direction = self._direction(parameter)
                if direction is None or not parameter.requires_grad or parameter.numel() == 0:
                    continue
                _check(parameter, direction)
                found.parameters.append(parameter)
                found.directions.append(direction)
                found.rhos.append(number)
        return found

    def _nothing_to_ascend(self) -> None:
        if any(p.requires_grad for group in self.param_groups if self._rho(group) for p in group["params"]):
            raise RuntimeError("No parameter has a gradient to ascend along: run a backward pass first.")

    def _walk_over(self, ascending: Ascending) -> Walk:
        if self._walk is None or not self._walk.fits(ascending.parameters, ascending.rhos):
            self._walk = None  # the former copy of the weights goes before the next is made
            pairs = zip(ascending.parameters, ascending.rhos, strict=True)
            items = [self._item(parameter, rho) for parameter, rho in pairs]
            self._walk = Walk(items, self.eta, in_place=self._in_place)
        return self._walk

    def _item(self, parameter: Tensor, rho: int) -> Item:
        return Item(
            parameter,
            centred=self.centralize != "none" and is_centralized(parameter, self.conv_only),
            adaptive=self.adaptive and not (self.exempt_vectors and parameter.ndim <= 1),
            rho=rho,
        )

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


def _groups(params: Iterable[Tensor] | Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bring parameters or groups into the form that optimizers keep, each parameter once."""
    entries: list[Any] = list(params)
    _require(bool(entries), "there are no parameters to ascend")
    if not isinstance(entries[0], dict):
        entries = [{"params": entries}]
    groups = [dict(entry) for entry in entries]
    seen: dict[Tensor, None] = {}
    for group in groups:
        members = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        group["params"] = [p for p in dict.fromkeys(members) if p not in seen]
        seen |= dict.fromkeys(members)
        _require(group.get("rho", 0) >= 0, f"rho of a group must be at least 0, but is {group.get('rho')}")
    return groups


def _check(parameter: Tensor, direction: Tensor) -> None:
    if direction.layout is not torch.strided:
        raise RuntimeError(
            f"Cannot ascend along the sparse gradient of a parameter of shape {tuple(parameter.shape)}: "
            "use sparse=False in its layer, or rho=0 in its group."
        )
    if parameter.is_complex():
        raise RuntimeError("Cannot ascend a complex parameter: use its real view, or rho=0 in its group.")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _scales(
    radii: list[float], norm: Tensor, devices: set[torch.device]
) -> dict[tuple[torch.device, int], Tensor]:
    """Rho / norm for each device and radius: 0 where there is no slope, NaN where the norm is not finite."""
    scales = {}
    for number, rho in enumerate(radii):
        scale = torch.where(norm > 0, rho / norm, 0.0) + 0.0 * norm
        for device in devices:
            scales[device, number] = scale.to(device)
    return scales

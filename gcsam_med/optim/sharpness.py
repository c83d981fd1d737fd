"""Sharpness-aware minimization as a context around the second backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from gcsam_med.optim.ascent import (
    ACCELERATOR_BUCKET,
    CPU_BUCKET,
    Bucket,
    Copies,
    is_centralized,
    ratio,
    row_means,
    squares,
    total,
)
from gcsam_med.optim.options import check_options

Centralize = Literal["none", "ascent", "both"]
Norm = Literal["centralized", "raw"]


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
        What is perturbed. An optimizer is read anew at each ascent, so that groups added to it later take
        part. A group may bring its own ``"rho"``; parameters of groups with rho 0 are not perturbed and do
        not count in the norm.
    rho : float
        Radius of the ascent, for groups without their own. Zero is the base optimizer, exactly and at its
        price.
    centralize : {"none", "ascent", "both"}
        Centre the gradient of the ascent, or that of the descent as well.
    norm : {"centralized", "raw"}
        Divide by the norm of the centred gradient, or by that of the gradient before centring. The second, as
        in the published script of the GCSAM authors, makes the perturbation shorter than rho.
    conv_only : bool
        Centre convolution weights only.
    adaptive : bool
        Scale the ascent by the size of each weight (ASAM).
    eta : float
        ASAM's constant; the authors use 0.01.
    exempt_vectors : bool
        With `adaptive`: T = 1 for parameters of one dimension, biases and norm layers.
    every : int
        Ascend on each k-th step only, beginning with the first; the steps between are plain ones.
    ascent_fraction : float
        Part of each batch from which the gradient of the ascent is taken; see `training_step`.

    Raises
    ------
    ValueError
        For a setting outside its range; `OPTIONS` has the ranges.

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

    sign = 1.0
    """Of the ascent along `direction`."""

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
        check_options(
            rho=rho, centralize=centralize, norm=norm, eta=eta, every=every, ascent_fraction=ascent_fraction
        )
        self.rho = rho
        self.rho_factor: float | Tensor = 1.0
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
        self.loss_scale: Tensor | float = 1.0
        """What the loss of the first pass is multiplied by; only methods that keep gradients need it."""
        self._source = params if isinstance(params, Optimizer) else _groups(params)
        self._copies = Copies()
        self._moved: list[Bucket] = []
        self._perturbed = False

    # --- What the coming step is

    @property
    def ascends_next_step(self) -> bool:
        """Whether the coming step ascends at all."""
        if self.steps % self.every or not (isinstance(self.rho_factor, Tensor) or self.rho_factor):
            return False
        return any(self._rho(group) > 0 for group in self.param_groups)

    @property
    def needs_first_pass(self) -> bool:
        """Whether the coming step ascends along a gradient that a first backward pass has to bring."""
        return self.ascends_next_step

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups that are perturbed; those of the optimizer, if there is one."""
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
        buckets = self._buckets()
        if not buckets:
            self._no_direction()
            return
        self._perturbed = True
        lengths: list[Tensor] = []
        for bucket in buckets:
            lengths += squares(bucket.direction(self.direction, centre=self.norm_of == "centralized"))
        self.norm = total(lengths).sqrt()
        for bucket in buckets:
            kept = bucket.copies[0].dtype == bucket.dtype and self.norm_of == "centralized"
            direction = bucket.copies if kept else bucket.direction(self.direction, centre=True)
            scale = ratio(bucket.rho * self.rho_factor, self.norm).to(bucket.device, bucket.dtype)
            change = bucket.change(direction, scale)
            bucket.save()
            self._moved.append(bucket)  # from here on, `restore` puts its copies back
            bucket.move(change)

    @torch.no_grad()
    def restore(self) -> None:
        """Put back the weights that `ascend` moved, bit for bit; without an ascent before it does nothing.

        Allocates nothing, so that it works when memory has run out.
        """
        for bucket in self._moved:
            bucket.restore()
        self._moved = []
        self._perturbed = False

    def abandon(self) -> None:
        """Forget an ascent that was recorded in a graph but has not run: there is nothing to restore."""
        self._moved = []
        self._perturbed = False

    def source(self, parameter: Tensor) -> Tensor | None:
        """Where the direction of a parameter comes from: the gradient. None: it is not perturbed."""
        return parameter.grad

    def direction(self, parameter: Tensor) -> Tensor | None:
        """What to ascend along, before it is centred and scaled by size; changes nothing."""
        return self.source(parameter)

    # --- The descent

    @torch.no_grad()
    def finish_gradients(self) -> None:
        """Turn the last pass's gradient into the method's descent gradient, in place, and count the step.

        To be called on every step, between the last backward pass and unscaling, clipping and the optimizer.
        """
        if self.centralize == "both":
            for parameter in self.parameters():
                if parameter.grad is not None and is_centralized(parameter, self.conv_only):
                    parameter.grad.sub_(row_means(parameter.grad))
        self.steps += 1

    # --- State

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on: plain numbers and tensors."""
        return {"steps": self.steps, "rho_factor": float(self.rho_factor)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state made by `state_dict`."""
        self.steps = int(state["steps"])
        self.rho_factor = float(state["rho_factor"])

    def parameters(self) -> list[Tensor]:
        """All parameters, in the order of the groups."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @property
    def moved(self) -> list[Tensor]:
        """The parameters that are perturbed at the moment."""
        return [parameter for bucket in self._moved for parameter in bucket.parameters]

    # --- Inside

    def _rho(self, group: Mapping[str, Any]) -> float:
        return float(group.get("rho", self.rho))

    def _buckets(self) -> list[Bucket]:
        """Sort the parameters that have a direction into buckets."""
        filling: dict[tuple[object, ...], Bucket] = {}
        buckets: list[Bucket] = []
        for group in self.param_groups:
            rho = self.sign * self._rho(group)
            for parameter in group["params"] if rho else ():
                source = self.source(parameter)
                if source is None or not parameter.requires_grad or parameter.numel() == 0:
                    continue
                _check(parameter, source)
                adaptive = self.adaptive and not (self.exempt_vectors and parameter.ndim <= 1)
                most = CPU_BUCKET if parameter.device.type == "cpu" else ACCELERATOR_BUCKET
                kind = (parameter.device, parameter.dtype, rho, adaptive)
                bucket = filling.get(kind)
                if bucket is None or bucket.elements + parameter.numel() > most:
                    bucket = filling[kind] = Bucket(rho, self.eta, adaptive)
                    buckets.append(bucket)
                bucket.parameters.append(parameter)
                bucket.copies.append(self._copies.of(parameter))
                bucket.centred.append(self.centralize != "none" and is_centralized(parameter, self.conv_only))
                bucket.elements += parameter.numel()
        return buckets

    def _no_direction(self) -> None:
        groups = [group for group in self.param_groups if self._rho(group)]
        if any(parameter.requires_grad for group in groups for parameter in group["params"]):
            raise RuntimeError("No parameter has a gradient to ascend along: run a backward pass first.")


def _groups(params: Iterable[Tensor] | Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bring parameters or groups into the form that optimizers keep, each parameter once."""
    entries: list[Any] = list(params)
    if not entries:
        raise ValueError("there are no parameters to perturb")
    if not isinstance(entries[0], dict):
        entries = [{"params": entries}]
    groups = [dict(entry) for entry in entries]
    seen: dict[Tensor, None] = {}
    for group in groups:
        members = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        group["params"] = [p for p in dict.fromkeys(members) if p not in seen]
        seen |= dict.fromkeys(members)
        check_options(rho=group.get("rho", 0))
    return groups


def _check(parameter: Tensor, source: Tensor) -> None:
    if source.layout is not torch.strided:
        raise RuntimeError(
            f"Cannot ascend along the sparse gradient of a parameter of shape {tuple(parameter.shape)}: "
            "use sparse=False in its layer, or rho=0 in its group."
        )
    if parameter.is_complex():
        raise RuntimeError("Cannot ascend a complex parameter: use its real view, or rho=0 in its group.")

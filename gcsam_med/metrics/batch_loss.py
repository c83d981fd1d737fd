"""The loss of a network over a set of batches, as a function of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

Network = Callable[..., Tensor]


class Objective:
    """Loss, gradient and Hessian products at any weights, without touching those of the model.

    The model is in evaluation mode meanwhile: running statistics stand still and dropout is off, so that
    every call sees the same function.

    Parameters
    ----------
    model : nn.Module
        The network itself, not wrapped. Its parameters that require a gradient, n numbers in all, are the
        weights.
    loss_of : callable
        From the network at some weights, called like the model, and a batch to a scalar. The values of the
        batches are added: for a mean over all cases weight each batch by its share of them.
    batches : sequence
        What the loss is taken over: a fixed sample.

    Attributes
    ----------
    weights : Tensor, shape (n,)
        A copy of the model's weights, in the order of ``named_parameters``.

    Raises
    ------
    ValueError
        Without weights or without batches.
    """

    def __init__(
        self, model: nn.Module, loss_of: Callable[[Network, Any], Tensor], batches: Sequence[Any]
    ) -> None:
        self._model = model
        self._loss_of = loss_of
        self._batches = batches
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self._parameters or not len(batches):
            raise ValueError("A loss surface needs a weight that requires a gradient, and a batch.")
        self.weights = torch.cat([p.detach().flatten() for p in self._parameters.values()])

    def loss(self, weights: Tensor) -> float:
        """The loss at these weights.

        Parameters
        ----------
        weights : Tensor, shape (n,)
            Where.

        Returns
        -------
        float
            In the unit of `loss_of`; infinite or NaN where the network is.
        """
        with torch.no_grad(), self._evaluating():
            network = self._network(self._named(weights))
            return sum(float(self._loss_of(network, batch)) for batch in self._batches)

    def gradient(self, weights: Tensor) -> tuple[float, Tensor]:
        """The loss and its gradient, shape (n,), at these weights."""
        total, gradient = 0.0, torch.zeros_like(self.weights)
        with torch.enable_grad(), self._evaluating():
            leaves = self._leaves(weights)
            for batch in self._batches:
                loss = self._loss_of(self._network(leaves), batch)
                gradient += _flat(torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True))
                total += float(loss.detach())
        return total, gradient

    def hessian_times(self, vector: Tensor) -> Tensor:
        """The Hessian at the model's weights times a vector of shape (n,), by differentiating twice.

        Attention runs by its plain formula meanwhile: its fused kernels have no second derivative.
        """
        product = torch.zeros_like(self.weights)
        parts = list(self._named(vector).values())
        with torch.enable_grad(), self._evaluating(), sdpa_kernel(SDPBackend.MATH):
            leaves = self._leaves(self.weights)
            values = list(leaves.values())
            for batch in self._batches:
                loss = self._loss_of(self._network(leaves), batch)
                slopes = torch.autograd.grad(loss, values, create_graph=True, materialize_grads=True)
                slope = torch.stack([(g * v).sum() for g, v in zip(slopes, parts, strict=True)]).sum()
                product += _flat(torch.autograd.grad(slope, values, materialize_grads=True))
        return product

    def random_direction(self, generator: torch.Generator) -> Tensor:
        """Standard normal numbers, shape (n,), the same on every device."""
        numbers = torch.randn(len(self.weights), generator=generator, dtype=torch.float64)
        return numbers.to(self.weights)

    def parts(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector of shape (n,), shaped like the parameters it runs over."""
        pieces = zip(self._parameters.values(), self._split(vector), strict=True)
        return [piece.view(p.shape) for p, piece in pieces]

    def _split(self, vector: Tensor) -> tuple[Tensor, ...]:
        return vector.split([p.numel() for p in self._parameters.values()])

    def _named(self, weights: Tensor) -> dict[str, Tensor]:
        named = zip(self._parameters.items(), self._split(weights), strict=True)
        return {name: part.view(p.shape).to(p.dtype) for (name, p), part in named}

    def _leaves(self, weights: Tensor) -> dict[str, Tensor]:
        return {name: part.detach().requires_grad_() for name, part in self._named(weights).items()}

    def _network(self, named: dict[str, Tensor]) -> Network:
        return lambda *inputs, **options: functional_call(self._model, named, inputs, options)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = [module for module in self._model.modules() if module.training]
        self._model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])

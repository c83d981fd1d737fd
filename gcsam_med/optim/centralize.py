"""Gradient centralization: each output channel's gradient loses its mean."""

from __future__ import annotations

from torch import Tensor


def is_centralized(parameter: Tensor, conv_only: bool = False) -> bool:
    """Whether gradient centralization touches this parameter.

    Parameters
    ----------
    parameter : Tensor
        A parameter or its gradient; only its number of dimensions counts.
    conv_only : bool
        Spare matrices too: the weights of linear layers, embeddings and positional encodings.

    Returns
    -------
    bool
        True for more than one dimension, or with `conv_only` for more than three (2-D and 3-D convolutions),
        as in the authors' code of Yong et al.
    """
    return parameter.ndim > (3 if conv_only else 1)


def centralize(gradient: Tensor, conv_only: bool = False) -> Tensor:
    r"""Subtract from each row of a gradient its mean.

    .. math:: \Phi(g)_i = g_i - \operatorname{mean}(g_i)

    where i runs over the first dimension (output channels) and the mean over all others. It is a projection:
    doing it twice is doing it once, and it never lengthens a gradient.

    Parameters
    ----------
    gradient : Tensor
        Gradient of a parameter, of any shape.
    conv_only : bool
        Centralize tensors of more than three dimensions only.

    Returns
    -------
    Tensor
        A new tensor of the same shape, or `gradient` itself where centralization does not apply.

    References
    ----------
    Yong, Huang, Hua, Zhang, "Gradient Centralization", ECCV 2020, equation 1.
    """
    if not is_centralized(gradient, conv_only):
        return gradient
    return gradient - gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True)

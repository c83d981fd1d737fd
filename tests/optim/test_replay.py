"""Buffers and random numbers, put back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from gcsam_med.optim import BufferSnapshot, RandomState, frozen_batchnorm
from tests.optim.test_ascent import bits


def test_all_generators_are_wound_back() -> None:
    """Oracle: the numbers drawn the first time."""
    state = RandomState([torch.device("cpu")])
    draw = lambda: (torch.rand(3).tolist(), random.random(), np.random.rand(2).tolist())  # noqa: E731
    first = draw()
    assert draw() != first
    state.rewind()
    assert draw() == first


def test_frozen_statistics_come_back_by_exception_too() -> None:
    """Oracle: the bytes of the buffers before; batch statistics are used meanwhile."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)))
    before = bits(list(model.buffers()))
    output = None
    try:
        with frozen_batchnorm(model):
            output = model[0](5 + 3 * torch.randn(64, 3))
            model(torch.full((4, 3), torch.nan))
            raise KeyError
    except KeyError:
        pass
    assert output is not None
    assert output.mean().abs() < 1e-5
    assert bits(list(model.buffers())) == before


@pytest.mark.parametrize("undo", [True, False])
def test_buffers_are_put_back_where_a_device_says_so(undo: bool) -> None:
    """Oracle: the bytes before or after, also of a buffer that a layer replaced by a new tensor."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    before = bits(list(model.buffers()))
    snapshot = BufferSnapshot(model)
    model(5 + 3 * torch.randn(64, 3))
    model[1].running_mean = model[1].running_mean + 1
    after = bits(list(model.buffers()))
    snapshot.restore(where=torch.tensor(undo))
    assert bits(list(model.buffers())) == (before if undo else after)


def test_layers_in_evaluation_mode_are_left_alone() -> None:
    """Oracle: a buffer changed by hand in a layer that is not training stays changed."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    model[1].eval()
    snapshot = BufferSnapshot(model)
    for layer in model:
        layer.running_mean.fill_(7.0)
    snapshot.restore()
    assert [float(layer.running_mean[0]) for layer in model] == [0.0, 7.0]

"""Compiled models: the same numbers, and compiled once."""

from __future__ import annotations

import torch
from torch import nn

from gcsam_med.optim import build, training_step
from tests.optim.test_step import data, loss_on


def test_a_compiled_model_trains_the_same_and_compiles_once() -> None:
    """Oracle: the eager model; the number of graphs that dynamo hands to its backend."""
    graphs: list[int] = []
    aot_eager = torch._dynamo.lookup_backend("aot_eager")

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(1)
        return aot_eager(graph, inputs)

    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        )
        model = torch.compile(network, backend=counting) if compiled else network
        optimizer, sharpness = build("gcsam", network.parameters(), rho=0.2, base_options={"lr": 0.01})
        for number in range(4):
            training_step(model, optimizer, sharpness, [data(seed=number)], loss_on(model))
        results.append([*(p.detach() for p in network.parameters()), *network.buffers()])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    assert len(graphs) == 1

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from gcsam_med.evaluation.gallery import choose_masks, grad_cam, last_spatial_layer, pick
from gcsam_med.networks import NETWORKS, build_network


class Bright(nn.Module):
    """Class 1 where it is bright, class 0 where it is dark; pools one map of two channels."""

    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(1, 2, 1, bias=False)
        self.map.weight.data = torch.tensor([-1.0, 1.0])[:, None, None, None]
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.map(x)).mean(dim=(2, 3))


def test_the_map_shows_what_raises_the_score_of_the_class():
    """Oracle: equations 1 and 2 of the paper by hand, on one layer: only the bright corner speaks."""
    image = torch.full((1, 1, 8, 8), -0.5)
    image[..., :4, :4] = 1.0
    bright, dark = (grad_cam(Bright(), image, torch.tensor([k]))[0] for k in (1, 0))
    np.testing.assert_allclose(bright, (image[0, 0] > 0).float().numpy(), atol=1e-6)
    np.testing.assert_allclose(dark, (image[0, 0] < 0).float().numpy(), atol=1e-6)


def test_weights_and_gradients_are_left_alone():
    """Oracle: the state before."""
    network = build_network("resnet18", task="classification", in_channels=1, outputs=2, size=64).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    batch = torch.randn(2, 1, 64, 64)
    grad_cam(network, batch, torch.tensor([0, 1]))
    # The last map of ResNet-18 has a cell for every 32 pixels.
    assert grad_cam(network, batch, torch.tensor([0, 1]), largest_cell=31) is None
    assert grad_cam(network, batch, torch.tensor([0, 1]), largest_cell=32) is not None
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks for m in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, spec in NETWORKS.items() if spec.task == "classification"])
def test_every_network_has_a_map_or_none(name):
    """Oracle: the shape, and a range of 0 to 1; a network of tokens keeps no map."""
    network = build_network(name, task="classification", in_channels=1, outputs=2, size=64).eval()
    batch = torch.randn(1, 1, 64, 64)
    maps = grad_cam(network, batch, torch.tensor([1]))
    if name.startswith("vit"):
        assert last_spatial_layer(network, batch) is None
        assert maps is None
    else:
        assert maps.shape == (1, 64, 64)
        assert 0 <= maps.min() <= maps.max() <= 1


def test_of_near_duplicates_one_is_shown_and_a_median_case_is_among_them():
    """Oracle: by hand: nine lesions of Dice 0.1 to 0.9; the two lowest are near-duplicates of one another."""
    n = 9
    cases = pd.DataFrame(
        {
            "dice": np.arange(1, n + 1) / 10,
            "missed": 0,
            "area_truth": 100,
            "area_predicted": 100,
            "false_positives": 0,
        }
    )
    groups = np.array(["twins", "twins", *(f"g{i}" for i in range(n - 2))])
    chosen = list(pick(choose_masks(cases), groups))
    by_kind = {kind: [place for k, place in chosen if k == kind] for kind, _ in chosen}
    assert by_kind == {"Lowest Dice": [0, 2, 3], "Median Dice": [4], "Highest Dice": [8, 7, 6, 5]}

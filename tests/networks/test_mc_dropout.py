import pytest
import torch
from torch import nn

from gcsam_med.errors import InputError
from gcsam_med.networks import build_network
from gcsam_med.networks.hooks import MonteCarloDropout


def test_the_mean_of_many_samples_is_the_layer_itself_and_units_fall_at_the_rate():
    """Oracle: E[mask / (1 - p)] = 1; the share of zeros is p (binomial, 5 standard deviations)."""
    network = nn.Sequential(nn.Dropout(0.25)).eval()
    thinning, x = MonteCarloDropout(network), torch.ones(1, 4000)
    samples = []
    for number in range(30):
        with thinning.sample(number):
            samples.append(network(x)[0])
    stack = torch.stack(samples)
    torch.testing.assert_close(stack.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert (stack == 0).float().mean().item() == pytest.approx(
        0.25, abs=5 * (0.25 * 0.75 / stack.numel()) ** 0.5
    )
    torch.testing.assert_close(network(x)[0], x[0])


@pytest.mark.parametrize(("name", "task"), [("unet", "segmentation"), ("resnet18", "classification")])
def test_a_sample_is_one_network_whatever_shares_the_batch(name, task):
    """Oracle: an image alone and in a batch; another number is another network; none is the whole one."""
    torch.manual_seed(0)
    network = build_network(name, task=task, in_channels=1, outputs=2, size=32, dropout=0.3).eval()
    images = torch.rand(4, 1, 32, 32)
    with torch.inference_mode():
        whole = network(images)
        thinning = MonteCarloDropout(network)
        torch.testing.assert_close(network(images), whole, rtol=0, atol=0)
        with thinning.sample(1):
            together, alone = network(images), network(images[2:3])
        with thinning.sample(2):
            other = network(images)
    torch.testing.assert_close(together[2:3], alone, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(together, other)
    assert not torch.allclose(together, whole)


def test_whole_channels_fall_where_the_layer_says_so():
    """Oracle: Dropout2d leaves a channel whole or drops it whole."""
    network = nn.Sequential(nn.Dropout2d(0.5)).eval()
    with MonteCarloDropout(network).sample(0):
        found = network(torch.ones(2, 40, 3, 3))
    assert ((found == 0).all(dim=(2, 3)) | (found == 2).all(dim=(2, 3))).all()
    assert (found == 0).any()


def test_a_network_without_dropout_says_so():
    with pytest.raises(InputError, match="trained with dropout"):
        MonteCarloDropout(build_network("unet", task="segmentation", in_channels=1, outputs=1, size=32))

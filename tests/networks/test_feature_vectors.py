import threading

import pytest
import torch
from torch import nn

from gcsam_med.networks import NETWORKS, build_network
from gcsam_med.networks.hooks import FeatureLayer, FeatureTap, find_feature_layer

CHEAP = {
    "unet",
    "attention-unet",
    "segresnet",
    "unet-resnet34",
    "swin-unetr",
    "resnet18",
    "swin-t",
    "densenet121",
}


@pytest.mark.parametrize("name", sorted(CHEAP))
def test_every_kind_of_network_has_a_vector_that_its_answer_hangs_on(name):
    """Oracle: one finite vector an image; equal images have equal ones, others do not."""
    spec = NETWORKS[name]
    torch.manual_seed(0)
    network = build_network(name, task=spec.task, in_channels=1, outputs=2, size=64).eval()
    example = torch.zeros(1, 1, 64, 64)
    place = find_feature_layer(network, spec.task, example)
    assert place.side == ("input" if spec.task == "classification" else "output")
    tap = FeatureTap(network, place)
    one, other = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        network(torch.stack([one, other, one]))
    found = tap.take()
    assert found.shape[0] == 3
    assert found.shape[1] >= 128
    assert found.isfinite().all()
    torch.testing.assert_close(found[0], found[2])
    assert not torch.allclose(found[0], found[1])


def test_the_vector_of_a_map_is_its_mean_and_threads_do_not_mix():
    """Oracle: the mean by hand, in several threads at once."""
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU())
    tap, wrong = FeatureTap(network, FeatureLayer("0", "output")), []

    def ask(value):
        images = torch.full((2, 1, 4, 4), float(value))
        for _ in range(50):
            with torch.inference_mode():
                expected = network[0].weight[:, 0, 0, 0] * value + network[0].bias
                network(images)
            if not torch.allclose(tap.take(), expected.expand(2, 3)):
                wrong.append(value)

    threads = [threading.Thread(target=ask, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    with pytest.raises(AttributeError):
        FeatureTap(network, FeatureLayer("7", "output"))

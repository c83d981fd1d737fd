"""Every network of the table: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from gcsam_med.errors import InputError
from gcsam_med.networks import NETWORKS, build_network, default_model, find_network

SLOW = {"vgg16", "vit-b-16", "resnet50"}
EACH = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS]


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads on a busy machine wait for each other longer than these small networks take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(
    name: str, *, in_channels: int = 1, outputs: int = 2, size: int = 64, dropout: float = 0.0
) -> nn.Module:
    torch.manual_seed(0)
    return build_network(
        name,
        task=NETWORKS[name].task,
        in_channels=in_channels,
        outputs=outputs,
        size=size,
        dropout=dropout,
    )


@pytest.mark.parametrize("name", EACH)
def test_logits_have_the_promised_shape_and_every_parameter_learns(name):
    """Oracle: the contract of build_network; distributed training needs a gradient for every parameter."""
    outputs = 1 if NETWORKS[name].task == "segmentation" else 3
    network = build(name, in_channels=1, outputs=outputs)
    logits = network(torch.rand(2, 1, 64, 64))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == ((2, 1, 64, 64) if NETWORKS[name].task == "segmentation" else (2, 3))
    logits.square().mean().backward()
    if name != "vit-b-16":  # its last layer starts at zero, so nothing flows back in the first step
        without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert without == []


@pytest.mark.parametrize("name", EACH)
def test_summary_tells_the_true_size(name):
    """Oracle: the number of parameters, counted."""
    network = build(name, outputs=1 if NETWORKS[name].task == "segmentation" else 2, size=256)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    told = re.search(r"([\d.]+) M parameters", NETWORKS[name].summary)
    assert told is not None
    digits = len(told[1].partition(".")[2])
    assert told[1] == f"{millions:.{digits}f}"
    assert re.search(r"arXiv \d{4}\.\d{4,5}|doi 10\.", NETWORKS[name].paper)


@pytest.mark.parametrize("name", EACH)
def test_dropout_acts_in_training_and_only_where_it_is_asked_for(name):
    """Oracle: torch.nn.Dropout's own rate; evaluation is deterministic."""
    rates = {m.p for m in build(name, dropout=0.25).modules() if isinstance(m, (nn.Dropout, nn.Dropout2d))}
    assert 0.25 in rates
    assert rates <= {0.0, 0.25}
    plain = build(name)
    assert not any(m.p for m in plain.modules() if isinstance(m, (nn.Dropout, nn.Dropout2d)))
    x = torch.rand(1, 1, 64, 64)
    plain.eval()
    with torch.inference_mode():
        assert torch.equal(plain(x), plain(x))


@pytest.mark.parametrize(
    "name", [n for n, s in NETWORKS.items() if s.multiple > 1 or s.smallest > 32], ids=lambda n: n
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(name):
    """Oracle: the sizes that the message names can be built (and, for small networks, run)."""
    with pytest.raises(InputError) as caught:
        build(name, size=NETWORKS[name].smallest + NETWORKS[name].multiple // 2 + 1)
    sizes = [int(n) for n in re.findall(r"--size (\d+)(?: or (\d+))?", caught.value.advice)[0] if n]
    assert sizes
    for size in sizes:
        with torch.inference_mode():
            assert build(name, size=size).eval()(torch.rand(1, 1, size, size)).isfinite().all()


@pytest.mark.parametrize("size", [8, 31])
def test_a_tiny_square_is_refused(size):
    with pytest.raises(InputError, match=r"at least 32 pixels.*8 x 8|at least 32 pixels.*31 x 31") as caught:
        build("resnet18", size=size)
    assert "--size 32" in caught.value.advice


def test_names_are_checked_against_the_task():
    """Oracle: the nearest name by spelling, among those of the task only."""
    with pytest.raises(InputError, match="Unknown segmentation model 'unte'") as caught:
        find_network("unte", "segmentation")
    assert "Did you mean 'unet'" in caught.value.advice
    assert "resnet18" not in caught.value.advice
    with pytest.raises(InputError, match="is for classification, but the task is segmentation") as caught:
        find_network("resnet18", "segmentation")
    assert "--task classification" in caught.value.advice


def test_defaults_are_in_the_table():
    assert find_network(default_model("segmentation"), "segmentation") is NETWORKS["unet"]
    assert find_network(default_model("classification"), "classification") is NETWORKS["resnet18"]


def test_the_table_needs_no_torch_to_be_read():
    """`list models` and the check of a name must be quick. Oracle: sys.modules of a fresh interpreter."""
    import subprocess
    import sys

    code = "import sys, gcsam_med.networks as n; n.find_network('unet', 'segmentation'); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_torchvision_comes_without_the_compiler_of_torch():
    """Oracle: sys.modules of a fresh interpreter, and torchvision's own answer once the compiler is there."""
    import subprocess
    import sys

    code = """
import sys
from gcsam_med.networks.table import import_torchvision
vision = import_torchvision()
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
supported = vision.ops.roi_align.__globals__["is_compile_supported"]
import torch._dynamo.config, torch._dynamo.utils as compiler
assert supported("cpu") == compiler.is_compile_supported("cpu")
assert import_torchvision() is vision
assert sys.modules["torch._dynamo.utils"] is compiler
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_row_is_complete(name):
    """Oracle: what a row promises: a class that is there, rates, limits, weights that torchvision lists."""
    from pkgutil import resolve_name

    from torchvision.models import get_weight

    spec = NETWORKS[name]
    assert callable(resolve_name(spec.target))
    assert spec.library in {"monai", "torchvision", "gcsam_med"}
    assert 0 < spec.pretrained_lr <= spec.lr < 0.1
    assert spec.summary.endswith(".")
    assert spec.multiple >= 1
    assert spec.smallest % spec.multiple == 0
    assert spec.weights is None or get_weight(spec.weights).url.startswith("https://")

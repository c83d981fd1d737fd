"""The ascent: its length, its way back, and what it makes of odd networks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gcsam_med.optim import MomentumSAM, Sharpness, build
from tests.optim import oracle

FLOATS = [0.0, -0.0, 1.0, -1.5, 1e-40, -1e-45, 3e38, float("inf"), float("-inf"), float("nan")]


def bits(tensors: list[Tensor]) -> list[bytes]:
    """The bytes of tensors: NaN equals itself, and 0 is not -0."""
    return [t.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes() for t in tensors]


def parameters(
    shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32, seed: int = 0
) -> list[Tensor]:
    """Parameters with gradients."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for shape in shapes:
        parameter = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
        parameter.grad = torch.randn(shape, generator=generator).to(dtype)
        made.append(parameter)
    return made


def moved(sharpness: Sharpness, weights: list[Tensor]) -> list[Tensor]:
    """The perturbation in float64."""
    before = [w.detach().double().clone() for w in weights]
    with sharpness.perturbed():
        return [w.detach().double() - b for w, b in zip(weights, before, strict=True)]


# --- Length


@pytest.mark.parametrize("centralize", ["none", "ascent"])
@pytest.mark.parametrize("rho", [0.01, 0.05, 2.0])
def test_length_is_rho(centralize: Any, rho: float) -> None:
    """Oracle: the norm of the perturbation in float64. Weights are zero, so that adding does not round."""
    weights = parameters([(700, 900), (64, 32, 3, 3), (2_000_003,), (5,), ()])
    with torch.no_grad():
        for w in weights:
            w.zero_()
    epsilon = moved(Sharpness(weights, rho, centralize=centralize), weights)
    assert float(oracle.norm(epsilon)) == pytest.approx(rho, rel=1e-6)


def test_raw_norm_ascends_less_far() -> None:
    """Oracle: the ratio of the two norms of the gradient."""
    weights = parameters([(30, 40), (7,)], torch.float64)
    g = [w.grad.clone() for w in weights]
    short = oracle.norm(moved(Sharpness(weights, 0.1, centralize="ascent", norm="raw"), weights))
    assert float(short) == pytest.approx(
        0.1 * float(oracle.norm(oracle.centred(g)) / oracle.norm(g)), rel=1e-12
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(-20, 20), st.sampled_from(["none", "ascent"]), st.booleans())
def test_scale_of_the_loss_changes_no_bit(power: int, centralize: Any, adaptive: bool) -> None:
    """Oracle: the ascent at scale 1. Powers of two are what a GradScaler uses."""
    ascents = []
    for factor in (1.0, 2.0**power):
        weights = parameters([(20, 30), (4, 3, 3, 3), (11,)])
        for w in weights:
            w.grad *= factor
        with Sharpness(weights, 0.05, centralize=centralize, adaptive=adaptive, eta=0.01).perturbed():
            ascents.append(bits(weights))
    assert ascents[0] == ascents[1]


def test_no_slope_no_ascent() -> None:
    """Oracle: at a stationary point the perturbation is zero, not NaN."""
    weights = parameters([(3, 4), (2,)])
    for w in weights:
        w.grad.zero_()
    assert all(bool((e == 0).all()) for e in moved(Sharpness(weights, 0.1), weights))


# --- Groups, and parameters of every kind


def test_groups_have_their_own_rho_and_those_of_rho_zero_stay_out() -> None:
    """Oracle: each group moves by its rho over the norm of all gradients that ascent."""
    weights = parameters([(5, 6), (7,), (8,)], torch.float64)
    groups = [
        {"params": weights[0], "rho": 0.2},
        {"params": [weights[1]], "rho": 0.0},
        {"params": [weights[2]]},
    ]
    epsilon = moved(Sharpness(groups, 0.1), weights)
    length = oracle.norm([weights[0].grad, weights[2].grad])
    torch.testing.assert_close(epsilon[0], 0.2 * weights[0].grad / length)
    assert bool((epsilon[1] == 0).all())
    torch.testing.assert_close(epsilon[2], 0.1 * weights[2].grad / length)


def test_rho_factor_scales_every_group() -> None:
    """Oracle: the ascent with the product as rho."""
    weights = parameters([(5, 6)], torch.float64)
    sharpness = Sharpness(weights, 0.1)
    sharpness.rho_factor = 0.25
    torch.testing.assert_close(moved(sharpness, weights), moved(Sharpness(weights, 0.025), weights))


def test_frozen_parameters_stay_and_do_not_count() -> None:
    """Oracle: the ascent over the others alone."""
    weights = parameters([(5, 6), (7,), (8,)], torch.float64)
    weights[1].requires_grad_(False)
    weights[2].grad = None
    epsilon = moved(Sharpness(weights, 0.1), weights)
    assert float(epsilon[0].norm()) == pytest.approx(0.1)
    assert bool((epsilon[1] == 0).all())
    assert bool((epsilon[2] == 0).all())


def test_shared_parameter_ascends_once() -> None:
    """Oracle: a parameter given twice, moved by rho and no further."""
    weights = parameters([(5, 6)], torch.float64)
    assert float(moved(Sharpness(weights * 2, 0.1), weights)[0].norm()) == pytest.approx(0.1)


def test_groups_added_to_the_optimizer_ascend() -> None:
    """Oracle: the length over both groups."""
    weights = parameters([(5, 6), (7,)], torch.float64)
    optimizer = torch.optim.Adam(weights[:1])
    sharpness = Sharpness(optimizer, 0.1)
    moved(sharpness, weights)
    optimizer.add_param_group({"params": weights[1:]})
    epsilon = moved(sharpness, weights)
    assert float(epsilon[1].norm()) > 0
    assert float(oracle.norm(epsilon)) == pytest.approx(0.1)


def test_sparse_gradient_is_refused_by_name_of_the_cure() -> None:
    """Oracle: the message says what to change, and no weight has moved."""
    table = nn.Embedding(10, 3, sparse=True)
    table(torch.tensor([1, 2])).sum().backward()
    before = bits([table.weight])
    with pytest.raises(RuntimeError, match="sparse=False"), Sharpness(table.parameters(), 0.1).perturbed():
        pass
    assert bits([table.weight]) == before


def test_complex_parameter_is_refused() -> None:
    """Oracle: a clear error instead of a wrong norm."""
    weight = torch.randn(3, dtype=torch.complex64, requires_grad=True)
    weight.grad = torch.ones_like(weight)
    with pytest.raises(RuntimeError, match="complex"), Sharpness([weight], 0.1).perturbed():
        pass


def test_mixed_precisions_share_one_norm() -> None:
    """Oracle: float64; half-precision weights round as their type must."""
    weights = [
        *parameters([(20, 30)], torch.float32, 1),
        *parameters([(20, 30)], torch.bfloat16, 2),
        *parameters([(9,)], torch.float64, 3),
        *parameters([(4, 4)], torch.float16, 4),
    ]
    g = [w.grad.double() for w in weights]
    before = bits(weights)
    epsilon = moved(Sharpness(weights, 2.0, centralize="ascent"), weights)
    expected = oracle.epsilon("gcsam", [], g, 2.0)
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float64: 1e-6, torch.float16: 4e-3}
    for w, ours, theirs in zip(weights, epsilon, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance[w.dtype])
    assert bits(weights) == before


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_layout_in_memory_changes_nothing(layout: torch.memory_format) -> None:
    """Oracle: the equations in float64, and the weights' strides afterwards."""
    weight = torch.randn(40, 20, 3, 3, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight.grad = torch.randn_like(weight)
    stride = weight.stride()
    epsilon = moved(Sharpness([weight], 0.1, centralize="ascent"), [weight])
    torch.testing.assert_close(
        epsilon, oracle.epsilon("gcsam", [], [weight.grad], 0.1), rtol=1e-9, atol=1e-12
    )
    assert weight.stride() == stride


def test_vectors_may_be_exempt_from_adaptivity() -> None:
    """Oracle: ASAM's equation with T = 1 for vectors."""
    weights = parameters([(5, 6), (7,)], torch.float64)
    sizes = [weights[0].detach().abs() + 0.01, torch.ones(7, dtype=torch.float64)]
    length = oracle.norm([t * w.grad for t, w in zip(sizes, weights, strict=True)])
    expected = [0.3 * t * t * w.grad / length for t, w in zip(sizes, weights, strict=True)]
    sharpness = Sharpness(weights, 0.3, adaptive=True, eta=0.01, exempt_vectors=True)
    torch.testing.assert_close(moved(sharpness, weights), expected, rtol=1e-9, atol=1e-12)


# --- The way back


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(st.floats(width=32), st.sampled_from(FLOATS)), min_size=1, max_size=40),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    st.sampled_from([None, RuntimeError, KeyboardInterrupt, torch.OutOfMemoryError]),
)
def test_weights_come_back_bit_for_bit(values: list[float], dtype: torch.dtype, error: type | None) -> None:
    """Oracle: the bytes before, NaN, infinities and negative zeros among them."""
    weights = [torch.tensor(values).to(dtype).requires_grad_(), *parameters([(6, 7)], dtype)]
    weights[0].grad = torch.ones_like(weights[0])
    before = bits(weights)
    sharpness = Sharpness(weights, 0.1, centralize="ascent")

    def body() -> None:
        with sharpness.perturbed():
            weights[0].grad = None
            if error is not None:
                raise error

    if error is None:
        body()
    else:
        with pytest.raises(error):
            body()
    assert bits(weights) == before


@pytest.mark.parametrize("fault", [float("inf"), float("nan")])
def test_a_fault_in_the_gradient_is_handed_on_and_leaves_no_trace(fault: float) -> None:
    """Oracle: NaN while perturbed, for any second pass to see; the old bytes after; a clean next ascent."""
    weights = parameters([(50, 60), (7,)])
    before = bits(weights)
    weights[1].grad[3] = fault
    sharpness = Sharpness(weights, 0.1, centralize="ascent")
    with sharpness.perturbed():
        assert all(bool(w.isnan().all()) for w in weights)
    assert not bool(torch.isfinite(sharpness.norm))
    assert bits(weights) == before
    weights[1].grad[3] = 1.0
    assert all(bool(e.isfinite().all()) for e in moved(sharpness, weights))


@pytest.mark.parametrize("after", [1, 2, 5])
@pytest.mark.parametrize("adaptive", [False, True])
def test_an_interrupt_half_way_up_is_undone(
    after: int, adaptive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the bytes before an ascent that Ctrl-C breaks off between two operations."""
    weights = parameters([(3000, 900), (40, 30), (7,)])
    before = bits(weights)
    sharpness = Sharpness(weights, 0.1, centralize="ascent", adaptive=adaptive)
    moved(sharpness, weights)

    class Breaking(TorchDispatchMode):
        left = after

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func._schema.name.endswith(("::_foreach_add_", "::_foreach_copy_", "::sub")):
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt
            return result

    with pytest.raises(KeyboardInterrupt), Breaking(), sharpness.perturbed():
        pass
    assert bits(weights) == before
    assert float(oracle.norm(moved(sharpness, weights))) > 0


def test_gradients_may_appear_and_vanish_between_the_passes() -> None:
    """Oracle: only what had a gradient in the first pass moves; so on later steps with another set."""
    weights = parameters([(5, 6), (7,)], torch.float64)
    sharpness = Sharpness(weights, 0.1)
    for present in (0, 1, 0):
        for number, w in enumerate(weights):
            w.grad = torch.ones_like(w) if number == present else None
        before = bits(weights)
        with sharpness.perturbed():
            weights[1 - present].grad = torch.ones_like(weights[1 - present])
            weights[present].grad = None
            assert bits(weights)[1 - present] == before[1 - present]
            assert bits(weights)[present] != before[present]
        assert bits(weights) == before


def test_weights_replaced_between_steps_are_followed() -> None:
    """Oracle: a parameter whose storage or type changed (model.to) still ascends and returns."""
    weights = parameters([(300, 400)])
    sharpness = Sharpness(weights, 0.1)
    moved(sharpness, weights)
    for replacement in (torch.randn(300, 400), torch.randn(300, 400).double()):
        weights[0].data = replacement
        weights[0].grad = torch.randn_like(weights[0])
        before = bits(weights)
        assert float(moved(sharpness, weights)[0].norm()) == pytest.approx(0.1, rel=1e-4)
        assert bits(weights) == before


def test_perturbed_twice_is_refused() -> None:
    """Oracle: the inner ascent raises, and the outer one still comes back."""
    weights = parameters([(5, 6)])
    before = bits(weights)
    sharpness = Sharpness(weights, 0.1)
    with pytest.raises(RuntimeError, match="perturbed already"), sharpness.perturbed(), sharpness.perturbed():
        pass
    assert bits(weights) == before


def test_no_gradient_at_all_is_refused() -> None:
    """Oracle: a forgotten backward pass is an error, not a plain step in disguise."""
    weights = [torch.ones(3, requires_grad=True)]
    with pytest.raises(RuntimeError, match="backward"), Sharpness(weights, 0.1).perturbed():
        pass


# --- Misuse


def _variants() -> Iterator[Any]:
    yield lambda: MomentumSAM(parameters([(3,)])), "optimizer"
    yield lambda: MomentumSAM(torch.optim.SGD(parameters([(3,)]))), "momentum"
    yield lambda: Sharpness([]), "no parameters"
    yield lambda: Sharpness([{"params": parameters([(3,)]), "rho": -1.0}]), "rho"
    yield lambda: build("sam", parameters([(3,)]), base="lion"), "base"
    yield lambda: build("adamm", parameters([(3,)])), "optimizer"


@pytest.mark.parametrize(("make", "word"), list(_variants()))
def test_misuse_is_refused(make: Any, word: str) -> None:
    """Oracle: the errors in the docstrings."""
    with pytest.raises(ValueError, match=word):
        make()


def test_nan_payload_is_a_bit_pattern() -> None:
    """Oracle: a NaN with its own payload, as struct packs it."""
    odd = struct.unpack("<f", struct.pack("<I", 0x7FC0BEEF))[0]
    weights = [torch.tensor([odd, 1.0]).requires_grad_()]
    before = bits(weights)
    weights[0].grad = torch.ones(2)
    with Sharpness(weights, 0.1).perturbed():
        pass
    assert bits(weights) == before

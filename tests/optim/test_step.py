"""One whole training step: what the two passes share, what is skipped, and what goes with it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from gcsam_med.optim import (
    BASES,
    OPTIMIZERS,
    RandomState,
    Sharpness,
    build,
    frozen_batchnorm,
    leading_part,
    training_step,
)
from gcsam_med.optim.step import _step_unless
from tests.optim.test_ascent import bits

ASCENDING = [name for name, method in OPTIMIZERS.items() if method.ascent]
Pair = tuple[Tensor, Tensor]


class HomeMadeNorm(nn.Module):
    """Normalises by the batch and keeps running statistics in its own way: by a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running_scale = 0.9 * self.running_scale + 0.1 * x.detach().std()
        return x / x.detach().std()


def small_net(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),  # a bias before BatchNorm would have no gradient but rounding
        nn.BatchNorm2d(4),
        nn.ReLU(),
        HomeMadeNorm(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )


def data(count: int = 8, seed: int = 1) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.randint(
        0, 3, (count,), generator=generator
    )


def loss_on(model: nn.Module, share: float = 1.0) -> Callable[[Pair], Tensor]:
    return lambda batch: share * nn.functional.cross_entropy(model(batch[0]), batch[1])


def weights(model: nn.Module) -> list[Tensor]:
    return list(model.parameters())


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[bytes]:
    state = [v for p in weights(model) for v in optimizer.state.get(p, {}).values() if isinstance(v, Tensor)]
    return bits([*weights(model), *model.buffers(), *state])


# --- What the passes share


def test_running_statistics_are_those_of_the_first_pass() -> None:
    """Oracle: a forward pass of a twin at the same weights, BatchNorm and a home-made norm alike."""
    model = small_net()
    twin = copy.deepcopy(model)
    batch = data()
    twin(batch[0])
    optimizer, sharpness = build("gcsam", model.parameters(), rho=0.5)
    training_step(model, optimizer, sharpness, [batch], loss_on(model))
    assert bits(list(model.buffers())) == bits(list(twin.buffers()))
    assert int(model[1].num_batches_tracked) == 1


def test_dropout_draws_the_same_mask_in_both_passes() -> None:
    """Oracle: the masks themselves, as a layer in the model sees them; and other ones on the next step."""
    model = small_net(dropout=0.5)
    seen: list[Tensor] = []
    model[4].register_forward_hook(lambda _, inputs, output: seen.append(output == 0))
    optimizer, sharpness = build("sam", model.parameters(), rho=1e-8)
    for _ in range(2):
        training_step(model, optimizer, sharpness, [data()], loss_on(model))
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[0], seen[2])


def test_accumulation_equals_the_whole_batch() -> None:
    """Oracle: the step on the batch in one piece. GroupNorm, since BatchNorm sees micro-batches by nature."""
    results = []
    for pieces in (1, 4):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(144, 3)
        )
        model.double()
        optimizer, sharpness = build(
            "gcsam", model.parameters(), rho=0.2, base_options={"lr": 0.1}, base="sgd"
        )
        x, y = data()
        micro = list(zip(x.double().chunk(pieces), y.chunk(pieces), strict=True))
        for _ in range(3):
            result = training_step(model, optimizer, sharpness, micro, loss_on(model, 1 / pieces))
        results.append([result.loss, *(p.detach() for p in weights(model))])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


def test_part_of_the_batch_ascends_and_all_of_it_descends() -> None:
    """Oracle: the pattern written out by hand, first pass on two of eight samples."""
    models = [small_net(), small_net()]
    x, y = data()
    ours, sharpness = build("sam", models[0].parameters(), rho=0.3, base="sgd", ascent_fraction=0.25)
    training_step(models[0], ours, sharpness, [(x, y)], loss_on(models[0]))
    hand = torch.optim.SGD(models[1].parameters(), momentum=0.9)
    loss_on(models[1])((x[:2], y[:2])).backward()
    with Sharpness(hand, 0.3).perturbed(), frozen_batchnorm(models[1]):
        hand.zero_grad()
        loss_on(models[1])((x, y)).backward()
    hand.step()
    assert bits(weights(models[0])) == bits(weights(models[1]))


class Named(NamedTuple):
    """A batch with a number beside its tensors."""

    images: Tensor
    share: float


def test_leading_part_cuts_every_tensor_and_refuses_the_unknown() -> None:
    """Oracle: slices by hand."""
    x = torch.arange(10)
    cut = leading_part({"a": [x, (x, None)], "b": Named(x, 0.5), "c": torch.tensor(3.0), "d": "name"}, 0.25)
    assert torch.equal(cut["a"][0], x[:3])
    assert torch.equal(cut["a"][1][0], x[:3])
    assert torch.equal(cut["b"].images, x[:3])
    assert (cut["b"].share, float(cut["c"]), cut["d"]) == (0.5, 3.0, "name")
    assert len(leading_part(x, 0.01)) == 2
    assert leading_part(x, 1.0) is x
    with pytest.raises(TypeError, match="object"):
        leading_part([object()], 0.5)


@pytest.mark.parametrize(
    ("name", "passes"), [("adam", 1), ("msam", 1), ("sam", 2), ("gcsam", 2), ("gsam", 2)]
)
def test_each_method_runs_the_passes_that_its_line_in_the_table_tells(name: str, passes: int) -> None:
    """Oracle: forward calls of the network, counted."""
    model = small_net()
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    optimizer, sharpness = build(name, model.parameters())
    results = [training_step(model, optimizer, sharpness, [data()], loss_on(model)) for _ in range(3)]
    assert len(calls) == 3 * passes
    assert [r.passes for r in results] == [passes] * 3
    assert OPTIMIZERS[name].passes() == passes


@pytest.mark.parametrize("name", ["gcsam", "looksam", "msam"])
def test_every_kth_step_ascends(name: str) -> None:
    """Oracle: k = 3 by hand."""
    model = small_net()
    optimizer, sharpness = build(name, model.parameters(), every=3)
    ascends = []
    for _ in range(7):
        ascends.append(sharpness.ascends_next_step)
        result = training_step(model, optimizer, sharpness, [data()], loss_on(model))
        assert result.passes == (2 if ascends[-1] and name != "msam" else 1)
    assert ascends == [True, False, False, True, False, False, True]


# --- Faults


class Faulty(nn.Module):
    """The identity, whose backward pass puts a fault into the gradient on chosen calls."""

    def __init__(self, fault: float, calls: set[int]) -> None:
        super().__init__()
        self.fault, self.calls, self.count = fault, calls, 0

    def forward(self, x: Tensor) -> Tensor:
        number, self.count = self.count, self.count + 1
        if number in self.calls and x.requires_grad:
            x.register_hook(lambda g: torch.full_like(g, self.fault))
        return x


@pytest.mark.parametrize(
    ("name", "bad_pass"),
    [(name, number) for name in ASCENDING for number in range(1 + OPTIMIZERS[name].extra_passes)],
)
@pytest.mark.parametrize("fault", [float("inf"), float("nan")])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_fault_in_either_pass_skips_the_step_and_nothing_else(
    name: str, fault: float, bad_pass: int, scaled: bool
) -> None:
    """Oracle: the bytes of weights, optimizer state and buffers before the bad step."""
    model = small_net()
    faulty = Faulty(fault, set())
    full = nn.Sequential(model, faulty)
    optimizer, sharpness = build(name, model.parameters(), base_options={"lr": 0.01})
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
    good = training_step(full, optimizer, sharpness, [data()], loss_on(full), scaler=scaler, max_norm=1.0)
    assert not good.skipped
    if name == "looksam":
        sharpness.steps = sharpness.every  # so that the bad step is one that ascends
    before = everything(model, optimizer)

    faulty.calls = {faulty.count + bad_pass}
    bad = training_step(full, optimizer, sharpness, [data()], loss_on(full), scaler=scaler, max_norm=1.0)
    assert bad.skipped
    assert everything(model, optimizer) == before
    if scaler is not None:
        assert scaler.get_scale() == 512.0

    after = training_step(
        full, optimizer, sharpness, [data(seed=3)], loss_on(full), scaler=scaler, max_norm=1.0
    )
    assert not after.skipped
    # What looksam keeps is gone, so that its steps are plain ones up to the next ascent.
    assert after.passes == (1 if name == "looksam" else good.passes)
    assert everything(model, optimizer) != before
    assert all(bool(p.isfinite().all()) for p in weights(model))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("skips", [(True, False), (False, True)])
def test_a_fused_optimizer_skips_without_the_host(base: str, skips: tuple[bool, bool]) -> None:
    """Oracle: the same optimizer without the step that is skipped, momentum and count of steps included."""
    results = []
    for without in (False, True):
        model = small_net()
        optimizer, _ = build(base, model.parameters(), base_options={"lr": 0.1, "fused": True})
        for number, skip in enumerate((*skips, False)):
            if without and skip:
                continue
            optimizer.zero_grad()
            loss_on(model)(data(seed=number)).backward()
            if without:
                optimizer.step()
            else:
                _step_unless(torch.tensor(skip), optimizer)
        state = [optimizer.state[p][k] for p in weights(model) for k in sorted(optimizer.state[p])]
        results.append(bits([*weights(model), *(s for s in state if isinstance(s, Tensor))]))
    assert results[0] == results[1]


def test_nan_in_the_images_does_not_poison_running_statistics() -> None:
    """Oracle: finite buffers, equal to those before, after a batch with a NaN pixel."""
    model = small_net()
    optimizer, sharpness = build("gcsam", model.parameters())
    before = everything(model, optimizer)
    x, y = data()
    x[0, 0, 0, 0] = float("nan")
    assert training_step(model, optimizer, sharpness, [(x, y)], loss_on(model)).skipped
    assert everything(model, optimizer) == before


def test_an_exception_in_the_second_pass_leaves_weights_and_buffers() -> None:
    """Oracle: the bytes of the weights; the buffers of the first pass."""
    model = small_net()
    optimizer, sharpness = build("gcsam", model.parameters())
    before = bits(weights(model))
    calls: list[int] = []

    def failing(batch: Pair) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return loss_on(model)(batch)

    with pytest.raises(torch.OutOfMemoryError):
        training_step(model, optimizer, sharpness, [data()], failing)
    assert bits(weights(model)) == before
    assert int(model[1].num_batches_tracked) == 1


def test_no_micro_batch_is_an_error() -> None:
    """Oracle: the message."""
    model = small_net()
    optimizer, sharpness = build("adam", model.parameters())
    with pytest.raises(ValueError, match="micro-batch"):
        training_step(model, optimizer, sharpness, [], loss_on(model))


# --- What goes with it


@pytest.mark.parametrize("name", ["adam", "gcsam", "gsam", "looksam", "msam", "friendly-sam"])
def test_a_scaler_changes_nothing_when_nothing_overflows(name: str) -> None:
    """Oracle: the same steps without a scaler, bit for bit: scales are powers of two."""
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=256.0)):
        model = small_net()
        optimizer, sharpness = build(name, model.parameters())
        for number in range(3):
            batch = data(seed=number)
            training_step(model, optimizer, sharpness, [batch], loss_on(model), scaler=scaler, max_norm=0.5)
        results.append(everything(model, optimizer))
    assert results[0] == results[1]


def test_fp16_overflow_finds_its_scale_and_trains() -> None:
    """Oracle: a falling loss in fp16, after steps skipped because the first scale is far too high."""
    model = small_net()
    optimizer, sharpness = build("gcsam", model.parameters(), base_options={"lr": 0.01})
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)

    def loss_of(batch: Pair) -> Tensor:
        with torch.autocast("cpu", dtype=torch.float16):
            return nn.functional.cross_entropy(model(batch[0]).float(), batch[1])

    results = [
        training_step(model, optimizer, sharpness, [data()], loss_of, scaler=scaler) for _ in range(40)
    ]
    skipped = [r.skipped for r in results]
    assert skipped[0]
    assert not any(skipped[-10:])
    assert float(results[-1].loss) < 0.5 * float(results[0].loss)


def test_bf16_autocast_trains() -> None:
    """Oracle: a falling loss."""
    model = small_net()
    optimizer, sharpness = build("gcsam", model.parameters(), base_options={"lr": 0.01})

    def loss_of(batch: Pair) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return nn.functional.cross_entropy(model(batch[0]).float(), batch[1])

    losses = [float(training_step(model, optimizer, sharpness, [data()], loss_of).loss) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def test_clipping_is_that_of_torch() -> None:
    """Oracle: clip_grad_norm_ on the descent gradient, by hand."""
    models = [small_net(), small_net()]
    optimizer, sharpness = build("gcsam", models[0].parameters(), base="sgd", base_options={"lr": 0.1})
    result = training_step(models[0], optimizer, sharpness, [data()], loss_on(models[0]), max_norm=0.01)
    hand, ascent = build("gcsam", models[1].parameters(), base="sgd", base_options={"lr": 0.1})
    loss_on(models[1])(data()).backward()
    with ascent.perturbed(), frozen_batchnorm(models[1]):
        hand.zero_grad()
        loss_on(models[1])(data()).backward()
    norm = nn.utils.clip_grad_norm_(models[1].parameters(), 0.01)
    hand.step()
    assert torch.equal(norm, result.gradient_norm)
    assert bits(weights(models[0])) == bits(weights(models[1]))


BASE_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("adam", {"fused": True}),
    ("adamw", {"fused": True}),
    ("sgd", {"fused": True}),
    ("adam", {"foreach": True}),
    ("adam", {"amsgrad": True}),
    ("sgd", {"nesterov": True}),
]


@pytest.mark.parametrize("name", ["gcsam", "looksam", "msam"])
@pytest.mark.parametrize(("base", "options"), BASE_OPTIONS)
def test_any_flavour_of_base_optimizer(name: str, base: str, options: dict[str, Any]) -> None:
    """Oracle: the plain flavour of the same optimizer, where they mean the same; a falling loss for all."""
    results = []
    for extra in ({}, options):
        model = small_net()
        optimizer, sharpness = build(name, model.parameters(), base=base, base_options={"lr": 0.01} | extra)
        losses = [
            float(training_step(model, optimizer, sharpness, [data()], loss_on(model)).loss)
            for _ in range(12)
        ]
        assert losses[-1] < losses[0]
        results.append([p.detach() for p in weights(model)])
    if not {"amsgrad", "nesterov"} & set(options):
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def test_averaged_weights_see_no_perturbation() -> None:
    """Oracle: an EMA computed by hand from the weights after each step."""
    model = small_net()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    optimizer, sharpness = build("gcsam", model.parameters(), rho=1.0, base_options={"lr": 0.1})
    expected: list[Tensor] | None = None
    for _ in range(3):
        training_step(model, optimizer, sharpness, [data()], loss_on(model))
        average.update_parameters(model)
        now = [p.detach().clone() for p in weights(model)]
        expected = (
            now if expected is None else [0.5 * a + 0.5 * b for a, b in zip(expected, now, strict=True)]
        )
    torch.testing.assert_close(list(average.module.parameters()), expected)


@pytest.mark.parametrize("name", ["gcsam", "gsam", "looksam"])
def test_the_step_written_out_is_the_same_step(name: str) -> None:
    """Oracle: the pattern of docs/optimizers.md against `training_step`, with dropout and BatchNorm."""
    results = []
    for written_out in (False, True):
        model = small_net(dropout=0.3)
        torch.manual_seed(5)
        optimizer, sharpness = build(name, model.parameters(), base_options={"lr": 0.01})
        for seed in range(4):
            batch = data(seed=seed)
            if not written_out:
                training_step(model, optimizer, sharpness, [batch], loss_on(model))
                continue
            optimizer.zero_grad()
            first = sharpness.needs_first_pass
            random_state = RandomState()
            if first:
                loss_on(model)(batch).backward()
                random_state.rewind()
            with sharpness.perturbed(), frozen_batchnorm(model) if first else nullcontext():
                optimizer.zero_grad()
                loss_on(model)(batch).backward()
            sharpness.finish_gradients()
            optimizer.step()
        results.append(everything(model, optimizer))
    assert results[0] == results[1]


def test_a_scheduler_drives_the_base_optimizer() -> None:
    """Oracle: the rate of a cosine schedule at each step, and no warning about the order of calls."""
    model = small_net()
    optimizer, sharpness = build("gcsam", model.parameters(), base_options={"lr": 0.1})
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        training_step(model, optimizer, sharpness, [data()], loss_on(model))
        scheduler.step()
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-5)

"""Batches, losses, schedules, validation and the plan, each against its definition."""

from __future__ import annotations

import math
import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from monai.metrics import DiceMetric
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.errors import GcsamMedError, InputError
from gcsam_med.files import locked
from gcsam_med.losses import build_loss, class_weights
from gcsam_med.runs import load_model
from gcsam_med.training import make_plan, train
from gcsam_med.training import steps as steps_module
from gcsam_med.training.averaging import update_average
from gcsam_med.training.batches import Batches, StoredCases
from gcsam_med.training.loop import lr_factor
from gcsam_med.training.plan import Plan
from gcsam_med.training.validation import draw_predictions, validate
from tests.builders import make_prepared, reseal
from tests.training.test_loop import Recorder, settings


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_prepared(root, n=36, size=32)
    return root


def plan_of(data_root: Path, **changes: object) -> Plan:
    from gcsam_med.datasets.prepared import open_prepared

    return make_plan(settings(data_root, **changes), open_prepared(data_root, "toy"))


@given(batch=st.integers(1, 20), parts=st.integers(1, 3), world=st.integers(1, 3))
def test_an_epoch_holds_each_case_once_in_even_steps(
    data_root_session: Path, batch: int, parts: int, world: int
) -> None:
    plan = plan_of(data_root_session, batch_size=batch, accumulate=parts)
    assume(batch * parts > 1)  # else there are steps of fewer cases than processes, which are refused
    batches = Batches(plan, 0, world)
    for epoch in range(2):
        steps = [batches.rows(epoch * batches.steps_per_epoch + i) for i in range(batches.steps_per_epoch)]
        assert sorted(np.concatenate(steps)) == sorted(plan.train_rows)
        sizes = [len(rows) for rows in steps]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch * parts * world


@pytest.fixture(scope="session")
def data_root_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_prepared(root, n=36, size=32)
    return root


def test_processes_and_micro_batches_share_a_step(data_root: Path) -> None:
    """Oracle: the step of one process. The shards hold its cases once, their shares sum to the processes."""
    plan = plan_of(data_root, batch_size=2, accumulate=2, augment=False)
    shards = [Batches(plan, rank, 2)[1] for rank in range(2)]
    whole = Batches(plan_of(data_root, batch_size=8, augment=False))[1][0]
    images = torch.cat([part.images for shard in shards for part in shard])
    order = torch.cdist(images.flatten(1), whole.images.flatten(1)).argmin(dim=1)
    assert sorted(order.tolist()) == list(range(len(whole.images)))
    assert sum(part.share for shard in shards for part in shard) == pytest.approx(2)


def test_epochs_differ_in_order_and_augmentation(data_root: Path) -> None:
    batches = Batches(plan_of(data_root, batch_size=8))
    assert not np.array_equal(batches.rows(0), batches.rows(batches.steps_per_epoch))
    torch.testing.assert_close(batches[0][0].images, batches[0][0].images, rtol=0, atol=0)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("first", [0, 3])
def test_what_is_read_ahead_is_what_is_asked_for(data_root: Path, task: str, first: int) -> None:
    """Oracle: the batches made one by one, and from images that live on the device; over two epochs."""
    batches = Batches(plan_of(data_root, task=task, batch_size=4, accumulate=2))
    resident = Batches(plan_of(data_root, task=task, batch_size=4, accumulate=2))
    resident.cases.keep()
    last = 2 * batches.steps_per_epoch
    pairs = zip(batches.stream(first, last), resident.stream(first, last), strict=True)
    for step, (read, kept) in enumerate(pairs, first):
        for one, two, three in zip(read, kept, batches[step], strict=True):
            assert torch.equal(one.images, three.images)
            assert torch.equal(one.targets, three.targets)
            assert torch.equal(two.images, three.images)
            assert torch.equal(two.targets, three.targets)
            assert one.share == two.share == three.share
    assert step == last - 1


def test_the_training_images_are_standardized(data_root: Path) -> None:
    """Oracle: mean 0 and standard deviation 1 over all training images, by definition."""
    plan = plan_of(data_root, augment=False, batch_size=100)
    images = Batches(plan)[0][0].images
    assert float(images.mean()) == pytest.approx(0, abs=1e-3)
    assert float(images.std()) == pytest.approx(1, abs=1e-3)


@given(warmup=st.floats(0, 5), steps=st.integers(1, 30), epochs=st.integers(1, 12))
def test_the_learning_rate_rises_then_falls(warmup: float, steps: int, epochs: int) -> None:
    config = settings(Path("data"), warmup_epochs=warmup, epochs=epochs)
    factors = [lr_factor(config, i, steps) for i in range(steps * epochs)]
    top = factors.index(max(factors))
    assert all(0 < f <= 1 for f in factors)
    assert all(a < b for a, b in pairwise(factors[: top + 1]))
    assert all(a >= b for a, b in pairwise(factors[top:]))


def test_the_cosine_is_the_paper_s(data_root: Path) -> None:
    """Oracle: Loshchilov and Hutter 2017, equation 5, with eta_min 0."""
    config = settings(data_root, warmup_epochs=0, epochs=10)
    for step in range(50):
        assert lr_factor(config, step, 5) == pytest.approx(0.5 * (1 + math.cos(math.pi * step / 50)))


def test_class_weights_are_inverse_frequencies(data_root: Path) -> None:
    """Oracle: scikit-learn's 'balanced' weights."""
    from sklearn.utils.class_weight import compute_class_weight

    plan = plan_of(data_root, task="classification")
    labels = plan.labels(plan.train_rows)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = class_weights(plan.class_counts())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["cross-entropy", "focal"])
def test_a_loss_is_a_mean_over_cases(loss: str, data_root: Path) -> None:
    """Oracle: the mean of the losses of single cases; so shards of a batch add up to it."""
    plan = plan_of(data_root, task="classification", loss=loss)
    function = build_loss(loss, class_weights(plan.class_counts()), smoothing=0.1)
    logits, targets = torch.randn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    single = [function(logits[i : i + 1], targets[i : i + 1]) for i in range(7)]
    torch.testing.assert_close(function(logits, targets), torch.stack(single).mean())


def val_cases(plan: Plan) -> StoredCases:
    return StoredCases(plan, plan.val_rows, torch.device("cpu"))


class Fixed(nn.Module):
    """Gives prepared logits, a batch at a time."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits, self.place = logits, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.place += len(images)
        return self.logits[self.place - len(images) : self.place]


def test_validation_dice_is_monai_s(data_root: Path) -> None:
    """Oracle: MONAI's DiceMetric; cases without a lesion do not count."""
    plan = plan_of(data_root, classes=["benign", "malignant", "normal"])
    truth = torch.from_numpy(plan.dataset.masks(plan.val_rows)).unsqueeze(1).float()
    logits = torch.randn(truth.shape) + 2 * truth
    loss = build_loss("dice-ce")
    found = validate(plan, Fixed(logits), loss, val_cases(plan), nullcontext)
    expected = DiceMetric(ignore_empty=True)((logits >= 0).float(), truth)
    assert found["val_dice"] == pytest.approx(float(expected.nanmean()), abs=1e-6)
    singles = [loss(logits[i : i + 1], truth[i : i + 1]) for i in range(len(truth))]
    assert found["val_loss"] == pytest.approx(float(torch.stack(singles).mean()), abs=1e-5)


def test_validation_auc_is_scikit_learn_s(data_root: Path) -> None:
    """Oracle: scikit-learn's one-against-the-rest macro AUC and balanced accuracy."""
    plan = plan_of(data_root, task="classification")
    labels = plan.labels(plan.val_rows)
    logits = torch.randn(len(labels), 3)
    found = validate(plan, Fixed(logits), build_loss("cross-entropy"), val_cases(plan), nullcontext)
    probabilities = logits.softmax(dim=1).numpy()
    assert found["val_auc"] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert found["val_balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, probabilities.argmax(axis=1))
    )


def test_the_moving_average_is_its_definition() -> None:
    """Oracle: a <- k a + (1 - k) w, k = min(decay, (1 + n) / (10 + n)), by hand; nothing if skipped."""
    network = nn.Linear(1, 1, bias=False).double()
    network.weight.data.fill_(1.0)
    averaged = AveragedModel(network, device=torch.device("cpu"))
    expected = None
    for n in range(12):
        network.weight.data.fill_(float(n))
        update_average(averaged, network, 0.5, torch.tensor(False))
        update_average(averaged, nn.Linear(1, 1, bias=False).double(), 0.5, torch.tensor(True))
        keep = min(0.5, (1 + n) / (10 + n))
        expected = float(n) if expected is None else keep * expected + (1 - keep) * n
        assert averaged.module.weight.item() == pytest.approx(expected)


def test_non_finite_steps_are_skipped_counted_and_in_the_end_stop(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"n": 0}
    original = steps_module.training_step

    def poisoned(*args: Any, **rest: Any) -> object:
        calls["n"] += 1
        bad = calls["n"] in {2, 3} or calls["n"] > 5
        *before, loss_of = args
        return original(*before, lambda b: loss_of(b) * (float("nan") if bad else 1.0), **rest)

    monkeypatch.setattr(steps_module, "training_step", poisoned)
    recorder = Recorder()
    with pytest.raises(InputError, match=r"in 4 steps in a row, up to step 9 \(its cases: ") as stopped:
        train(settings(data_root, epochs=9, nonfinite_limit=4), tmp_path / "r", recorder)
    assert "--lr" in stopped.value.advice
    assert recorder.epochs[0].row["skipped_steps"] == 2
    assert math.isfinite(float(recorder.epochs[0].row["train_loss"]))


def test_running_out_of_memory_gives_numbers(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*args: object, **rest: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(steps_module, "training_step", too_large)
    with pytest.raises(GcsamMedError, match="batch size 6") as stopped:
        train(settings(data_root), tmp_path / "r")
    assert stopped.value.exit_code == 3
    assert "--batch-size 3 --accumulate 2" in stopped.value.advice


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from gcsam_med.files import locked\n"
        "from gcsam_med.errors import InputError\n"
        "try:\n"
        "    with locked(pathlib.Path(sys.argv[1]) / '.lock', 'training in r'): print('in')\n"
        "except InputError as error: print(error.message)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with locked(tmp_path / ".lock", "training in r"):
        refused = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    free = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "is training in" in refused
    assert free == "in\n"


def test_the_plan_names_what_does_not_fit(data_root: Path) -> None:
    with pytest.raises(InputError, match="Unknown segmentation model 'unett'") as unknown:
        plan_of(data_root, model="unett")
    assert "'unet'" in unknown.value.advice
    with pytest.raises(InputError, match="is for classification, but the task is segmentation"):
        plan_of(data_root, model="resnet18")
    with pytest.raises(InputError, match="Unknown optimizer"):
        plan_of(data_root, optimizer="gsamm")
    with pytest.raises(InputError, match="does not fit segmentation"):
        plan_of(data_root, loss="focal")
    with pytest.raises(InputError, match="at least two classes"):
        plan_of(data_root, task="classification", classes=["benign"])
    with pytest.raises(InputError, match=r"class of 'toy' 'malignnt'"):
        plan_of(data_root, classes=["malignnt"])


def test_segmentation_trains_on_lesions_and_classification_on_all(data_root: Path) -> None:
    plan = plan_of(data_root)
    labels = plan.dataset.manifest["label"].iloc[plan.train_rows]
    assert set(labels) == {"benign", "malignant"}
    every = plan_of(data_root, task="classification")
    assert len(every.train_rows) > len(plan.train_rows)
    assert every.classes == ("benign", "malignant", "normal")


def in_colour(dataset: PreparedDataset) -> None:
    """Make a grey toy data set one in colour, its three channels different."""
    grey = np.load(dataset.root / "images.npy")
    np.save(dataset.root / "images.npy", np.stack([grey, grey // 2, 255 - grey], axis=-1))
    reseal(dataset.root, channels=3)


def test_grey_weights_go_on_with_colour_images(data_root: Path, tmp_path: Path) -> None:
    """The network stays grey; training and the saved model turn colour into the same input."""
    train(settings(data_root, epochs=1), tmp_path / "grey")
    in_colour(make_prepared(tmp_path / "data", n=36, size=32))
    weights = tmp_path / "grey" / "model" / "weights.safetensors"
    config = settings(tmp_path / "data", weights=weights, epochs=1, batch_size=100, augment=False)
    train(config, tmp_path / "colour")
    plan = plan_of(tmp_path / "data", weights=weights, batch_size=100, augment=False)
    model = load_model(tmp_path / "colour" / "model")
    assert model.card.in_channels == 1
    batches = Batches(plan)
    seen = batches[0][0].images
    assert float(seen.mean()) == pytest.approx(0, abs=1e-2)
    torch.testing.assert_close(seen, model.tensor(plan.dataset.images(batches.rows(0))), rtol=0, atol=0)


def test_the_plan_says_who_takes_no_part_and_what_validation_cannot_judge(tmp_path: Path) -> None:
    """Oracle: the toy's splits counted by hand; a validation split that holds one class only."""
    dataset = make_prepared(tmp_path, n=36, size=32)
    plan = plan_of(tmp_path, task="segmentation")
    labels, split = dataset.manifest["label"], dataset.manifest["split"]
    healthy = int(((labels == "normal") & (split == "train")).sum())
    assert len(plan.train_rows) == int((split == "train").sum()) - healthy
    told = f"Of the train split {healthy} images without a lesion take no part in training."
    assert told in plan.warnings
    path = dataset.root / "manifest.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[(table["split"] == "val") & (table["label"] == "malignant"), "split"] = "train"
    table.to_csv(path, index=False)
    reseal(dataset.root)
    warnings = " ".join(plan_of(tmp_path, task="classification", classes=["benign", "malignant"]).warnings)
    assert "Validation holds no case of malignant" in warnings
    assert "--fold" in warnings


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_the_picture_of_predictions_shows_them(data_root: Path, tmp_path: Path, task: str) -> None:
    """Oracle: it changes where the answers change, and not otherwise; 8 tiles of at least 160 pixels."""
    plan = plan_of(data_root, task=task)
    cases = val_cases(plan)
    drawn = min(8, len(plan.val_rows))
    shape = (drawn, 1, 32, 32) if task == "segmentation" else (drawn, 3)
    logits = torch.randn(shape)
    pictures = []
    for answer in (logits, logits, -logits):
        draw_predictions(tmp_path / "p.png", plan, Fixed(answer), cases, nullcontext)
        pictures.append((tmp_path / "p.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (4 * 160, -(-drawn // 4) * 160)

"""The table of losses, each against its definition."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn import functional

from gcsam_med.errors import InputError
from gcsam_med.losses import LOSSES, build_loss, check_loss, default_loss


@pytest.mark.parametrize("name", LOSSES)
def test_every_row_is_complete(name: str) -> None:
    """Oracle: the table's promises; a loss is a scalar above 0 with a gradient, small for a sure answer."""
    spec = LOSSES[name]
    assert spec.title
    assert re.search(r"arXiv \d{4}\.\d{4,5}|doi 10\.", spec.source)
    check_loss(name, spec.task)
    truth = torch.tensor([0, 2, 1])
    sure = 20.0 * functional.one_hot(truth, 3).float() - 10
    if spec.task == "segmentation":
        truth = (torch.rand(3, 1, 8, 8) > 0.5).float()
        sure = 20 * truth - 10
    logits = torch.randn_like(sure).requires_grad_()
    loss = build_loss(name)(logits, truth)
    loss.backward()
    assert loss.ndim == 0
    assert logits.grad is not None
    assert float(build_loss(name)(sure, truth)) < 1e-3 < loss.item()


def test_there_is_one_default_a_task_and_names_are_checked() -> None:
    assert [default_loss("segmentation"), default_loss("classification")] == ["dice-ce", "cross-entropy"]
    assert sum(spec.default for spec in LOSSES.values()) == 2
    with pytest.raises(InputError, match="Unknown segmentation loss 'dice-cee'") as caught:
        check_loss("dice-cee", "segmentation")
    assert "'dice-ce'" in caught.value.advice

"""Cases worth looking at: what went wrong, what went well, and where a classifier looked.

The last is Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from gcsam_med.config import EvaluateOptions
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.evaluation.context import EvaluationContext, TaskResult, open_evaluation, operating_point
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.drawing import PREDICTION, TRUTH, draw_outlines, to_rgb
from gcsam_med.reporting.report import Exhibit
from gcsam_med.runs import network_outputs

if TYPE_CHECKING:
    import torch
    from torch import nn

A_KIND = 4
SIDE = 400  # pixels of a picture's longer side


def gallery(context: EvaluationContext, result: TaskResult, track: Track = silent) -> tuple[Exhibit, ...]:
    """Choose cases by their metrics and draw them: at most ``A_KIND`` of each kind, failures first."""
    segmentation = context.model.card.task == "segmentation"
    candidates = choose_masks(result.cases) if segmentation else choose_calls(result)
    chosen = list(pick(candidates, context.groups(result.rows)))
    places = np.array(sorted({place for _, place in chosen}), dtype=np.int64)
    if not len(places):
        return ()
    drawn: dict[int, np.ndarray] = {}
    with_heat: set[int] = set()
    for one in context.models:
        mine = places[np.isin(result.rows[places], one.selection.rows)]
        if len(mine) and segmentation:
            drawn |= _draw_masks(one, result, mine, _threshold(one, context, result), track)
        elif len(mine):
            pictures, heat = _draw_calls(one, result, mine)
            drawn |= pictures
            with_heat |= set(pictures) if heat else set()
    exhibits = []
    for kind, place in chosen:
        case = result.cases.iloc[place]
        caption = _mask_caption(case) if segmentation else _call_caption(case)
        label = str(case["label"])
        alt = f"{kind}: image {case['case_id']}, {label or 'no label'}. {caption}"
        exhibits.append(
            Exhibit(kind, str(case["case_id"]), label, caption, drawn[place], alt, place in with_heat)
        )
    return tuple(exhibits)


Candidates = Iterator[tuple[str, Sequence[int], int]]  # kind, places in order, how many at most


def pick(candidates: Candidates, groups: np.ndarray) -> Iterator[tuple[str, int]]:
    """Yield kind and place of each case to show: of near-duplicates, or images of one patient, one only."""
    shown = set()
    for kind, places, most in candidates:
        fresh = 0
        for place in places:
            if fresh < most and groups[place] not in shown:
                shown.add(groups[place])
                fresh += 1
                yield kind, int(place)


def choose_masks(cases: pd.DataFrame) -> Candidates:
    """Order the cases of a segmentation, rows of ``cases.csv``, for each kind of picture."""
    dice = cases["dice"].to_numpy(dtype=float)
    missed = np.flatnonzero(cases["missed"].to_numpy() == 1)
    biggest = missed[np.argsort(-cases["area_truth"].to_numpy()[missed], kind="stable")]
    yield "Missed lesions", biggest.tolist(), A_KIND
    rest = np.flatnonzero(~np.isnan(dice) & (cases["missed"].to_numpy() == 0))
    order = rest[np.argsort(dice[rest], kind="stable")].tolist()
    half = len(order) // 2
    yield "Lowest Dice", order[:half], A_KIND
    false = cases["false_positives"].to_numpy() * np.isnan(dice)
    marked = np.argsort(-cases["area_predicted"].to_numpy() * (false > 0), kind="stable")
    yield "Marked on images without a lesion", [int(i) for i in marked if false[i] > 0], A_KIND
    yield "Median Dice", order[half : half + 1], 1
    yield "Highest Dice", order[:half:-1], A_KIND


def choose_calls(result: TaskResult) -> Candidates:
    """Order the cases of a classification for each kind of picture."""
    cases = result.cases
    sure = np.array([case[f"prob_{case['predicted']}"] for _, case in cases.iterrows()], dtype=float)
    right = cases["correct"].to_numpy() == 1
    order = np.argsort(-sure, kind="stable").tolist()
    # With a threshold away from one half, a class can be predicted against the likelier one.
    yield "Confident errors", [i for i in order if not right[i] and sure[i] >= 0.5], 2 * A_KIND
    yield "Other errors", [i for i in order if not right[i] and sure[i] < 0.5], A_KIND
    good = [i for i in order if right[i]]
    yield "Correct and confident", good[:A_KIND], A_KIND
    yield "Correct but not confident", good[A_KIND:][::-1], A_KIND


def _threshold(model: EvaluationContext, whole: EvaluationContext, result: TaskResult) -> float:
    """The threshold that `model` was evaluated at: of pooled models each has its own."""
    own = model.calibration
    pooled = bool(whole.pooled) and result.operating.chosen_on != "given" and own is not None
    return own.threshold if pooled and own is not None else result.operating.threshold


def _draw_masks(
    context: EvaluationContext, result: TaskResult, places: np.ndarray, threshold: float, track: Track
) -> dict[int, np.ndarray]:
    rows = result.rows[places]
    drawn = {}
    stream = network_outputs(context.model, context.dataset.images, rows, track=track, what="Drawing cases")
    for place, (row, square) in zip(places, stream, strict=True):
        picture = view(context.dataset, row)
        shape = picture.shape[:2]
        mask = context.dataset.geometry(row).restore(square) >= threshold
        truth = context.dataset.original_mask(row)
        outlined = draw_outlines(
            picture, [(_fit(truth, shape), TRUTH, False), (_fit(mask, shape), PREDICTION, True)]
        )
        drawn[int(place)] = beside(picture, outlined)
    return drawn


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Put pictures of one height beside each other, uint8 (h, w, 3), a grey line between them."""
    gap = np.full((len(pictures[0]), 6, 3), 128, np.uint8)
    return np.concatenate([part for p in pictures for part in (gap, to_rgb(p))][1:], axis=1)


def draw_compared(
    run_root: Path, split: str, cases: Sequence[str], threshold: float | None = None, **where: Any
) -> dict[str, np.ndarray]:
    """Draw cases of a split as a run answers them, at its own threshold; `where` as in `open_evaluation`.

    A segmentation's picture holds both outlines, a classification's is the image alone.
    """
    context = open_evaluation(run_root, split, **where)
    place = {name: i for i, name in enumerate(context.dataset.manifest["case_id"].astype(str))}
    rows = np.array([place[name] for name in cases], dtype=np.int64)
    if context.model.card.task == "classification":
        return {name: view(context.dataset, row) for name, row in zip(cases, rows, strict=True)}
    threshold = operating_point(context, EvaluateOptions(threshold=threshold)).threshold
    stream = network_outputs(context.model, context.dataset.images, rows)
    drawn = {}
    for name, (row, square) in zip(cases, stream, strict=True):
        picture = view(context.dataset, row)
        mask = context.dataset.geometry(row).restore(square) >= threshold
        truth, answer = (_fit(m, picture.shape[:2]) for m in (context.dataset.original_mask(row), mask))
        drawn[name] = draw_outlines(picture, [(truth, TRUTH, False), (answer, PREDICTION, True)])
    return drawn


def _draw_calls(
    context: EvaluationContext, result: TaskResult, places: np.ndarray
) -> tuple[dict[int, np.ndarray], bool]:
    """Draw each image, and beside it, if the map is fine enough, what raised the score of its class."""
    import torch

    drawn = {}
    rows = result.rows[places]
    classes = context.model.card.classes
    called = [classes.index(str(name)) for name in result.cases["predicted"].iloc[places]]
    batch = context.model.tensor(context.dataset.images(rows))
    cams = grad_cam(
        context.model.network, batch, torch.tensor(called, device=batch.device), _lesion_side(context)
    )
    for i, (place, row) in enumerate(zip(places, rows, strict=True)):
        picture = to_rgb(view(context.dataset, int(row)))
        if cams is not None:
            heat = _heat(context.dataset, int(row), picture, cams[i])
            picture = beside(picture, heat, _colour_bar(len(picture)))
        drawn[int(place)] = picture
    return drawn, cams is not None


def _lesion_side(context: EvaluationContext) -> float:
    """Side of a square as large as the median lesion, in stored pixels; infinite without masks."""
    if not context.dataset.info.has_masks:
        return math.inf
    rows = context.selection.rows[:: math.ceil(len(context.selection.rows) / 200)]
    areas = np.array([context.dataset.masks([row]).sum() for row in rows])
    return float(np.sqrt(np.median(areas[areas > 0]))) if (areas > 0).any() else math.inf


def _colour_bar(height: int) -> np.ndarray:
    """The colours of the maps from 0, below, to 1: uint8 (height, 14, 3)."""
    import matplotlib as mpl

    column = mpl.colormaps["inferno"](np.linspace(1, 0, height))[:, None, :3] * 255
    return np.repeat(column.astype(np.uint8), 14, axis=1)


def view(dataset: PreparedDataset, row: int) -> np.ndarray:
    """Return a case's stored image without padding, its longer side ``SIDE`` pixels: uint8 (h, w[, 3])."""
    geometry = dataset.geometry(row)
    top, left, bottom, right = geometry.box
    inner = Image.fromarray(np.ascontiguousarray(dataset.images([row])[0][top:bottom, left:right]))
    scale = SIDE / max(geometry.height, geometry.width)
    size = (max(1, round(geometry.width * scale)), max(1, round(geometry.height * scale)))
    return np.asarray(inner.resize(size, Image.Resampling.BICUBIC))


def _fit(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(grey) >= 128


def _heat(dataset: PreparedDataset, row: int, picture: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Lay a map in [0, 1] over a picture: the stronger, the more of the colour map shows."""
    import matplotlib as mpl

    top, left, bottom, right = dataset.geometry(row).box
    inner = Image.fromarray(np.ascontiguousarray(cam[top:bottom, left:right], dtype=np.float32))
    fitted = np.asarray(inner.resize(picture.shape[1::-1], Image.Resampling.BILINEAR))[..., None]
    colours = mpl.colormaps["inferno"](fitted[..., 0])[..., :3] * 255
    weight = 0.65 * np.clip(fitted, 0, 1)
    return (picture * (1 - weight) + colours * weight).astype(np.uint8)


def _mask_caption(case: pd.Series) -> str:
    if case["dice"] != case["dice"]:
        n = int(case["false_positives"])
        return f"No lesion; {n} region{'s' if n != 1 else ''} marked."
    if case["missed"]:
        return f"Nothing marked; the lesion has {case['area_truth']:,.0f} {case['area_unit']}."
    return f"Dice {case['dice']:.2f}, HD95 {case['hd95']:.1f} {case['distance_unit']}."


def _call_caption(case: pd.Series) -> str:
    called = str(case["predicted"])
    return f"Truth {case['label']}, predicted {called} with probability {case[f'prob_{called}']:.2f}."


def last_spatial_layer(network: nn.Module, batch: torch.Tensor) -> nn.Module | None:
    """Find the last layer whose output still is a map, (B, C, H, W) with more than one place.

    None for networks of tokens (a ViT), where such a map means nothing. `batch` is any input (B, C, H, W).
    """
    import torch

    last: list[nn.Module] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if not isinstance(output, torch.Tensor):
            return
        if output.ndim == 3:  # tokens: what was a map before them is only the way they were cut
            last.clear()
        elif output.ndim == 4 and output.shape[2] * output.shape[3] > 1 and module is not network:
            last[:] = [module]

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.inference_mode():
            network(batch[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return last[0] if last else None


def grad_cam(
    network: nn.Module, batch: torch.Tensor, classes: torch.Tensor, largest_cell: float = math.inf
) -> np.ndarray | None:
    """Return which parts of each image raise the score of a class, float32 (B, S, S).

    None if the network keeps no map, or one whose cells are larger than `largest_cell` pixels of the image.

    Values lie in [0, 1], each image by its own maximum (0 where nothing raises the score). `batch` holds
    standardized images (B, C, S, S), `classes` the class of each to explain, int64 (B,). The network is in
    eval mode; its weights and their gradients are left alone.
    """
    import torch
    from torch.nn import functional

    layer = last_spatial_layer(network, batch)
    if layer is None:
        return None
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        kept.append(output)
        # What follows may work in place; it gets a copy.
        return output.clone()

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = network(batch.clone().requires_grad_())
            score = logits.gather(1, classes[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, kept[-1])
    finally:
        hook.remove()
    if batch.shape[-1] / kept[-1].shape[-1] > largest_cell:
        return None
    weight = gradient.mean(dim=(2, 3), keepdim=True)
    cam = (weight * kept[-1].detach()).sum(dim=1, keepdim=True).clamp_(min=0)
    cam = functional.interpolate(cam.float(), size=batch.shape[-2:], mode="bilinear", align_corners=False)
    top = cam.amax(dim=(2, 3), keepdim=True)
    maps: np.ndarray = torch.where(top > 0, cam / top.clamp(min=1e-12), cam)[:, 0].cpu().numpy()
    return maps

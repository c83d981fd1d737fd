"""Cases worth looking at: what went wrong, and what went well."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from PIL import Image

from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.evaluation.findings import Findings
from gcsam_med.evaluation.gradcam import grad_cam
from gcsam_med.evaluation.setup import Examination
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.drawing import PREDICTION, TRUTH, draw_outlines, to_rgb
from gcsam_med.reporting.report import Exhibit
from gcsam_med.runs import network_outputs

A_KIND = 4
SIDE = 400  # pixels of a picture's longer side


def gallery(exam: Examination, findings: Findings, track: Track = silent) -> tuple[Exhibit, ...]:
    """Choose cases by their figures and draw them.

    Parameters
    ----------
    exam : Examination
        Model and data.
    findings : Findings
        Figures by case.
    track : Track
        Shows progress.

    Returns
    -------
    tuple of Exhibit
        At most ``A_KIND`` a kind, failures first.
    """
    segmentation = exam.model.card.task == "segmentation"
    chosen = list(_choose_masks(findings.cases) if segmentation else _choose_calls(findings))
    places = np.array(sorted({place for _, place in chosen}), dtype=np.int64)
    if not len(places):
        return ()
    if segmentation:
        drawn = _draw_masks(exam, findings, places, track)
    else:
        drawn = _draw_calls(exam, findings, places)
    exhibits = []
    for kind, place in chosen:
        case = findings.cases.iloc[place]
        caption = _mask_caption(case) if segmentation else _call_caption(findings, case)
        label = str(case["label"])
        alt = f"{kind}: image {case['case_id']}, {label or 'no label'}. {caption}"
        exhibits.append(Exhibit(kind, str(case["case_id"]), label, caption, drawn[place], alt))
    return tuple(exhibits)


def _choose_masks(cases: pd.DataFrame) -> Iterator[tuple[str, int]]:
    """Yield kind and place of each case to show; no case twice."""
    dice = cases["dice"].to_numpy(dtype=float)
    missed = np.flatnonzero(cases["missed"].to_numpy() == 1)
    biggest = missed[np.argsort(-cases["area_truth"].to_numpy()[missed], kind="stable")][:A_KIND]
    yield from (("Missed lesions", int(i)) for i in biggest)
    rest = np.flatnonzero(~np.isnan(dice) & (cases["missed"].to_numpy() == 0))
    order = rest[np.argsort(dice[rest], kind="stable")]
    worst = order[: min(A_KIND, len(order) // 2)]
    yield from (("Lowest Dice", int(i)) for i in worst)
    false = cases["false_positives"].to_numpy() * np.isnan(dice)
    marked = np.argsort(-cases["area_predicted"].to_numpy() * (false > 0), kind="stable")[:A_KIND]
    yield from (("Marked on images without a lesion", int(i)) for i in marked if false[i] > 0)
    best = order[::-1][: min(A_KIND, len(order) - len(worst))]
    yield from (("Highest Dice", int(i)) for i in best)


def _choose_calls(findings: Findings) -> Iterator[tuple[str, int]]:
    cases = findings.cases
    sure = np.array([case[f"prob_{case['predicted']}"] for _, case in cases.iterrows()], dtype=float)
    right = cases["correct"].to_numpy() == 1
    order = np.argsort(-sure, kind="stable")
    # With a threshold away from one half, a class can be called against the likelier one.
    confident = [int(i) for i in order if not right[i] and sure[i] >= 0.5][: 2 * A_KIND]
    yield from (("Confident errors", i) for i in confident)
    others = [int(i) for i in order if not right[i] and sure[i] < 0.5][:A_KIND]
    yield from (("Other errors", i) for i in others)
    good = [int(i) for i in order if right[i]]
    yield from (("Right and sure", i) for i in good[:A_KIND])
    yield from (("Right but unsure", i) for i in good[A_KIND:][::-1][:A_KIND])


def _draw_masks(
    exam: Examination, findings: Findings, places: np.ndarray, track: Track
) -> dict[int, np.ndarray]:
    rows = findings.rows[places]
    drawn = {}
    stream = network_outputs(exam.model, exam.dataset.images, rows, track=track, what="Drawing cases")
    for place, (row, square) in zip(places, stream, strict=True):
        picture = view(exam.dataset, row)
        shape = picture.shape[:2]
        mask = exam.dataset.geometry(row).restore(square) >= findings.operating.threshold
        truth = exam.dataset.original_mask(row)
        drawn[int(place)] = draw_outlines(
            picture, [(_fit(truth, shape), TRUTH, False), (_fit(mask, shape), PREDICTION, True)]
        )
    return drawn


def _draw_calls(exam: Examination, findings: Findings, places: np.ndarray) -> dict[int, np.ndarray]:
    """Draw each image, and beside it what speaks for the called class."""
    import torch

    drawn = {}
    rows = findings.rows[places]
    classes = exam.model.card.classes
    called = [classes.index(str(name)) for name in findings.cases["predicted"].iloc[places]]
    batch = exam.model.tensor(exam.dataset.images(rows))
    cams = grad_cam(exam.model.network, batch, torch.tensor(called, device=batch.device))
    for i, (place, row) in enumerate(zip(places, rows, strict=True)):
        picture = to_rgb(view(exam.dataset, int(row)))
        if cams is not None:
            gap = np.full((picture.shape[0], 6, 3), 128, np.uint8)
            picture = np.concatenate([picture, gap, _heat(exam.dataset, int(row), picture, cams[i])], axis=1)
        drawn[int(place)] = picture
    return drawn


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


def _call_caption(findings: Findings, case: pd.Series) -> str:
    del findings
    called = str(case["predicted"])
    return f"Truth {case['label']}, called {called} with probability {case[f'prob_{called}']:.2f}."

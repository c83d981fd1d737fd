"""``audit.html``: the audit with the pictures it speaks of, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gcsam_med import __version__
from gcsam_med.datasets.prepared import DatasetInfo, PlaneReader
from gcsam_med.preparation.store import FINGERPRINTS, THUMBS, read_fingerprints
from gcsam_med.reporting.page import Column, PageExhibit, Part, Row, Section, Table, exhibit_jpeg, render

PAGE = "audit.html"
PAIRS_SHOWN, CASES_SHOWN, ROWS_SHOWN = 60, 24, 200
GAP = 4  # white pixels between the two pictures of a pair

Look = Callable[[str], np.ndarray]

MEANING = {
    "cases": "Cases",
    "quarantined": "Bad files left out",
    "dropped": "Cases left out for conflicting labels",
    "exact_duplicate_pairs": "Exact duplicate pairs",
    "near_duplicate_pairs": "Near-duplicate pairs",
    "groups_of_several": "Groups of several images",
    "images_in_groups_of_several": "Images in them",
    "label_conflicts": "Pairs with conflicting labels",
    "groups_on_both_sides": "Groups on both sides of the split",
    "random_split_leak": "Test images with a duplicate in training, were the split drawn image by image",
    "images_with_marks": "Images with text or calipers",
    "images_with_coloured_overlay": "Images with a coloured overlay",
    "shortcut_suspects": "Shortcut suspects",
}


def write_audit_page(folder: Path, info: DatasetInfo, audit: Mapping[str, Any]) -> Path:
    """Write ``audit.html`` into a prepared data set's folder.

    Parameters
    ----------
    folder : Path
        Holds thumbnails and fingerprints.
    info : DatasetInfo
        Facts about the data set.
    audit : mapping
        The content of ``audit.json``.

    Returns
    -------
    Path
        The page.
    """
    look = _looker(folder)
    page = folder / PAGE
    html = render("audit.html.j2", _context(info, audit, look))
    page.write_text(html, encoding="utf-8")
    return page


def write_overlap_page(
    page: Path, names: tuple[str, str], folders: tuple[Path, Path], overlap: Mapping[str, Any]
) -> None:
    """Write a page of the pictures that two data sets share."""
    left, right = (_looker(folder) for folder in folders)
    pairs = overlap["pairs"]
    texts = ["The same picture in both: training on one and testing on the other would not be external."]
    exhibits = list(_pair_exhibits(pairs, left, right))
    part = Part(
        paragraphs=texts, exhibits=exhibits, table=_table("Shared pictures", pairs), folded="All pairs"
    )
    context = {
        "title": f"Overlap of {names[0]} and {names[1]}",
        "subtitle": "Pictures that are in both data sets",
        "stamps": [],
        "summary": [(k.replace("_", " "), str(v)) for k, v in overlap["summary"].items()],
        "sections": [Section("shared", "Shared pictures", [part])] if pairs else [],
        "footer": _footer(),
    }
    page.write_text(render("audit.html.j2", context), encoding="utf-8")


def _looker(folder: Path) -> Look:
    case_ids, _, _ = read_fingerprints(folder / FINGERPRINTS)
    row = {case_id: i for i, case_id in enumerate(case_ids)}
    thumbs = PlaneReader(folder / THUMBS)
    return lambda case_id: thumbs(np.array([row[case_id]]))[0]


def _context(info: DatasetInfo, audit: Mapping[str, Any], look: Look) -> dict[str, Any]:
    summary = audit["summary"]
    stamps = []
    if info.synthetic:
        stamps.append("Synthetic images")
    if info.group_kind == "image":
        stamps.append("Split by image")
    return {
        "title": f"Audit of {info.title or info.name}",
        "subtitle": f"{info.n_cases} cases; the split keeps together: {info.group_kind}",
        "stamps": stamps,
        "summary": [(text, _cell(summary[key])) for key, text in MEANING.items() if key in summary],
        "sections": list(_sections(audit, look)),
        "footer": _footer(),
    }


def _footer() -> str:
    return f"Made with gcsam-med {__version__}. Research software, not for clinical use."


def _sections(audit: Mapping[str, Any], look: Look) -> Iterator[Section]:
    conflicts, pairs = audit["conflicts"], audit["duplicates"]
    if conflicts:
        text = "One picture, two labels: at least one of them is wrong. Ask whoever labelled them."
        shown = _still_there(conflicts, look)
        part = Part(paragraphs=[text], exhibits=list(_pair_exhibits(shown, look, look)))
        yield Section("conflicts", "Conflicting labels", [part, Part(table=_table("Conflicts", conflicts))])
    if pairs:
        text = (
            "The same picture twice, whatever was done to it (re-compression, resizing, cropped borders, "
            "contrast, mirroring), or neighbouring frames of one examination. The least similar pairs come "
            "first: they are the ones to check."
        )
        order = sorted(pairs, key=lambda p: p["agreement"])
        part = Part(paragraphs=[text], exhibits=list(_pair_exhibits(order, look, look)))
        table = Part(table=_table("Duplicates", order), folded=f"All {len(pairs)} pairs")
        yield Section("duplicates", "Duplicates", [part, table])
    for key, title, text in (
        ("marks", "Text and calipers", "Characters, calipers or dotted lines seem to be burned in."),
        ("coloured", "Coloured overlays", "Pixels that are not grey: Doppler, markers, annotations."),
    ):
        if audit[key]:
            exhibits = list(_case_exhibits(audit[key], key, look))
            folded = f"All {len(audit[key])} images"
            parts = [
                Part(paragraphs=[text], exhibits=exhibits),
                Part(table=_table(title, audit[key]), folded=folded),
            ]
            yield Section(key, title, parts)
    for key, title, text in (
        ("shortcuts", "Shortcut suspects", "Do properties that are not anatomy tell the classes apart?"),
        ("probes", "Shortcut probes", "Simple models that see only what should not tell the class."),
        ("leaks", "Groups on both sides of the split", "Results on this split will be too good."),
        ("balance", "Classes and splits", ""),
        ("statistics", "Image statistics by class", ""),
        ("resolutions", "Commonest image sizes by class", ""),
        ("unusual", "Unusual images", "Far from the rest in brightness, contrast or mask size."),
        ("notes", "Notes from reading", ""),
        ("quarantined", "Bad files left out", ""),
    ):
        if audit.get(key):
            yield Section(
                key, title, [Part(paragraphs=[text] if text else [], table=_table(title, audit[key]))]
            )


def _still_there(pairs: Sequence[Mapping[str, Any]], look: Look) -> list[Mapping[str, Any]]:
    """Pairs whose images were not dropped."""
    return [p for p in pairs if _has(p["first"], look) and _has(p["second"], look)]


def _has(case_id: str, look: Look) -> bool:
    try:
        look(case_id)
    except KeyError:
        return False
    return True


def _pair_exhibits(pairs: Sequence[Mapping[str, Any]], left: Look, right: Look) -> Iterator[PageExhibit]:
    for pair in pairs[:PAIRS_SHOWN]:
        one, two = left(pair["first"]), right(pair["second"])
        gap = np.full((len(one), GAP), 255, dtype=np.uint8)
        both = np.concatenate([one, gap, two], axis=1)
        labels = " / ".join(x for x in (pair.get("first_label"), pair.get("second_label")) if x)
        mirrored = ", mirrored" if pair["mirrored"] else ""
        caption = f"{labels} - {pair['kind']}, agreement {pair['agreement']:.2f}{mirrored}"
        yield _exhibit(both, f"{pair['first']} | {pair['second']}", caption.removeprefix(" - "))


def _case_exhibits(records: Sequence[Mapping[str, Any]], key: str, look: Look) -> Iterator[PageExhibit]:
    for record in records[:CASES_SHOWN]:
        value = record.get(key, record.get("colour"))
        yield _exhibit(look(record["case_id"]), record["case_id"], f"{record['label']} - {_cell(value)}")


def _exhibit(grey: np.ndarray, title: str, caption: str) -> PageExhibit:
    rgb = np.repeat(grey[..., None], 3, axis=2)
    height, width = grey.shape
    return PageExhibit(title, caption, f"Thumbnail: {title}", exhibit_jpeg(rgb), width, height)


def _table(caption: str, records: Sequence[Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for record in records for name in record))
    numeric = {n for n in names if all(isinstance(r.get(n, 0), int | float) for r in records)}
    columns = [Column(name.replace("_", " "), name in numeric) for name in names]
    more = f" (the first {ROWS_SHOWN} of {len(records)})" if len(records) > ROWS_SHOWN else ""
    rows = [
        Row([_cell(r.get(n)) for n in names], "main" if r.get("suspicious") else "")
        for r in records[:ROWS_SHOWN]
    ]
    return Table(caption + more, columns, rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " to ".join(_cell(v) for v in value)
    return str(value)

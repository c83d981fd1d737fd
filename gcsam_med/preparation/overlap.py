"""Which pictures two prepared data sets share: an external test set must not hold training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gcsam_med.datasets.prepared import PlaneReader, PreparedDataset
from gcsam_med.files import check_among, replacing, write_json
from gcsam_med.preparation.audit_page import write_overlap_page
from gcsam_med.preparation.duplicates import Pair, find_overlap
from gcsam_med.preparation.store import THUMBS, fingerprints_of
from gcsam_med.progress import Track, silent
from gcsam_med.reading import is_ours


def overlap(
    dataset: PreparedDataset, other: PreparedDataset, output: Path, track: Track = silent
) -> tuple[dict[str, Any], list[Path]]:
    """Find shared pictures and write ``overlap-OTHER.json`` and ``overlap-OTHER.html`` into `output`.

    Returns the content of the JSON file (``summary`` and ``pairs``, each with case ids, labels, splits, kind
    and agreement) and the two paths.
    """
    names = [f"overlap-{other.info.name}{suffix}" for suffix in (".json", ".html")]

    def known(there: Path) -> bool:
        return is_ours(there / names[0])

    check_among(output, known, names)
    both = [fingerprints_of(d) for d in (dataset, other)]
    ids, pixels, prints = zip(*both, strict=True)
    search = find_overlap(
        (pixels[0], pixels[1]),
        (prints[0], prints[1]),
        (PlaneReader(dataset.root / THUMBS), PlaneReader(other.root / THUMBS)),
        dataset.info.modality,
        track,
    )
    pairs = [_record(pair, dataset, other, ids) for pair in search.pairs]
    result = {
        "schema": 1,
        "summary": {
            "first": dataset.info.name,
            "second": other.info.name,
            "cases_of_first": len(dataset),
            "cases_of_second": len(other),
            "exact_pairs": sum(p.kind == "exact" for p in search.pairs),
            "near_pairs": sum(p.kind == "near" for p in search.pairs),
            "shared_of_first": len({p.first for p in search.pairs}),
            "shared_of_second": len({p.second for p in search.pairs}),
            "label_conflicts": sum(
                p["first_label"] != p["second_label"] for p in pairs if p["first_label"] and p["second_label"]
            ),
            "hash_distance_searched": search.limit,
        },
        "pairs": pairs,
    }
    titles = dataset.info.title or dataset.info.name, other.info.title or other.info.name
    doing = f"writing the overlap in {output}"
    with replacing(output, lambda _: False, doing, among_others=known) as fresh:
        write_json(fresh / names[0], result)
        write_overlap_page(fresh / names[1], titles, (dataset.root, other.root), result)
    return result, [output / name for name in names]


def _record(
    pair: Pair, dataset: PreparedDataset, other: PreparedDataset, ids: tuple[list[str], list[str]]
) -> dict[str, Any]:
    one, two = dataset.manifest.iloc[pair.first], other.manifest.iloc[pair.second]
    return {
        "first": ids[0][pair.first],
        "second": ids[1][pair.second],
        "first_label": str(one["label"]),
        "second_label": str(two["label"]),
        "first_split": str(one["split"]),
        "second_split": str(two["split"]),
        "kind": pair.kind,
        "agreement": pair.agreement,
        "mirrored": pair.mirrored,
    }

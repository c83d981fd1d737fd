"""The whole of `prepare`: list, read, group, split, store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med import __version__
from gcsam_med.datasets import DATASETS, Listing, SourceSpec
from gcsam_med.errors import DataFaults, Fault, InputError, unknown_name
from gcsam_med.files import write_durably
from gcsam_med.preparation.groups import connected_groups, same
from gcsam_med.preparation.options import PrepareOptions
from gcsam_med.preparation.scan import ScanJob, Scanned, scan
from gcsam_med.preparation.splits import Division, divide
from gcsam_med.preparation.store import PlaneWriter, replacing
from gcsam_med.prepared import (
    AUDIT,
    IMAGES,
    INFO,
    MANIFEST,
    MASKS,
    ORIGINAL_MASKS,
    SPLITS,
    DatasetInfo,
    PreparedDataset,
    prepared_root,
)
from gcsam_med.progress import Track, silent


@dataclass(frozen=True)
class Outcome:
    """What `prepare` did.

    Parameters
    ----------
    dataset : PreparedDataset
        Open for reading.
    fresh : bool
        False if the same set was there already and nothing was done.
    faults : tuple of Fault
        Bad files that were left out.
    warnings : tuple of str
        What a person should know.
    """

    dataset: PreparedDataset
    fresh: bool
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()


def prepare(
    dataset: str,
    source: Path,
    data_root: Path,
    *,
    name: str = "",
    options: PrepareOptions | None = None,
    synthetic: bool = False,
    workers: int | None = None,
    track: Track = silent,
) -> Outcome:
    """Prepare a data set.

    Parameters
    ----------
    dataset : str
        A key of `DATASETS`.
    source : Path
        Where the source's files are.
    data_root : Path
        The result goes to ``data_root/prepared/NAME``.
    name : str, optional
        Default: `dataset`.
    options : PrepareOptions, optional
        What determines the result.
    synthetic : bool
        The images were generated for demonstration.
    workers : int, optional
        Reading processes.
    track : Track
        Shows progress.

    Returns
    -------
    Outcome
        The prepared data set and what is worth telling.

    Raises
    ------
    InputError
        If the source is not as expected.
    DataFaults
        If files are bad and `skip_bad` is off; all are listed and nothing was changed.
    """
    if dataset not in DATASETS:
        raise unknown_name("data set", dataset, DATASETS.keys())
    spec, options = DATASETS[dataset], options or PrepareOptions()
    name = name or dataset
    listing = spec.list_cases(source)
    if not listing.cases:
        raise InputError(
            f"No images were found in {source}.", "Check --source and the layout it should have."
        )
    with replacing(prepared_root(data_root, name)) as work:
        scans, faults = _read_all(listing, spec, options, work=work, workers=workers, track=track)
        if faults and not options.skip_bad:
            raise DataFaults(
                f"{len(faults)} of {len(listing.cases)} cases have bad files; nothing was changed.",
                faults,
                "Mend or remove them, or leave them out with --skip-bad.",
            )
        patients = [s.case.patient for s in scans]
        groups = connected_groups(len(scans), [*same(patients), *same([s.pixel_sha256 for s in scans])])
        labels = [s.case.label for s in scans]
        split_groups = groups if options.split_by == "group" else np.arange(len(scans))
        division = divide(labels, split_groups, options.folds, options.seed)
        manifest = _manifest(scans, groups, division)
        info = _info(name, spec, listing, options, manifest, synthetic=synthetic, patients=any(patients))
        manifest.to_csv(work / MANIFEST, index=False)
        write_durably(work / AUDIT, json.dumps(_audit(faults), indent=2).encode())
        write_durably(work / INFO, (info.model_dump_json(indent=2, by_alias=True) + "\n").encode())
    return Outcome(PreparedDataset(prepared_root(data_root, name)), fresh=True, faults=tuple(faults))


def _read_all(
    listing: Listing,
    spec: SourceSpec,
    options: PrepareOptions,
    *,
    work: Path,
    workers: int | None,
    track: Track,
) -> tuple[list[Scanned], list[Fault]]:
    """Read all cases and store their pixels; keep only the small facts in memory."""
    channels = 3 if spec.modality == "photo" else 1
    side = options.size
    job = ScanJob(listing.root, side, channels, spec.negative_classes)
    has_masks = any(case.masks for case in listing.cases)
    faults, scans = list(listing.faults), []
    (work / ORIGINAL_MASKS).mkdir()
    blank = np.zeros((side, side), dtype=np.uint8)
    plane = (side, side, 3) if channels == 3 else (side, side)
    with PlaneWriter(work / IMAGES, plane) as images, PlaneWriter(work / MASKS, (side, side)) as masks:
        results = scan(listing.cases, job, workers)
        for found in track(results, "Reading images", len(listing.cases)):
            if isinstance(found, list):
                faults += found
                continue
            if found.mask_png:
                (work / ORIGINAL_MASKS / f"{images.count:06d}.png").write_bytes(found.mask_png)
            images.append(found.square)
            if has_masks:
                masks.append(blank if found.mask_square is None else found.mask_square)
            scans.append(replace(found, square=blank[:0], mask_square=None, mask_png=found.mask_png[:1]))
    if not has_masks:
        (work / MASKS).unlink()
    return scans, faults


def _manifest(scans: list[Scanned], groups: np.ndarray, division: Division) -> pd.DataFrame:
    rows = []
    for i, s in enumerate(scans):
        rows.append(
            {
                "case_id": s.case.name,
                "group_id": scans[groups[i]].case.name,
                "source_path": s.case.image,
                "source_sha256": s.source_sha256,
                "mask_sha256": s.mask_sha256,
                "pixel_sha256": s.pixel_sha256,
                "label": s.case.label,
                "split": division.split[i],
                "fold": int(division.fold[i]),
                "height": s.height,
                "width": s.width,
                "pixel_spacing": "" if s.spacing is None else f"{s.spacing[0]:.6g}x{s.spacing[1]:.6g}",
                "has_mask": int(bool(s.mask_png)),
                **s.case.attributes,
            }
        )
    return pd.DataFrame(rows)


def _info(
    name: str,
    spec: SourceSpec,
    listing: Listing,
    options: PrepareOptions,
    manifest: pd.DataFrame,
    *,
    synthetic: bool,
    patients: bool,
) -> DatasetInfo:
    by_image: Any = "image" if options.split_by == "image" else None
    return DatasetInfo(
        name=name,
        title=spec.title + (" (synthetic demonstration images)" if synthetic else ""),
        classes=list(listing.classes),
        negative_classes=[c for c in spec.negative_classes if c in listing.classes],
        modality=spec.modality,
        channels=3 if spec.modality == "photo" else 1,
        size=options.size,
        n_cases=len(manifest),
        has_masks=bool(manifest["has_mask"].any()),
        mask_target=spec.mask_target,
        synthetic=synthetic,
        group_kind=by_image or ("patient" if patients else "near-duplicate"),
        counts=_counts(manifest, listing.classes),
        seed=options.seed,
        folds=options.folds,
        tool_version=__version__,
        content_sha256=_content_sha256(manifest),
        licence="" if synthetic else spec.licence,
        citation="" if synthetic else spec.citation,
        options=options.model_dump(),
    )


def _counts(manifest: pd.DataFrame, classes: Iterable[str]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        labels = manifest.loc[manifest["split"] == split, "label"]
        counts[split] = {"cases": len(labels), **{c: int((labels == c).sum()) for c in classes}}
    return counts


def _content_sha256(manifest: pd.DataFrame) -> str:
    columns = ["source_sha256", "mask_sha256", "label", "group_id", "split", "fold"]
    lines = sorted("\t".join(map(str, row)) for row in manifest[columns].itertuples(index=False))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _audit(faults: list[Fault]) -> dict[str, Any]:
    return {
        "schema": 1,
        "quarantined": [{"path": f.path, "reason": f.reason, "detail": f.detail} for f in faults],
    }

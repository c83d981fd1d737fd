"""The whole of `prepare`: list, read, group, split, store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med import __version__
from gcsam_med.datasets import DATASETS, Listing, SourceSpec
from gcsam_med.errors import DataFaults, Fault, InputError, unknown_name
from gcsam_med.files import write_durably
from gcsam_med.preparation.features import THUMB
from gcsam_med.preparation.groups import connected_groups, same
from gcsam_med.preparation.options import PrepareOptions
from gcsam_med.preparation.privacy import identity_key
from gcsam_med.preparation.scan import Facts, ScanJob, scan
from gcsam_med.preparation.splits import Division, divide
from gcsam_med.preparation.store import THUMBS, PlaneWriter, replacing
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
    name, modality = name or dataset, options.modality or spec.modality
    listing = spec.list_cases(source)
    if not listing.cases:
        raise InputError(
            f"No images were found in {source}.", "Check --source and the layout it should have."
        )
    with replacing(prepared_root(data_root, name)) as work:
        job = ScanJob(
            root=listing.root,
            size=options.size,
            channels=3 if modality == "photo" else 1,
            negative_classes=spec.negative_classes,
            mask_size=options.mask_size or spec.mask_size,
            frames=options.frames,
            key=identity_key(data_root) if spec.private else b"",
        )
        scans, faults = _read_all(listing, job, work=work, workers=workers, track=track)
        if faults and not options.skip_bad:
            raise DataFaults(
                f"{len(faults)} of {len(listing.cases)} cases have bad files; nothing was changed.",
                faults,
                "Mend or remove them, or leave them out with --skip-bad.",
            )
        patients = [s.patient for s in scans]
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
    job: ScanJob,
    *,
    work: Path,
    workers: int | None,
    track: Track,
) -> tuple[list[Facts], list[Fault]]:
    """Read all cases and store their pixels; keep only the small facts in memory."""
    has_masks = any(case.masks for case in listing.cases)
    faults, facts = list(listing.faults), []
    (work / ORIGINAL_MASKS).mkdir()
    square = (job.size, job.size)
    blank = np.zeros(square, dtype=np.uint8)
    plane = (*square, 3) if job.channels == 3 else square
    with (
        PlaneWriter(work / IMAGES, plane) as images,
        PlaneWriter(work / MASKS, square) as masks,
        PlaneWriter(work / THUMBS, (THUMB, THUMB)) as thumbs,
    ):
        results = scan(listing.cases, job, workers)
        for found in track(results, "Reading images", len(listing.cases)):
            for item in found:
                if isinstance(item, Fault):
                    faults.append(item)
                    continue
                if item.mask_png:
                    (work / ORIGINAL_MASKS / f"{images.count:06d}.png").write_bytes(item.mask_png)
                images.append(item.square)
                thumbs.append(item.thumb)
                if has_masks:
                    masks.append(blank if item.mask_square is None else item.mask_square)
                facts.append(item.facts)
    if not has_masks:
        (work / MASKS).unlink()
    return facts, faults


def _manifest(facts: list[Facts], groups: np.ndarray, division: Division) -> pd.DataFrame:
    rows = []
    for i, f in enumerate(facts):
        rows.append(
            {
                "case_id": f.case_id,
                "group_id": facts[groups[i]].patient or facts[groups[i]].case_id,
                "source_path": f.case.image,
                "source_sha256": f.source_sha256,
                "mask_sha256": f.mask_sha256,
                "pixel_sha256": f.pixel_sha256,
                "label": f.case.label,
                "split": division.split[i],
                "fold": int(division.fold[i]),
                "height": f.height,
                "width": f.width,
                "pixel_spacing": "" if f.spacing is None else f"{f.spacing[0]:.6g}x{f.spacing[1]:.6g}",
                "has_mask": int(f.has_mask),
                **f.attributes,
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
        modality=options.modality or spec.modality,
        channels=3 if (options.modality or spec.modality) == "photo" else 1,
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

"""Several prepared data sets as one: one list of classes, a centre for each case, and a split of its own.

Nothing is resampled or decoded anew: sets of one modality and one stored size are put one after the other.
Pictures that two sets share belong to one group, so the split keeps them on one side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med import __version__
from gcsam_med.config import PathLike, PrepareOptions
from gcsam_med.datasets import Case
from gcsam_med.datasets.case import BENIGN, HEALTHY, MALIGNANT
from gcsam_med.datasets.prepared import (
    CENTRE,
    IMAGES,
    MASKS,
    MOST_MASK_BYTES,
    ORIGINAL_MASKS,
    DatasetInfo,
    PlaneReader,
    PlaneWriter,
    PreparedDataset,
    open_prepared,
    prepared_root,
    read_audit,
)
from gcsam_med.errors import InputError
from gcsam_med.fields import check_name, chosen
from gcsam_med.files import is_name, recover, replacing
from gcsam_med.preparation.audit import build_audit, find_conflicts
from gcsam_med.preparation.duplicates import Pair, Search, find_overlap
from gcsam_med.preparation.prepare import (
    OTHER_NAME,
    Outcome,
    as_it_was,
    missing_classes,
    option_changes,
    write_set,
)
from gcsam_med.preparation.scan import Facts
from gcsam_med.preparation.splits import (
    connected_groups,
    divide,
    same,
)
from gcsam_med.preparation.store import (
    THUMBS,
    build_manifest,
    counts_of,
    fingerprints_of,
    is_prepared,
)
from gcsam_med.progress import Track, silent
from gcsam_med.reading import read_plain

# What a class is called in a merged set, by its usual names; others are one class if equal but for capitals.
CLASS_NAMES = {"normal": HEALTHY, "benign": BENIGN, "malignant": MALIGNANT}
# Columns of a set that tell where an image is from; without one the whole set is one centre.
CENTRE_COLUMNS = (CENTRE, "center", "site", "hospital")
TAKEN = frozenset({"merge", "name", "seed", "folds", "force"})
"""Options of `PrepareOptions` that merging takes."""
_CONTRACT = frozenset(
    (
        "case_id", "group_id", "source_path", "source_sha256", "mask_sha256", "pixel_sha256", "label",
        "split", "fold", "height", "width", "pixel_spacing", "has_mask",
    )
)  # fmt: skip
_LISTED = ("marks", "coloured", "unusual", "masks", "specks", "shared_masks")
_COUNTED = (
    "images_with_marks",
    "images_with_coloured_overlay",
    "images_with_specks",
    "images_with_a_shared_mask",
    "quarantined",
    "dropped",
)


@dataclass(frozen=True)
class _Part:
    """One of the sets."""

    dataset: PreparedDataset
    first: int  #: Its first row in the merged set.
    classes: Mapping[str, str]  #: What each of its classes is called there.
    ids: list[str]
    facts: list[Facts]
    audit: dict[str, Any]

    @property
    def name(self) -> str:
        return self.dataset.info.name


def merge(
    names: Sequence[str],
    data_root: PathLike = "data",
    options: PrepareOptions | None = None,
    *,
    track: Track = silent,
    **fields: Any,
) -> Outcome:
    """Make one prepared data set of several, or find that this is done already.

    Parameters
    ----------
    names : sequence of str
        Prepared data sets under `data_root`, in any order.
    data_root : str or path
        Folder of prepared data sets; the result goes there too, by default as ``A-and-B``.
    options : PrepareOptions, optional
        ``name``, ``seed``, ``folds`` and ``force`` count; `fields` change them.
    track : Track
        Shows progress.

    Returns
    -------
    Outcome
        As of `prepare`. The manifest has a column ``centre``: the set's name, with the hospital where the set
        tells it. Case and group ids begin with the set's name.

    Raises
    ------
    InputError
        If sets differ in modality, stored size or what their masks outline, or contradict each other about a
        class.
    """
    options, root = chosen(PrepareOptions, options, **fields), Path(data_root)
    names = sorted(set(names))
    target = prepared_root(root, options.name or "-and-".join(names))
    recover(target)
    datasets = [open_prepared(root, check_name(name, "a prepared data set"), deep=True) for name in names]
    if target.name in names:
        raise InputError(f"'{target.name}' is one of the sets to be merged.", "Give another --name.")
    recorded = {
        "merged": {d.info.name: d.info.content_sha256 for d in datasets},
        "seed": options.seed,
        "folds": options.folds,
    }
    differing = option_changes(target, recorded)
    if is_prepared(target) and not differing and not options.force:
        return as_it_was(target)
    info = _joined_info(datasets, target.name, options, recorded)
    parts = _parts(datasets)
    with replacing(target, is_prepared, f"merging into '{target.name}'", OTHER_NAME) as folder:
        facts = [f for part in parts for f in part.facts]
        search = _search(parts, track)
        groups = connected_groups(
            len(facts), [*same([f.patient for f in facts]), *((p.first, p.second) for p in search.pairs)]
        )
        unit = groups if info.group_kind != "image" else np.arange(len(facts))
        strata = [f"{f.attributes[CENTRE]}/{f.case.label}" for f in facts]
        division = divide(strata, unit, options.folds, options.seed)
        group_ids = [facts[group].patient for group in groups]
        manifest, _ = build_manifest(facts, group_ids, division, private=False)
        info = info.model_copy(
            update={
                "n_cases": len(facts),
                "counts": counts_of(manifest, info.classes),
                "folds": division.folds,
                "has_masks": bool(manifest["has_mask"].any()),
            }
        )
        conflicts = find_conflicts(facts, search, "keep-together")
        audit = build_audit(
            facts,
            search,
            groups,
            division,
            classes=info.classes,
            faults=(),
            dropped=(),
            conflicts=conflicts,
            unused=(),
            colour_expected=True,
            private=False,
        )
        audit = _with_audits_of_parts(audit, parts) | {"centres": _centres(manifest, info.classes)}
        _copy_pixels(parts, folder, info, track)
        write_set(folder, info, manifest, facts, group_ids, division, audit)
    warnings = [*_warnings(parts, search, manifest, info, len(conflicts)), *missing_classes(info)]
    return Outcome(
        PreparedDataset(target), fresh=True, audit=audit, warnings=tuple(warnings), changes=tuple(differing)
    )


def _class_names(datasets: Sequence[PreparedDataset]) -> list[dict[str, str]]:
    """For each set, what its classes are called in the merged one."""
    spelling: dict[str, str] = {}
    found = []
    for dataset in datasets:
        own: dict[str, str] = {}
        for name in dataset.info.classes:
            folded = name.casefold()
            usual = next((key for key, names in CLASS_NAMES.items() if folded in names), None)
            own[name] = usual or spelling.setdefault(folded, name)
        twice = [name for name, n in Counter(own.values()).items() if n > 1]
        if twice:
            both = " and ".join(repr(name) for name, called in own.items() if called == twice[0])
            raise InputError(
                f"'{dataset.info.name}' has the classes {both}; in a merged set both would be '{twice[0]}'.",
                "Prepare it with one of them, or leave it out.",
            )
        found.append(own)
    return found


def _joined_info(
    datasets: Sequence[PreparedDataset], name: str, options: PrepareOptions, recorded: dict[str, Any]
) -> DatasetInfo:
    """Facts about the merged set, as far as the sets tell them; refuse what contradicts."""
    infos = [dataset.info for dataset in datasets]
    first = infos[0]
    for what, key, advice in (
        ("modality", "modality", "Merge sets of one modality."),
        ("stored size", "size", "Prepare them with one --size, under other names."),
        ("masks of", "mask_target", "Merge sets whose masks outline the same."),
    ):
        for info in infos[1:]:
            one, other = getattr(first, key), getattr(info, key)
            if one != other and (key != "mask_target" or (first.has_masks and info.has_masks)):
                raise InputError(f"'{first.name}' has {what} {one}, '{info.name}' {other}.", advice)
    called = _class_names(datasets)
    roles = [
        (info.name, own.get(info.positive_class, ""), {own[c] for c in info.negative_classes if c in own})
        for info, own in zip(infos, called, strict=True)
    ]
    positive = {finding: who for who, finding, _ in roles if finding}
    if len(positive) > 1:
        said = ", ".join(f"'{finding}' in '{who}'" for finding, who in positive.items())
        raise InputError(
            f"The positive class differs: {said}.", "Say it for each with: gcsam-med prepare ... --positive"
        )
    for who, _, negative in roles:
        for finding in positive.keys() & negative:
            raise InputError(
                f"'{finding}' is the positive class of '{positive[finding]}' and negative in '{who}'.",
                "Say it for each with: gcsam-med prepare ... --positive, --negative",
            )

    def joined(field: str) -> list[str]:
        return sorted(
            {own[c] for i, own in zip(infos, called, strict=True) for c in getattr(i, field) if c in own}
        )

    kinds = {info.group_kind for info in infos}
    return DatasetInfo(
        name=name,
        title=" + ".join(info.title or info.name for info in infos),
        classes=joined("classes"),
        positive_class=next(iter(positive), ""),
        negative_classes=joined("negative_classes"),
        empty_mask_classes=joined("empty_mask_classes"),
        modality=first.modality,
        channels=first.channels,
        size=first.size,
        n_cases=1,
        has_masks=any(info.has_masks for info in infos),
        mask_target=next((info.mask_target for info in infos if info.has_masks), first.mask_target),
        synthetic=any(info.synthetic for info in infos),
        group_kind=next(kind for kind in ("image", "near-duplicate", "patient") if kind in kinds),
        seed=options.seed,
        split_from="drawn",
        folds=options.folds,
        tool_version=__version__,
        licence="; ".join(f"{info.name}: {info.licence or 'not given'}" for info in infos),
        citation=" ".join(dict.fromkeys(info.citation for info in infos if info.citation)),
        options=recorded,
    )


def _parts(datasets: Sequence[PreparedDataset]) -> list[_Part]:
    parts: list[_Part] = []
    first = 0
    for dataset, called in zip(datasets, _class_names(datasets), strict=True):
        ids, pixels, prints = fingerprints_of(dataset)
        facts = _facts(dataset, called, pixels, prints)
        parts.append(_Part(dataset, first, called, ids, facts, read_audit(dataset.root)))
        first += len(dataset)
    seen = Counter(f.case_id for part in parts for f in part.facts)
    twice = [case_id for case_id, n in seen.items() if n > 1]
    if twice:
        raise InputError(
            f"{len(twice)} case ids would be there twice.", "Prepare one set under another name."
        )
    return parts


def _facts(
    dataset: PreparedDataset, called: Mapping[str, str], pixels: Sequence[str], prints: Sequence[Any]
) -> list[Facts]:
    """Facts of each case, as the manifest tells them; the group takes the place of the patient."""
    name, manifest = dataset.info.name, dataset.manifest
    centres = _centre_of(dataset)
    columns = [column for column in map(str, manifest) if column not in (*_CONTRACT, CENTRE)]
    records = manifest.to_dict("records")
    return [
        Facts(
            case=Case(
                f"{name}-{r['case_id']}", str(r.get("source_path", "")), label=called.get(r["label"], "")
            ),
            case_id=f"{name}-{r['case_id']}",
            patient=f"{name}-{r['group_id']}",
            height=r["height"],
            width=r["width"],
            spacing=dataset.spacing(row),
            has_mask=bool(r["has_mask"]),
            source_sha256=str(r.get("source_sha256", "")),
            mask_sha256=str(r.get("mask_sha256", "")),
            mask_files=(),
            pixel_sha256=pixels[row],
            fingerprint=prints[row],
            statistics={},
            attributes={CENTRE: centres[row], **{column: str(r[column]) for column in columns}},
            notes=(),
        )
        for row, r in enumerate(records)
    ]


def _centre_of(dataset: PreparedDataset) -> list[str]:
    """Where each case is from: the set's name, with its hospital where a column tells one for every case."""
    name, manifest = dataset.info.name, dataset.manifest
    for column in CENTRE_COLUMNS:
        if column in manifest and (manifest[column].astype(str) != "").all():
            centres = [f"{name}-{value}" for value in manifest[column].astype(str)]
            wrong = next((centre for centre in centres if not is_name(centre)), None)
            if wrong is None:
                return centres
            raise InputError(f"'{name}' has a {column} that cannot name a centre: {wrong!r}.", "Rename it.")
    return [name] * len(manifest)


def _search(parts: Sequence[_Part], track: Track) -> Search:
    """Pairs within each set, as its audit lists them, and those between two sets, looked for here."""
    pairs: list[Pair] = []
    limits, candidates = [], 0
    for part in parts:
        row = {case_id: part.first + i for i, case_id in enumerate(part.ids)}
        limits.append(int(part.audit["summary"].get("hash_distance_searched", 0)))
        candidates += int(part.audit["summary"].get("pairs_compared", 0))
        pairs += [
            Pair(
                row[p["first"]],
                row[p["second"]],
                p["kind"],
                p["agreement"],
                p["mirrored"],
                p["hash_distance"],
            )
            for p in part.audit.get("duplicates", ())
            if p["first"] in row and p["second"] in row
        ]
    for one, other in combinations(parts, 2):
        found = find_overlap(
            ([f.pixel_sha256 for f in one.facts], [f.pixel_sha256 for f in other.facts]),
            ([f.fingerprint for f in one.facts], [f.fingerprint for f in other.facts]),
            (PlaneReader(one.dataset.root / THUMBS), PlaneReader(other.dataset.root / THUMBS)),
            one.dataset.info.modality,
            track,
        )
        pairs += [replace(p, first=one.first + p.first, second=other.first + p.second) for p in found.pairs]
        limits.append(found.limit)
        candidates += found.candidates
    return Search(tuple(sorted(pairs, key=lambda p: p.kind != "exact")), min(limits), candidates)


def _copy_pixels(parts: Sequence[_Part], folder: Path, info: DatasetInfo, track: Track) -> None:
    """Put images, masks and thumbnails of all sets one after the other; zeros where a set has no masks."""
    side = (info.size, info.size)
    (folder / ORIGINAL_MASKS).mkdir()
    blank = np.zeros((1, *side), dtype=np.uint8)
    with (
        PlaneWriter(folder / IMAGES, (*side, 3) if info.channels == 3 else side) as images,
        PlaneWriter(folder / MASKS, side) as masks,
    ):
        for part in track(parts, "Copying images", len(parts)):
            data = part.dataset
            for row in range(len(data)):
                images.append(data.images([row])[0])
                masks.append((data.masks([row]) if data.info.has_masks else blank)[0])
                outline = data.root / ORIGINAL_MASKS / f"{row:06d}.png"
                if outline.is_file():
                    content = read_plain(outline, MOST_MASK_BYTES, follow=False)
                    (folder / ORIGINAL_MASKS / f"{part.first + row:06d}.png").write_bytes(content)
    if not info.has_masks:
        (folder / MASKS).unlink()
    readers = [PlaneReader(part.dataset.root / THUMBS) for part in parts]
    with PlaneWriter(folder / THUMBS, readers[0].plane) as thumbs:
        for reader in readers:
            for row in range(reader.count):
                thumbs.append(reader([row])[0])


def _with_audits_of_parts(audit: dict[str, Any], parts: Sequence[_Part]) -> dict[str, Any]:
    """Add what only the pixels told, from the audits of the sets."""
    audit = dict(audit)
    for key in _LISTED:
        audit[key] = [
            record
            | {"case_id": f"{part.name}-{record['case_id']}"}
            | ({"label": part.classes.get(record["label"], "")} if "label" in record else {})
            for part in parts
            for record in part.audit.get(key, ())
        ]
    audit["notes"] = [
        {"note": note["note"], "cases": note["cases"], "set": part.name}
        for part in parts
        for note in part.audit["notes"]
    ]
    counted = {key: sum(part.audit["summary"].get(key, 0) for part in parts) for key in _COUNTED}
    audit["summary"] = audit["summary"] | counted
    return audit


def _centres(manifest: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Cases of each class from each centre, and how many of them have a pixel spacing or a mask."""
    return [
        {
            "centre": str(centre),
            "cases": len(own),
            "groups": int(own["group_id"].nunique()),
            **{c: int((own["label"] == c).sum()) for c in classes},
            "with a mask": int(own["has_mask"].sum()),
            "spacing known": int((own["pixel_spacing"] != "").sum()),
        }
        for centre, own in manifest.groupby(CENTRE, sort=True)
    ]


def _warnings(
    parts: Sequence[_Part], search: Search, manifest: pd.DataFrame, info: DatasetInfo, conflicts: int
) -> list[str]:
    """What a person should know: balance, classes of one centre, shared pictures, spacing."""
    rows = _centres(manifest, info.classes)
    texts = [
        "; ".join(
            f"{row['centre']}: {row['cases']} cases ("
            + ", ".join(f"{row[c]} {c}" for c in info.classes if row[c])
            + ")"
            for row in rows
        )
        + "."
    ]
    for name in info.classes:
        there = [row["centre"] for row in rows if row[name]]
        if len(there) < len(rows):
            texts.append(
                f"'{name}' comes from {' and '.join(there)} only: a model may tell it by the centre. "
                "--classes chooses the classes that all have."
            )
    starts = [part.first for part in parts]
    of_set = np.searchsorted(starts, [(p.first, p.second) for p in search.pairs] or [(0, 0)], side="right")
    shared = int((of_set[:, 0] != of_set[:, 1]).sum())
    if shared:
        texts.append(f"{shared} pairs show one picture in two sets; each pair is in one group.")
    if conflicts:
        texts.append(f"{conflicts} pairs show one picture under two labels; they were kept in one group.")
    known = sum(row["spacing known"] for row in rows)
    texts.append(
        f"Each image fills {info.size} pixels, whatever its size in mm ({known} of {len(manifest)} pixel "
        "spacings are known); the splits of the sets were replaced by one drawn by centre and class."
    )
    return texts

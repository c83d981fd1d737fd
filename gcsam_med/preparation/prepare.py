"""The whole of `prepare`: list, read, find duplicates, group, split, audit, store."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.config import PathLike, PrepareOptions
from gcsam_med.datasets import DATASETS, Listing, SourceSpec
from gcsam_med.datasets.archive import is_archive, opened
from gcsam_med.datasets.case import ClassRoles
from gcsam_med.datasets.demo import demo_folder, is_synthetic
from gcsam_med.datasets.download import fetch, sha256_of
from gcsam_med.datasets.prepared import (
    AUDIT,
    IMAGES,
    INFO,
    MANIFEST,
    MASKS,
    ORIGINAL_MASKS,
    DatasetInfo,
    PlaneReader,
    PlaneWriter,
    PreparedDataset,
    prepared_root,
    read_audit,
    with_fingerprint,
)
from gcsam_med.errors import DataFaults, Fault, InputError, unknown_name
from gcsam_med.fields import chosen
from gcsam_med.files import recover, replacing, write_json
from gcsam_med.images import MaskRule
from gcsam_med.preparation.audit import LARGE_MASK, build_audit, find_conflicts
from gcsam_med.preparation.audit_page import keep_pictures, write_audit_page
from gcsam_med.preparation.duplicates import Search, find_duplicates
from gcsam_med.preparation.listing import account_for_all, group_by, name_apart, spell_patients
from gcsam_med.preparation.privacy import identity_key
from gcsam_med.preparation.scan import THUMB, Facts, ScanJob, scan
from gcsam_med.preparation.splits import (
    SPLIT_FILE,
    Division,
    apply_split_file,
    complete,
    connected_groups,
    content_key,
    divide,
    read_split_file,
    same,
    write_split_file,
)
from gcsam_med.preparation.store import (
    FINGERPRINTS,
    SOURCES,
    THUMBS,
    WITH_MARKS,
    build_info,
    build_manifest,
    changes,
    hashes_of,
    is_prepared,
    keep_rows,
    read_sources,
    record_sources,
    stamps_of,
    unchanged_files,
    write_fingerprints,
    write_table,
)
from gcsam_med.progress import Track, silent
from gcsam_med.reading import open_plain, read_json_or_empty

OTHER_NAME = "Wait for it, move it away, or choose another --name."
LEAST_TO_JUDGE = 10  # images; of fewer, one patient may well have a fifth


@dataclass(frozen=True)
class Outcome:
    """What `prepare` did."""

    dataset: PreparedDataset  #: Open for reading.
    fresh: bool  #: False if the same set was there already and nothing was done.
    audit: dict[str, Any] = field(default_factory=dict)  #: The content of ``audit.json``.
    faults: tuple[Fault, ...] = ()  #: Bad files that were left out.
    warnings: tuple[str, ...] = ()  #: What a person should know.
    changes: tuple[str, ...] = ()  #: What differs from the prepared set that was there before.


def prepare(
    dataset: str,
    source: PathLike | None = None,
    data_root: PathLike = "data",
    options: PrepareOptions | None = None,
    *,
    track: Track = silent,
    tell: Callable[[str], None] = lambda note: None,
    **fields: Any,
) -> Outcome:
    """Read, check and split a data set, and store it for training; or find that this is done already.

    Parameters
    ----------
    dataset : str
        A key of `DATASETS`, as `gcsam-med list datasets` shows them.
    source : str or path, optional
        Folder, archive or CSV file with the images; not needed with ``download=True`` or ``demo=True``.
    data_root : str or path
        The result goes to ``data_root/prepared/NAME``.
    options : PrepareOptions, optional
        How; `fields` change it.
    track : Track
        Shows progress.
    tell : callable
        Takes notes on how the source was read (pairs of images and masks, patients, classes) before any
        image is read; they are among the outcome's warnings too.
    **fields
        Fields of `PrepareOptions`, such as ``size=128``.

    Returns
    -------
    Outcome
        ``outcome.dataset`` is open for reading, ``outcome.audit`` says what was found.

    Raises
    ------
    InputError
        If the source is not as expected.
    DataFaults
        If files are bad and `skip_bad` is off; all are listed and nothing was changed.
    EnvironmentFault
        If something cannot be written.
    """
    options, root = chosen(PrepareOptions, options, **fields), Path(data_root)
    source = _source(dataset, source, root, options, track)
    spec, splits = DATASETS[dataset], options.splits
    splits_sha256 = sha256_of(splits) if splits is not None and splits.is_file() else ""
    recorded = {"dataset": dataset, **options.recorded(), "splits_sha256": splits_sha256}
    name = options.name or dataset
    target = prepared_root(root, name)
    recover(target)
    archive_sha256 = sha256_of(source) if is_archive(source) else ""
    unknown = _not_published(source, spec) if archive_sha256 else ""
    differences = option_changes(target, recorded)
    former = read_sources(target / SOURCES)
    unchanged = former is not None and not differences and not options.force
    if unchanged and former is not None and archive_sha256 and archive_sha256 == former.archive_sha256:
        return as_it_was(target)
    key = identity_key(root) if spec.private else None
    with opened(source, target.parent, track) as folder:
        listing = _listed(spec, folder, source, options)
        listing = account_for_all(name_apart(spell_patients(group_by(listing, options.group_regex))))
        spec = replace(
            spec,
            positive=listing.positive or spec.positive,
            negative_classes=listing.negative or spec.negative_classes,
            mask_target=listing.mask_target or spec.mask_target,
        )
        stamps = {} if archive_sha256 else stamps_of(listing)
        if former is not None:
            known = {} if options.force else unchanged_files(former, stamps, key)
            now = record_sources(listing, key, known=known, track=track)
            differences += changes(former, now, name_files=not spec.private)
            if not differences and not options.force:
                return as_it_was(target)
        listing = replace(listing, notes=(*listing.notes, *([unknown] if unknown else [])))
        roles = spec.roles(listing.classes, options.positive, options.negative or ())
        for note in (*listing.notes, *([roles.note] if roles.note else [])):
            tell(note)
        work = _Work(spec, options, listing, roles, name, recorded, key)
        outcome = work.run(target, archive_sha256, stamps, track)
    return replace(outcome, changes=tuple(differences))


def _not_published(source: Path, spec: SourceSpec) -> str:
    """What to say of an archive that is not the published one."""
    if not spec.published:
        return ""
    with open_plain(source) as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 in spec.published:
        return ""
    return f"{source.name} is not a published file of {spec.title}: its MD5 sum is {md5}."


def survey(
    dataset: str,
    source: PathLike | None = None,
    data_root: PathLike = "data",
    options: PrepareOptions | None = None,
    *,
    track: Track = silent,
) -> Listing:
    """List the cases of a source without reading their pixels; see `prepare` for arguments and errors."""
    options, root = options or PrepareOptions(), Path(data_root)
    source = _source(dataset, source, root, options, track)
    with opened(source, root / "prepared", track) as folder:
        return _listed(DATASETS[dataset], folder, source, options)


def _listed(spec: SourceSpec, folder: Path, source: Path, options: PrepareOptions) -> Listing:
    listing = spec.list_cases(folder, **{name: getattr(options, name) for name in spec.takes})
    if not listing.cases and not listing.faults:
        raise InputError(f"No images were found in {source}.", f"Expected: {spec.layout}.")
    return listing


def _check_taken(dataset: str, options: PrepareOptions) -> None:
    """Refuse options that only other data sets take."""
    for name in sorted({name for spec in DATASETS.values() for name in spec.takes}):
        if getattr(options, name) and name not in DATASETS[dataset].takes:
            others = " or ".join(key for key, spec in DATASETS.items() if name in spec.takes)
            raise InputError(
                f"--{name.replace('_', '-')} belongs to --dataset {others}, not to {dataset}.",
                "Leave it out.",
            )


def _source(
    dataset: str, source: PathLike | None, data_root: Path, options: PrepareOptions, track: Track
) -> Path:
    """Where the images are: as given, downloaded, or generated; refuse what does not fit the data set."""
    if dataset not in DATASETS:
        raise unknown_name("data set", dataset, DATASETS.keys())
    _check_taken(dataset, options)
    ways = (("--source", source is not None), ("--download", options.download), ("--demo", options.demo))
    given = [flag for flag, on in ways if on]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given)} exclude one another."
            if given
            else f"prepare needs to know where the images of '{dataset}' are.",
            "Give --source FOLDER, or --download, or --demo for synthetic images.",
        )
    if options.download:
        return fetch(dataset, DATASETS[dataset], data_root / "downloads" / dataset, track)
    if options.demo:
        return demo_folder(dataset, data_root, options.demo_cases, options.seed, track=track)
    if not Path(str(source)).exists():
        raise InputError(f"The source {source} is not there.", "Check --source.")
    return Path(str(source))


def option_changes(target: Path, recorded: dict[str, Any]) -> list[str]:
    """Say which recorded options differ from those of the set that is there; empty if there is none."""
    former = read_json_or_empty(target / INFO).get("options")
    if not isinstance(former, dict):
        return []
    return [
        f"{key} is {recorded.get(key)!r}, was {former.get(key)!r}"
        for key in sorted(recorded.keys() | former.keys())
        if recorded.get(key) != former.get(key)
    ]


def as_it_was(target: Path) -> Outcome:
    """Say that the set is there already."""
    return Outcome(PreparedDataset(target), fresh=False, audit=read_audit(target))


def write_set(
    folder: Path,
    info: DatasetInfo,
    manifest: pd.DataFrame,
    facts: Sequence[Facts],
    group_ids: Sequence[str],
    division: Division,
    audit: dict[str, Any],
) -> None:
    """Write all of a prepared set but its pixels, which are there; ``dataset.json`` last."""
    write_table(folder / MANIFEST, manifest)
    info = with_fingerprint(folder, info)
    write_fingerprints(folder / FINGERPRINTS, facts)
    keys = [content_key(f.source_sha256, f.case_id) for f in facts]
    write_split_file(folder / SPLIT_FILE, info.name, keys, group_ids, division)
    write_json(folder / AUDIT, audit)
    write_audit_page(folder, info, audit)
    write_json(folder / INFO, info.model_dump(mode="json", by_alias=True))


@dataclass(frozen=True)
class _Work:
    """One run: what goes in stays the same from step to step."""

    spec: SourceSpec
    options: PrepareOptions
    listing: Listing
    roles: ClassRoles
    name: str
    recorded: dict[str, Any]
    key: bytes | None

    def run(self, target: Path, archive_sha256: str, stamps: Mapping[str, str], track: Track) -> Outcome:
        """Do all steps and put the result in its place."""
        with replacing(target, is_prepared, f"preparing '{self.name}'", OTHER_NAME) as folder:
            facts, faults = self._read(folder, track)
            if faults and not self.options.skip_bad:
                raise DataFaults(
                    f"{len(faults)} faults in {len(self.listing.cases)} cases; nothing was changed.",
                    faults,
                    "Fix or remove these files, or leave them out with --skip-bad.",
                )
            if not facts:
                raise DataFaults("Not one image can be used; nothing was changed.", faults)
            hashes = hashes_of(facts)
            search = self._search(folder, facts, track)
            warnings_before = self._check_masks(facts)
            facts, no_patient = self._without_placeholder(facts)
            facts, listing = self._label_by_mask(facts)
            roles = self.roles if listing is self.listing else self.spec.roles(listing.classes)
            conflicts = find_conflicts(facts, search, self.options.conflicts)
            facts, search, dropped = self._without_conflicts(folder, facts, search, conflicts)
            groups = _groups(facts, search)
            division, group_ids, warnings = self._divide(facts, groups)
            manifest, left_out = build_manifest(facts, group_ids, division, private=self.spec.private)
            info = build_info(
                manifest,
                name=self.name,
                spec=self.spec,
                listing=listing,
                roles=roles,
                options=self.options,
                recorded=self.recorded,
                folds=division.folds,
                synthetic=is_synthetic(self.listing.root),
                patients=any(f.patient for f in facts),
                split_from=self._split_from(facts),
            )
            audit = build_audit(
                facts,
                search,
                groups,
                division,
                classes=listing.classes,
                faults=faults,
                dropped=dropped,
                conflicts=conflicts,
                unused=self.listing.unused,
                colour_expected=info.modality == "photo",
                private=self.spec.private,
            )
            sources = record_sources(self.listing, self.key, archive_sha256, stamps=stamps, known=hashes)
            sources.write(folder / SOURCES)
            if faults:
                keep_pictures(folder, self.listing.root, faults)
            write_set(folder, info, manifest, facts, group_ids, division, audit)
        found = [*warnings_before, *no_patient, *warnings, *_warnings(audit, left_out, self.options)]
        notes = [*self.listing.notes, *([roles.note] if roles.note else [])]
        warnings = [*notes, *found, *missing_classes(info)]
        return Outcome(
            PreparedDataset(target), fresh=True, audit=audit, faults=tuple(faults), warnings=tuple(warnings)
        )

    def _read(self, folder: Path, track: Track) -> tuple[list[Facts], list[Fault]]:
        """Read all cases and store their pixels; keep only the small facts in memory."""
        modality = self.options.modality or self.spec.modality
        job = ScanJob(
            root=self.listing.root,
            size=self.options.size,
            channels=3 if modality == "photo" else 1,
            empty_mask_classes=self.roles.empty_masks,
            mask_size=self.options.mask_size or self.spec.mask_size,
            frames=self.options.frames,
            rule=MaskRule(self.options.mask_values, self.options.invert_masks, self.options.exif != "ignore"),
            exif=self.options.exif,
            inpaint=self.options.inpaint_marks,
            empty_masks=self.options.empty_masks,
            key=self.key,
        )
        facts: list[Facts] = []
        faults = list(self.listing.faults)
        (folder / ORIGINAL_MASKS).mkdir()
        shape = (job.size, job.size)
        blank = np.zeros(shape, dtype=np.uint8)
        with (
            PlaneWriter(folder / IMAGES, (*shape, 3) if job.channels == 3 else shape) as images,
            PlaneWriter(folder / MASKS, shape) as masks,
            PlaneWriter(folder / WITH_MARKS, images.plane) as originals,
            PlaneWriter(folder / THUMBS, (THUMB, THUMB)) as thumbs,
        ):
            results = scan(self.listing.cases, job, self.options.workers)
            for found in track(results, "Reading images", len(self.listing.cases)):
                for item in found:
                    if isinstance(item, Fault):
                        faults.append(item)
                        continue
                    if item.mask_png:
                        (folder / ORIGINAL_MASKS / f"{images.count:06d}.png").write_bytes(item.mask_png)
                    images.append(item.image)
                    if item.original is not None:
                        originals.append(item.original)
                    masks.append(blank if item.mask is None else item.mask)
                    thumbs.append(item.thumb)
                    facts.append(item.facts)
        if not any(f.has_mask for f in facts):
            (folder / MASKS).unlink()
        if not job.inpaint:
            (folder / WITH_MARKS).unlink()
        return facts, faults

    def _check_masks(self, facts: Sequence[Facts]) -> list[str]:
        """Refuse masks that are inverted as a whole; else warn of those that cover most of their image."""
        large = [f for f in facts if f.statistics.get("mask_fraction", 0) > LARGE_MASK]
        inverted = [f for f in large if f.statistics["mask_corners"] == 1]
        with_mask = sum(f.has_mask for f in facts)
        as_told = self.options.mask_values or self.options.invert_masks
        if 5 * len(inverted) > with_mask and not as_told:
            said = "it is foreground up to the corners."
            raise DataFaults(
                f"{len(inverted)} of {with_mask} masks have more than {LARGE_MASK:.0%} foreground, up to the "
                "corners: foreground and background seem to be swapped; nothing was changed.",
                [Fault(f.case.masks[0], "inverted", said) for f in inverted],
                "--invert-masks swaps them; --mask-values 1-255 takes them as they are.",
            )
        return [f"{len(large)} masks cover most of their image; see the audit."] if large else []

    def _without_placeholder(self, facts: list[Facts]) -> tuple[list[Facts], list[str]]:
        """Pass over a patient id that stands for too many images to be a person's."""
        counts = Counter(f.patient for f in facts if f.patient)
        name, most = counts.most_common(1)[0] if counts else ("", 0)
        if 5 * most <= len(facts) or len(facts) < LEAST_TO_JUDGE or self.options.frames == "all":
            return facts, []
        said = (
            f"One patient id stands for {most} of {len(facts)} images, so it is taken as a placeholder: only "
            "near-duplicates of these images stay together. --group-regex can find patients in file names."
        )
        return [replace(f, patient="") if f.patient == name else f for f in facts], [said]

    def _label_by_mask(self, facts: list[Facts]) -> tuple[list[Facts], Listing]:
        """With --empty-masks healthy, images without a class are called lesion or normal by their mask."""
        if self.options.empty_masks == "refuse" or self.listing.classes:
            return facts, self.listing

        def label(f: Facts) -> str:
            return "" if not f.has_mask else "lesion" if f.statistics["mask_fraction"] > 0 else "normal"

        named = [replace(f, case=replace(f.case, label=label(f))) for f in facts]
        classes = tuple(sorted({f.case.label for f in named} - {""}))
        return named, replace(self.listing, classes=classes)

    def _search(self, folder: Path, facts: Sequence[Facts], track: Track) -> Search:
        return find_duplicates(
            [f.pixel_sha256 for f in facts],
            [f.fingerprint for f in facts],
            PlaneReader(folder / THUMBS),
            self.options.modality or self.spec.modality,
            track,
        )

    def _without_conflicts(
        self, folder: Path, facts: list[Facts], search: Search, conflicts: Sequence[dict[str, Any]]
    ) -> tuple[list[Facts], Search, list[Facts]]:
        """Leave out the images with conflicting labels, if that is the policy."""
        if self.options.conflicts == "keep-together" or not conflicts:
            return facts, search, []
        named = {c[side] for c in conflicts for side in ("first", "second")}
        pixels = {f.pixel_sha256 for f in facts if f.case_id in named}
        kept = np.array([f.pixel_sha256 not in pixels for f in facts], dtype=bool)
        rows = np.flatnonzero(kept)
        keep_rows(folder, rows)
        new_row = np.cumsum(kept) - 1
        pairs = tuple(
            replace(p, first=int(new_row[p.first]), second=int(new_row[p.second]))
            for p in search.pairs
            if kept[p.first] and kept[p.second]
        )
        dropped = [f for f, keep in zip(facts, kept, strict=True) if not keep]
        return [facts[row] for row in rows], replace(search, pairs=pairs), dropped

    def _split_from(self, facts: Sequence[Facts]) -> str:
        given = any(f.case.split or f.case.fold is not None for f in facts)
        return "file" if self.options.splits is not None else "source" if given else "drawn"

    def _divide(self, facts: Sequence[Facts], groups: np.ndarray) -> tuple[Division, list[str], list[str]]:
        """The split: from a file, from the source, or drawn. Also the groups' names, and warnings."""
        names = [facts[group].patient or facts[group].case_id for group in groups]
        options, labels = self.options, [f.case.label for f in facts]
        if options.splits is not None:
            keys = [content_key(f.source_sha256, f.case_id) for f in facts]
            division, names, unused = apply_split_file(read_split_file(options.splits), keys)
            warnings = [f"{unused} entries of the split file have no image here."] if unused else []
            return division, names, warnings
        unit = groups if options.split_by == "group" else np.arange(len(facts))
        given, given_folds = [f.case.split for f in facts], [f.case.fold for f in facts]
        if any(given) or any(fold is not None for fold in given_folds):
            draw = partial(complete, given=given, given_folds=given_folds)
            division = draw(labels, unit, folds=options.folds, seed=options.seed)
            empty = [s for s in ("train", "val", "test") if not (division.split == s).any()]
            return division, names, [f"The source's split has no '{s}' cases." for s in empty]
        return divide(labels, unit, options.folds, options.seed), names, []


def _groups(facts: Sequence[Facts], search: Search) -> np.ndarray:
    """What must stay together: patients, exact copies, near-duplicates, and what these connect."""
    pairs = [*same([f.patient for f in facts]), *((p.first, p.second) for p in search.pairs)]
    return connected_groups(len(facts), pairs)


def missing_classes(info: DatasetInfo) -> list[str]:
    """Name the splits that lack a class."""
    return [
        f"The {split} split holds no case of '{name}'; metrics that need it are not defined there."
        for split, counts in info.counts.items()
        for name in info.classes
        if not counts[name]
    ]


# What prepare warns of for each note that reading left on images, after their number.
NOTE_TEXTS = {
    "placeholder-patient": "DICOM images have a placeholder as patient id; their patient is not known.",
    "multi-frame": "files have several frames, of which one is taken; --frames says which, or all.",
    "mask-labels": "images have masks of several numbers or colours; all but the background are taken as one "
    "foreground. --mask-values N takes some of them.",
    "single-valued": "images have one grey value only, as if nothing had been decoded; see the audit.",
    "burned-in-annotation": "DICOM images say that text is burned into them; it may name a patient.",
    "burned-in-annotation-unknown": "ultrasound images do not say whether text is burned into them; look "
    "before sharing.",
}


def _warnings(audit: dict[str, Any], left_out: Sequence[str], options: PrepareOptions) -> list[str]:
    s = audit["summary"]
    texts = []
    if s["label_conflicts"]:
        done = "left out" if options.conflicts == "drop" else "kept in one group (or use --conflicts drop)"
        texts.append(f"{s['label_conflicts']} pairs show one picture under two labels; they were {done}.")
    if s["groups_on_both_sides"]:
        texts.append(
            f"{s['groups_on_both_sides']} groups of one patient or picture lie on both sides of the split; "
            "results will be too good."
        )
    if s["shortcut_suspects"]:
        first = next(r for r in audit["shortcuts"] if r["suspicious"])
        texts.append(
            f"Possible shortcuts: {s['shortcut_suspects']} simple properties predict the class, such as "
            f"{first['feature']}; see audit.html."
        )
    if n := s["images_with_specks"]:
        texts.append(
            f"Specks, regions below 0.01 % of the image, lie in the mask of {n} images; they are not counted "
            "as lesions. See the audit."
        )
    notes = {record["note"]: record["cases"] for record in audit["notes"]}
    if n := s["unused"]:
        reasons = Counter(record["reason"] for record in audit["unused"])
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        texts.append(f"{n} image files are neither image nor mask of the data set ({listed}); see the audit.")
    for split in ("val", "test"):
        there = [row["class"] for row in audit["balance"] if row[split]]
        if len(audit["balance"]) > 1 and len(there) == 1:
            texts.append(f"The {split} split holds one class only, {there[0]}: it cannot give an AUC.")
    if n := s["images_with_a_shared_mask"]:
        texts.append(f"{n} images have the same mask as another image that looks different; see the audit.")
    texts += [f"{notes[note]} {text}" for note, text in NOTE_TEXTS.items() if note in notes]
    if left_out:
        texts.append(
            f"{', '.join(left_out)} left out: nearly every row has its own value, so it may name a person."
        )
    return texts

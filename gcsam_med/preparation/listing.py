"""What is done with any listing before its files are read: patients, names, and files that nobody named."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath

from gcsam_med.datasets import Case, Listing
from gcsam_med.errors import Fault, InputError
from gcsam_med.images import find_images

# How the names of known data sets tell the patient; offered, never taken without being asked for.
PATTERNS = (r"(person\d+)_", r"(\d{8})_\d{3}", r"(patient\d+)", r"([A-Z]{4})_\d{3}", r"/([^/]+)/[^/]+$")
TOLD_ELSEWHERE = (".csv", ".xlsx", ".xls", ".tsv", ".json", ".xml", ".txt")  # may hold classes or outlines
SHARE = 0.8  # of the names that have to fit a pattern for it to be offered


def group_by(listing: Listing, expression: str) -> Listing:
    """Take the patient from each image's path, or offer to where names look as if they told it.

    Raises
    ------
    InputError
        If `expression` is no regular expression, or finds nothing in any path.
    """
    if not expression:
        return replace(listing, notes=(*listing.notes, *_offer(listing)))
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise InputError(f"--group-regex '{expression}' is no regular expression: {error}.") from None
    people = [_person(pattern, case.image) for case in listing.cases]
    without = people.count("")
    if without == len(people):
        first = listing.cases[0].image if listing.cases else ""
        raise InputError(f"--group-regex '{expression}' finds nothing in any path, such as {first}.")
    notes = [f"--group-regex finds {len(set(people) - {''})} patients in {len(people) - without} images."]
    if without:
        notes.append(
            f"{without} images have no patient by --group-regex; only near-duplicates keep them together."
        )
    cases = [
        replace(case, patient=person or case.patient)
        for case, person in zip(listing.cases, people, strict=True)
    ]
    return replace(listing, cases=tuple(cases), notes=(*listing.notes, *notes))


def spell_patients(listing: Listing) -> Listing:
    """Give each patient one spelling, and say so: ``P01`` and ``p1 `` are one, as are ``7`` and ``7.0``."""
    spelled: dict[str, dict[str, None]] = {}
    for case in listing.cases:
        if case.patient:
            plain = re.sub(r"^(\d+)\.0$", r"\1", " ".join(case.patient.split()).casefold())
            key = re.sub(r"0*(\d+)", r"\1", plain)
            spelled.setdefault(key, {})[case.patient] = None
    several = {name: next(iter(names)) for names in spelled.values() if len(names) > 1 for name in names}
    if not several:
        return listing
    note = (
        f"{len(set(several.values()))} patients are spelled in several ways (case, spaces, leading zeros); "
        "each is taken as one."
    )
    cases = tuple(replace(case, patient=several.get(case.patient, case.patient)) for case in listing.cases)
    return replace(listing, cases=cases, notes=(*listing.notes, note))


def _person(pattern: re.Pattern[str], path: str) -> str:
    match = pattern.search(path)
    return "" if match is None else (match[1] if pattern.groups else match[0]) or ""


def _offer(listing: Listing) -> list[str]:
    if any(case.patient for case in listing.cases) or len(listing.cases) < 2:
        return []
    for text in PATTERNS:
        people = [_person(re.compile(text), case.image) for case in listing.cases]
        known = [person for person in people if person]
        groups = len(set(known))
        labels = {case.label for case in listing.cases} | {case.split for case in listing.cases}
        if len(known) >= SHARE * len(people) and 5 <= groups < len(known) and not labels & set(known):
            return [
                f"The paths look as if they told {groups} patients. If so, --group-regex "
                f"'{text}' keeps each of them on one side of the split."
            ]
    return []


def name_apart(listing: Listing) -> Listing:
    """Make the names of cases unique: where two meet, the paths of their images name them."""
    taken = Counter(case.name for case in listing.cases)
    if all(count == 1 for count in taken.values()):
        return listing
    stems = Counter(_without_suffix(case) for case in listing.cases)

    def name(case: Case) -> str:
        stem = _without_suffix(case)
        return case.name if taken[case.name] == 1 else stem if stems[stem] == 1 else case.image

    cases = tuple(replace(case, name=name(case)) for case in listing.cases)
    again = [case for case, n in Counter(c.name for c in cases).items() if n > 1]
    if again:
        raise InputError(f"{len(again)} images are listed twice.", "List each image once.")
    return replace(listing, cases=cases)


def _without_suffix(case: Case) -> str:
    return PurePosixPath(case.image).with_suffix("").as_posix()


def account_for_all(listing: Listing) -> Listing:
    """Name as unused each image file below the source that the listing does not speak of."""
    if any(case.raw is not None for case in listing.cases):
        return listing
    named = {path for case in listing.cases for path in (case.image, *case.masks)}
    named |= {fault.path for fault in (*listing.faults, *listing.unused)}
    paths = (path.relative_to(listing.root).as_posix() for path in find_images(listing.root))
    left = [
        Fault(path, "not-listed", "the layout has no place for it.") for path in paths if path not in named
    ]
    notes = listing.notes
    if listing.cases and not any(case.label or case.masks for case in listing.cases):
        suffixes = Counter(p.suffix.lower() for p in listing.root.rglob("*"))
        beside = ", ".join(f"{suffixes[s]} {s}" for s in TOLD_ELSEWHERE if suffixes[s])
        hint = f" Not read: {beside} files. --dataset table reads classes from a table." * bool(beside)
        notes += (f"No image has a class or a mask, so there is nothing to learn from them.{hint}",)
    return replace(listing, unused=(*listing.unused, *left), notes=notes)

"""What is wrong or suspicious in a data set, as plain data: the content of ``audit.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gcsam_med.datasets.prepared import SPLITS
from gcsam_med.errors import Fault
from gcsam_med.preparation.duplicates import Search
from gcsam_med.preparation.scan import Facts
from gcsam_med.preparation.shortcuts import shortcuts
from gcsam_med.preparation.splits import TEST_PARTS, Division

SCHEMA = 1
COLOURED = 0.002  # fraction of coloured pixels from which a grey modality's image has an overlay
DRAWS = 200  # random splits over which the leak of an image-level split is averaged
LARGE_MASK = 0.6  # share of an image that no lesion covers
UNUSUAL = 6.0  # robust standard deviations
SKEWED = 0.05  # share of cases beyond them from which a property is spread unevenly, not those cases unusual


def build_audit(
    facts: Sequence[Facts],
    search: Search,
    groups: np.ndarray,
    division: Division,
    *,
    classes: Sequence[str],
    faults: Sequence[Fault],
    dropped: Sequence[Facts],
    conflicts: Sequence[dict[str, Any]],
    unused: Sequence[Fault],
    colour_expected: bool,
    private: bool,
) -> dict[str, Any]:
    """Put together what a person should look at before trusting a number made from these data.

    `groups` and `division` tell what was kept together and where each case went; `faults` and `dropped` what
    was left out (bad files, conflicting labels). With `colour_expected` (photographs) colour is no overlay;
    of `private` sources no file is named. The result is ready for JSON: ``summary`` and lists of plain
    records.
    """
    several = [n for n in Counter(groups.tolist()).values() if n > 1]
    leaks = _leaks(facts, groups, division)
    marks = _flagged(facts, "marks", 1)
    coloured = [] if colour_expected else _flagged(facts, "colour", COLOURED)
    found_shortcuts = shortcuts(facts, groups)
    shared = _shared_masks(facts, groups)
    near = [p for p in search.pairs if p.kind == "near"]
    summary = {
        "cases": len(facts),
        "quarantined": len(faults),
        "unused": len(unused),
        "dropped": len(dropped),
        "exact_duplicate_pairs": len(search.pairs) - len(near),
        "near_duplicate_pairs": len(near),
        "groups_of_several": len(several),
        "images_in_groups_of_several": int(sum(several)),
        "label_conflicts": len(conflicts),
        "groups_on_both_sides": len(leaks),
        "random_split_leak": _random_split_leak(len(facts), search),
        "hash_distance_searched": search.limit,
        "pairs_compared": search.candidates,
        "images_with_marks": len(marks),
        "images_with_coloured_overlay": len(coloured),
        "images_with_specks": sum(f.statistics.get("mask_specks", 0) > 0 for f in facts),
        "images_with_a_shared_mask": len(shared),
        "shortcut_suspects": sum(s["suspicious"] for s in found_shortcuts),
    }
    return {
        "schema": SCHEMA,
        "summary": summary,
        "conflicts": list(conflicts),
        "leaks": leaks,
        "duplicates": [_pair(facts, p) for p in search.pairs],
        "shortcuts": found_shortcuts,
        "marks": marks,
        "coloured": coloured,
        "unusual": _unusual(facts),
        "balance": _balance(facts, division, classes),
        "statistics": _statistics(facts, classes),
        "resolutions": _resolutions(facts, classes),
        "notes": [{"note": k, "cases": n} for k, n in Counter(x for f in facts for x in f.notes).items()],
        "dropped": [f.case_id for f in dropped],
        "quarantined": _files(faults, private),
        "unused": _files(unused, private),
        "masks": _flagged(facts, "mask_fraction", LARGE_MASK),
        "specks": _flagged(facts, "mask_specks", 1),
        "shared_masks": shared,
    }


def find_conflicts(facts: Sequence[Facts], search: Search, action: str) -> list[dict[str, Any]]:
    """Pairs that show one picture under two labels; `action` is what is done about them, for the record."""
    found = []
    for pair in search.pairs:
        one, two = facts[pair.first], facts[pair.second]
        if one.case.label and two.case.label and one.case.label != two.case.label:
            record = _pair(facts, pair)
            found.append({**record, "action": action})
    return found


def _files(faults: Sequence[Fault], private: bool) -> list[dict[str, str]]:
    if private:  # a path may name a person, and a detail may hold a path
        return [{"path": "(private)", "reason": f.reason, "detail": ""} for f in faults]
    return [{"path": f.path, "reason": f.reason, "detail": f.detail} for f in faults]


def _pair(facts: Sequence[Facts], pair: Any) -> dict[str, Any]:
    one, two = facts[pair.first], facts[pair.second]
    return {
        "first": one.case_id,
        "second": two.case_id,
        "first_label": one.case.label,
        "second_label": two.case.label,
        "kind": pair.kind,
        "agreement": pair.agreement,
        "mirrored": pair.mirrored,
        "hash_distance": pair.distance,
    }


def _leaks(facts: Sequence[Facts], groups: np.ndarray, division: Division) -> list[dict[str, Any]]:
    """Groups with cases in more than one split: an official or given split, or a split by image."""
    splits: dict[int, Counter[str]] = {}
    for group, split in zip(groups.tolist(), division.split.tolist(), strict=True):
        splits.setdefault(group, Counter())[split] += 1
    return [
        {"group": facts[group].patient or facts[group].case_id, **{s: counts.get(s, 0) for s in SPLITS}}
        for group, counts in splits.items()
        if len(counts) > 1
    ]


def _random_split_leak(n: int, search: Search) -> float:
    """Share of test images with a duplicate in training if a fifth were drawn image by image."""
    if not search.pairs or n < TEST_PARTS:
        return 0.0
    pairs = np.array([(p.first, p.second) for p in search.pairs])
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(DRAWS):
        test = np.zeros(n, dtype=bool)
        test[rng.permutation(n)[: n // TEST_PARTS]] = True
        first, second = test[pairs[:, 0]], test[pairs[:, 1]]
        leaked = np.unique(np.concatenate([pairs[first & ~second, 0], pairs[~first & second, 1]]))
        shares.append(len(leaked) / test.sum())
    return round(float(np.mean(shares)), 4)


def _flagged(facts: Sequence[Facts], name: str, threshold: float) -> list[dict[str, Any]]:
    """Cases whose statistic reaches a threshold, the most suspicious first."""
    hits = [f for f in facts if f.statistics.get(name, -1) >= threshold]
    hits.sort(key=lambda f: -f.statistics[name])
    return [{"case_id": f.case_id, "label": f.case.label, name: round(f.statistics[name], 4)} for f in hits]


def _shared_masks(facts: Sequence[Facts], groups: np.ndarray) -> list[dict[str, Any]]:
    """Cases of different groups whose masks are equal byte for byte and hold something."""
    drawn = [f.mask_sha256 if f.statistics.get("mask_fraction", 0) > 0 else "" for f in facts]
    owners: dict[str, set[int]] = {}
    for mask, group in zip(drawn, groups.tolist(), strict=True):
        owners.setdefault(mask, set()).add(group)
    times = Counter(drawn)
    return [
        {"case_id": f.case_id, "label": f.case.label, "images_with_this_mask": times[mask]}
        for f, mask in zip(facts, drawn, strict=True)
        if mask and len(owners[mask]) > 1
    ]


def _unusual(facts: Sequence[Facts]) -> list[dict[str, Any]]:
    """Cases far from the rest in brightness, contrast or mask size (robust z-score)."""
    found: list[tuple[float, dict[str, Any]]] = []
    for name in ("mean", "sd", "black", "white", "mask_fraction"):
        known = [(i, f.statistics[name]) for i, f in enumerate(facts) if name in f.statistics]
        if len(known) < 10:
            continue
        values = np.array([v for _, v in known])
        middle = np.median(values)
        spread = 1.4826 * np.median(np.abs(values - middle))
        if spread <= 0:
            continue
        scores = (values - middle) / spread
        if (np.abs(scores) > UNUSUAL).mean() > SKEWED:
            continue
        for (i, value), z in zip(known, scores, strict=True):
            if abs(z) > UNUSUAL:
                record = {"case_id": facts[i].case_id, "what": name, "value": round(value, 4)}
                found.append((abs(float(z)), {**record, "robust_z": round(float(z), 1)}))
    found.sort(key=lambda item: -item[0])
    return [record for _, record in found[:200]]


def _balance(facts: Sequence[Facts], division: Division, classes: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for label in classes or ("",):
        own = np.array([f.case.label == label for f in facts], dtype=bool)
        counts: dict[str, int] = {s: int((own & (division.split == s)).sum()) for s in SPLITS}
        share = round(float(own.mean()), 4) if len(own) else 0.0
        rows.append({"class": label or "(no label)", **counts, "total": int(own.sum()), "share": share})
    return rows


def _statistics(facts: Sequence[Facts], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Means by class."""
    rows = []
    for label in classes or ("",):
        own = [f for f in facts if f.case.label == label]
        names = dict.fromkeys(name for f in own for name in f.statistics)
        row: dict[str, Any] = {"class": label or "(no label)", "cases": len(own)}
        for name in names:
            row[name] = round(float(np.mean([f.statistics[name] for f in own if name in f.statistics])), 4)
        rows.append(row)
    return rows


def _resolutions(facts: Sequence[Facts], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The commonest image sizes, with their classes."""
    by_size = Counter((f.width, f.height) for f in facts)
    rows = []
    for (width, height), n in by_size.most_common(12):
        own = [f for f in facts if (f.width, f.height) == (width, height)]
        by_class = {c: sum(f.case.label == c for f in own) for c in classes}
        rows.append({"resolution": f"{width} x {height}", "cases": n, **by_class})
    return rows

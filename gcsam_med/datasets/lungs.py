"""Chest X-rays with lung masks: Shenzhen and Montgomery, and JSRT with the masks of SCR.

- Shenzhen and Montgomery: ``cxr/`` or ``CXR_png/`` beside ``masks/``; or as they are shipped,
  ``MontgomerySet/CXR_png`` with ``ManualMask/leftMask`` and ``rightMask`` (united), and
  ``ChinaSet_AllFiles/CXR_png`` with ``mask/NAME_mask.png``. ``CHNCXR_0001_0.png`` is Shenzhen,
  ``MCUCXR_...`` Montgomery; the last digit is 0 for normal and 1 for tuberculosis.
- JSRT: ``JPCLN001.IMG`` (a square of big-endian words, 2048 x 2048 of 0.175 mm, 0 is white) in any folder,
  ``CLNDAT_EN.txt`` (nodules: name, subtlety, size, age, sex, x, y, malignancy, ...) and ``CNNDAT_EN.txt``
  (name, age, sex). SCR's masks lie in ``left lung/`` and ``right lung/``.
"""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePosixPath

from gcsam_med.datasets.case import Case, Listing, RawPixels, locate, paired
from gcsam_med.errors import Fault
from gcsam_med.images import find_images
from gcsam_med.reading import faults as reading_faults
from gcsam_med.reading import read_plain

CLASSES = ("normal", "tuberculosis")
SITES = {"CHNCXR": "Shenzhen", "MCUCXR": "Montgomery"}
NAME = re.compile(r"^(?P<site>CHNCXR|MCUCXR)_\d+_(?P<label>[01])$")
IMAGE_FOLDERS = frozenset({"cxr", "cxr_png"})

JSRT_CLASSES = ("non-nodule", "nodule")
JSRT_NAME = re.compile(r"^JPC(LN|NN)\d{3}$", re.IGNORECASE)
JSRT_WIDTH_MM = 2048 * 0.175
MOST_TABLE_BYTES = 2**20


def list_cases(source: Path) -> Listing:
    """List the cases of Shenzhen and Montgomery; see the module's text for the layout."""
    wanted = ("cxr", "CXR_png", "MontgomerySet", "ChinaSet_AllFiles")
    root = locate(source, [(name,) for name in wanted], "The lung data set")
    images: list[Path] = []
    masks: list[Path] = []
    for path in find_images(root):
        inner = path.relative_to(root).parent.parts
        if any("mask" in part.lower() for part in inner):
            masks.append(path)
        elif inner and inner[-1].lower() in IMAGE_FOLDERS:
            images.append(path)
    pairs, faults = paired(root, images, masks)
    cases: list[Case] = []
    for image, own in pairs:
        name = PurePosixPath(image).stem
        match = NAME.match(name)
        if match is None:
            said = "names here are like CHNCXR_0001_0 or MCUCXR_0108_1."
            faults.append(Fault(image, "label-unknown", said))
            continue
        site, label = SITES[match["site"]], CLASSES[int(match["label"])]
        if len(own) == 1 and re.search("left|right", own[0], re.IGNORECASE):
            faults.append(Fault(image, "half-mask", "one of its two masks, left and right, is missing."))
        else:
            cases.append(Case(name, image, own, label, attributes={"site": site}))
    return Listing(root, tuple(cases), CLASSES, tuple(faults), _without_mask(cases))


def list_jsrt(source: Path) -> Listing:
    """List JSRT; see the module's text for the layout."""
    places = ("", "Clinical_Information/", "clinical/")
    root = locate(source, [(f"{place}CLNDAT_EN.txt",) for place in places], "JSRT")
    known = {name: row for path in root.rglob("C[LN]NDAT_EN.*") for name, row in _clinical(path).items()}
    files = [path.relative_to(root) for path in find_images(root)]
    left, right = (
        {p.stem.upper(): p.as_posix() for p in files if p.parent.name.lower() == side}
        for side in ("left lung", "right lung")
    )
    cases: list[Case] = []
    faults: list[Fault] = []
    words = sorted(p for p in root.rglob("*") if p.suffix.lower() == ".img" and JSRT_NAME.match(p.stem))
    for path in words:
        name, image = path.stem.upper(), path.relative_to(root).as_posix()
        lungs = tuple(side.pop(name) for side in (left, right) if name in side)
        if name not in known:
            faults.append(Fault(image, "not-listed", "neither CLNDAT_EN nor CNNDAT_EN lists it."))
        elif (side := math.isqrt(path.stat().st_size // 2)) * side * 2 != path.stat().st_size or not side:
            faults.append(Fault(image, "truncated", "an image here has 2048 x 2048 words, 8,388,608 bytes."))
        elif len(lungs) == 1:
            faults.append(Fault(image, "half-mask", "one of its two masks, left and right, is missing."))
        else:
            label, mm = JSRT_CLASSES[name.startswith("JPCLN")], JSRT_WIDTH_MM / side
            raw = RawPixels(0, (side, side), ">u2", white_is_zero=True)
            cases.append(Case(name, image, lungs, label, attributes=known[name], raw=raw, spacing=(mm, mm)))
    there = {case.name for case in cases} | {PurePosixPath(f.path).stem.upper() for f in faults}
    faults += [Fault(f"{n}.IMG", "missing", "the tables list it.") for n in known if n not in there]
    orphans = [path for side in (left, right) for name, path in side.items() if name not in there]
    faults += [Fault(path, "no-image", "a mask without its image.") for path in orphans]
    return Listing(root, tuple(cases), JSRT_CLASSES, tuple(faults), _without_mask(cases))


def _clinical(path: Path) -> dict[str, dict[str, str]]:
    """What a clinical table says of each image: words with blanks or tabs between them, no head."""
    with reading_faults(path, "Unpack the archive again."):
        text = read_plain(path, MOST_TABLE_BYTES).decode("cp1252", errors="replace")
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        words = line.split()
        name = PurePosixPath(words[0]).stem.upper() if words else ""
        if not JSRT_NAME.match(name):
            continue
        if name.startswith("JPCNN"):
            columns = dict(zip(("age", "sex"), words[1:], strict=False))
        else:
            columns = dict(zip(("subtlety", "size_mm", "age", "sex"), words[1:], strict=False))
            columns["malignancy"] = next((w for w in words if w in ("malignant", "benign")), "")
        found[name] = columns
    return found


def _without_mask(cases: list[Case]) -> tuple[str, ...]:
    without = sum(not case.masks for case in cases)
    return (f"{without} images have no mask; they serve classification only.",) if without else ()

"""COVID-19 chest X-rays with outlined infections: COVID-QU-Ex and QaTa-COV19 v2.

- COVID-QU-Ex: ``Infection Segmentation Data/{Train,Val,Test}/{COVID-19,Non-COVID,Normal}/`` with ``images``,
  ``infection masks`` and ``lung masks``; ``Lung Segmentation Data`` is larger and has lung masks alone.
  ``--target infection`` (default) or ``--target lung`` chooses the masks. The given split is honoured.
- QaTa-COV19 v2: ``Train Set/Images``, ``Train Set/Ground-truths/mask_NAME.png``, ``Test Set/...``. All images
  show COVID-19. Names such as ``sub-S09345_ses-...`` tell the patient.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gcsam_med.datasets.case import Case, Listing, locate, paired
from gcsam_med.errors import Fault, unknown_name
from gcsam_med.images import find_images

CLASSES = ("COVID-19", "Non-COVID", "Normal")
SPLITS = {"Train": "train", "Val": "val", "Test": "test"}
TARGETS = ("infection", "lung")
PATIENT = re.compile(r"sub-([A-Za-z0-9]+)")


def list_covid_qu_ex(source: Path, target: str = "") -> Listing:
    """List COVID-QU-Ex; `target` is infection or lung."""
    target = target or TARGETS[0]
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    masks, others = (f"{kind} masks" for kind in (target, TARGETS[target == TARGETS[0]]))
    wanted = [f"Train/{CLASSES[0]}/{kind}" for kind in ("images", masks)]
    folders = sorted(f for pattern in ("*/", "*/*/") for f in source.glob(pattern) if _holds(f, wanted))
    # Both parts of the set have lung masks; the part that is called so has more.
    named = [f for f in folders if target in f.name.lower()]
    root = locate((named or folders or [source])[0], [wanted], f"COVID-QU-Ex with {masks}")
    cases: list[Case] = []
    faults: list[Fault] = []
    unused: list[Fault] = []
    for folder, split in SPLITS.items():
        for label in CLASSES:
            place = root / folder / label
            images, own, left = (find_images(place / kind) for kind in ("images", masks, others))
            pairs, orphans = paired(root, images, own)
            faults += orphans
            said = f"with --target {target} the masks are those in {masks}."
            unused += [Fault(p.relative_to(root).as_posix(), "other-target", said) for p in left]
            for image, outlines in pairs:
                if own and not outlines:
                    faults.append(Fault(image, "no-mask", f"there are {masks}, but none for it."))
                else:
                    cases.append(Case(PurePosixPath(image).stem, image, outlines, label, split=split))
    note = f"Masks outline the {target} (--target {' or '.join(TARGETS)})."
    return Listing(root, tuple(cases), CLASSES, tuple(faults), (note,), tuple(unused), mask_target=target)


def _holds(folder: Path, names: Sequence[str]) -> bool:
    return all((folder / name).is_dir() for name in names)


def list_qata(source: Path) -> Listing:
    """List QaTa-COV19 v2."""
    layout = [f"{split} Set/{kind}" for split in ("Train", "Test") for kind in ("Images", "Ground-truths")]
    root = locate(source, [layout], "QaTa-COV19 v2")
    cases: list[Case] = []
    faults: list[Fault] = []
    for folder, split in (("Train Set", ""), ("Test Set", "test")):
        masks = {p.name.removeprefix("mask_"): p for p in find_images(root / folder / "Ground-truths")}
        for path in find_images(root / folder / "Images"):
            image, mask = path.relative_to(root).as_posix(), masks.pop(path.name, None)
            if mask is None:
                faults.append(Fault(image, "no-mask", f"there is no Ground-truths/mask_{path.name}."))
                continue
            patient = match[1] if (match := PATIENT.match(path.stem)) else ""
            own = (mask.relative_to(root).as_posix(),)
            cases.append(Case(path.stem, image, own, CLASSES[0], patient, split))
        left = (p.relative_to(root).as_posix() for p in masks.values())
        faults += [Fault(path, "no-image", "a mask without its image.") for path in left]
    return Listing(root, tuple(cases), CLASSES[:1], tuple(faults))

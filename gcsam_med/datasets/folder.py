"""Any folder of class folders: ``CLASS/*.png``, with masks if there are any.

Masks may lie in ``CLASS/masks/``, in ``masks/CLASS/``, or beside their image as ``NAME_mask.png``
(``NAME_mask_1.png`` ...). With ``CLASS/masks/`` the images may lie in ``CLASS/images/``. Without classes:
``images/`` and ``masks/``. Folders ``train``, ``val``, ``test`` on top are honoured as the split.
"""

from __future__ import annotations

from pathlib import Path

from gcsam_med.datasets.case import MASK_STEM, Case, Listing, image_files, paired
from gcsam_med.errors import Fault, InputError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
MASK_FOLDERS = ("masks", "mask")


def list_cases(source: Path) -> Listing:
    """List the cases of a folder; see the module's text for the layouts."""
    if not source.is_dir():
        raise InputError(f"{source} is not a folder.", "Check --source.")
    root = _unwrapped(source)
    parts = {SPLIT_NAMES[p.name.lower()]: p for p in _folders(root) if p.name.lower() in SPLIT_NAMES}
    cases: list[Case] = []
    faults: list[Fault] = []
    for split, folder in (parts or {"": root}).items():
        _list_part(root, folder, split, cases, faults)
    if not cases and not faults:
        raise InputError(
            f"{source} holds no class folders with images.",
            "Expected CLASS/*.png, or images/ and masks/, or train/CLASS/*.png and test/CLASS/*.png.",
        )
    classes = tuple(sorted({case.label for case in cases if case.label}))
    return Listing(root=root, cases=tuple(cases), classes=classes, faults=tuple(faults))


def _unwrapped(source: Path) -> Path:
    """Step into a single folder that wraps all the rest, as archives often have."""
    inside = [p for p in source.iterdir() if not p.name.startswith((".", "__MACOSX"))]
    if len(inside) == 1 and inside[0].is_dir() and len(_folders(inside[0])) > 1:
        return inside[0]
    return source


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))


def _list_part(root: Path, folder: Path, split: str, cases: list[Case], faults: list[Fault]) -> None:
    folders = _folders(folder)
    shared = next((p for p in folders if p.name.lower() in MASK_FOLDERS), None)
    classes = [p for p in folders if p != shared]
    if shared is not None and [p.name.lower() for p in classes] == ["images"]:
        found = _list_class(root, classes[0], shared, "", split)
        cases += found[0]
        faults += found[1]
        return
    for path in classes:
        own = next((path / name for name in MASK_FOLDERS if (path / name).is_dir()), None)
        beside = shared / path.name if shared is not None and (shared / path.name).is_dir() else None
        found = _list_class(root, path, own or beside, path.name, split)
        cases += found[0]
        faults += found[1]


def _list_class(
    root: Path, folder: Path, mask_folder: Path | None, label: str, split: str
) -> tuple[list[Case], list[Fault]]:
    inside = folder / "images" if (folder / "images").is_dir() else folder
    files = image_files(inside, nested=True)
    if mask_folder is not None:
        files = [p for p in files if mask_folder not in p.parents]
        masks = image_files(mask_folder)
    else:
        stems = {p.stem for p in files}
        masks = [p for p in files if (m := MASK_STEM.match(p.stem)) and m["image"] in stems]
        files = [p for p in files if p not in set(masks)]
    leaving = [p for p in files if _leaves(root, p)]
    pairs, orphans = paired(root, [p for p in files if p not in leaving], masks)
    cases: list[Case] = []
    faults = [
        Fault(p.relative_to(root).as_posix(), "outside", "a link that leads out of the source.")
        for p in leaving
    ]
    for image, own in pairs:
        if mask_folder is not None and not own:
            faults.append(Fault(image, "no-mask", f"there is no mask for it in {mask_folder.name}/."))
        else:
            cases.append(Case(name=image, image=image, masks=own, label=label, split=split))
    return cases, faults + orphans


def _leaves(root: Path, path: Path) -> bool:
    return path.is_symlink() and not path.resolve().is_relative_to(root.resolve())

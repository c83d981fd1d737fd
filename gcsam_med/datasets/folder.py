"""Any folder of images, with masks if there are any: who is whose mask, which class, which split.

Every image file below the source becomes an image, becomes a mask, or is named with the reason why not.

- A folder whose name says mask (``masks``, ``labels``, ``GT``, ``ground_truth``, ``segmentations``,
  ``annotations``, ``lung masks``, ``leftMask`` ...) holds masks, at any depth. A file elsewhere is a mask if
  its name says so (``x_mask.png``, ``x-seg.png``, ``x_tumor_1.png``, ``mask_1.png``).
- Image and mask belong together if they have the same place (the folders' names without those that say image
  or mask) and the same name (without what says mask), or failing that the same number. Where a mask could
  belong to several images, or an image has masks from several places, nothing is guessed: the error shows the
  readings and the options that settle it (``--images GLOB``, ``--masks GLOB``, ``--mask-suffix``).
- Folders ``train``, ``val``, ``test`` (and the like) at any depth are the split. Folders that wrap everything
  are passed over; the first one that is left is the class. Names that differ in case only are one class.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from gcsam_med.datasets.case import HEALTHY, Case, Listing
from gcsam_med.errors import Fault, InputError
from gcsam_med.images import find_images, has_two_values

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trainset", "train set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "val set", "validation set"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "test set"), "test"),
}
IMAGE_FOLDERS = frozenset({"images", "imgs", "image", "img", "original", "originals", "data", "cxr"})
MASK_FOLDERS = frozenset({"labels", "label", "annotations", "annotation", "annot"})
MASK_WORDS = frozenset(
    {"mask", "masks", "gt", "gts", "groundtruth", "seg", "segs", "segmentation", "segmentations"}
)
IMAGE_WORDS = frozenset({"image", "images", "img", "original", "scan"})
MARK = r"(?:mask|segmentation|seg|tumou?r|lesion|gt|labels?|annotation|groundtruth|ground[ _-]truth)"
# "lesion (1)_mask_2", "x-seg", "x_tumor1", "x_mask (1)" (a browser's copy); "mask_7".
SUFFIX_MARK = re.compile(rf"^(?P<image>.+?)[ _.-]+{MARK}[ _-]?\d*(?: ?\(\d+\))?$", re.IGNORECASE)
PREFIX_MARK = re.compile(rf"^{MARK}[ _.-]+(?P<image>.+)$", re.IGNORECASE)
SHOWN = 3  # examples in a message


@dataclass(frozen=True)
class _File:
    """An image file below the source, and what its path says."""

    path: PurePosixPath
    suffix: str = ""  #: What --mask-suffix says masks end in.

    @cached_property
    def mask_folder(self) -> str:
        """Name of the folder that says mask, or empty."""
        return next((part for part in self.path.parent.parts if _says_mask(part)), "")

    @cached_property
    def place(self) -> tuple[str, ...]:
        """The folders' names without those that say image or mask, in lower case."""
        parts = self.path.parent.parts
        return tuple(p.casefold() for p in parts if not _says_mask(p) and p.casefold() not in IMAGE_FOLDERS)

    @cached_property
    def unmarked(self) -> str:
        """The stem without what says mask; empty where nothing does."""
        stem = self.path.stem
        if self.suffix:
            return stem.removesuffix(self.suffix) if stem.endswith(self.suffix) else ""
        match = SUFFIX_MARK.match(stem) or PREFIX_MARK.match(stem)
        return match["image"] if match else ""

    @property
    def core(self) -> str:
        """The words of the stem without those that say image or mask: "1 Benign Mask" -> "1 benign"."""
        words = (w for w in _words(self.unmarked or self.path.stem) if w not in MASK_WORDS | IMAGE_WORDS)
        return " ".join(words)

    @property
    def number(self) -> str:
        """The stem from its first digit on: "test_Image_1" and "mask_1" -> "1"."""
        return re.sub(r"^\D+", "", self.path.stem)


def list_cases(source: Path, images: str = "", masks: str = "", mask_suffix: str = "") -> Listing:
    """List the cases of a folder; see the module's text.

    Parameters
    ----------
    source : Path
        The folder.
    images, masks : str, optional
        Patterns relative to it (``scans/**/*.png``): what is an image, what is a mask.
    mask_suffix : str, optional
        What the names of masks end in (``_outline``).

    Raises
    ------
    InputError
        If there are no images, or masks and images can be read in several ways.
    """
    if not source.is_dir():
        raise InputError(f"{source} is not a folder.", "Check --source.")
    found: list[_File] = []
    outside: list[_File] = []
    for path in find_images(source):
        leaves = path.is_symlink() and not path.resolve().is_relative_to(source.resolve())
        relative = PurePosixPath(path.relative_to(source).as_posix())
        (outside if leaves else found).append(_File(relative, mask_suffix))
    pictures, outlines, unused = _sort_out(source, found, images, masks)
    if not pictures:
        raise InputError(
            f"{source} holds no images" + (f", but {len(outlines)} masks." if outlines else "."),
            "Expected CLASS/*.png, or images/ and masks/, or train/CLASS/*.png and test/CLASS/*.png. "
            "--images GLOB says which files are images.",
        )
    pairs, orphans, notes = _pair(pictures, outlines)
    labels, label_notes = _labels(pictures, outlines)
    splits = [_split(file) for file in pictures]
    cases: list[Case] = []
    faults = [Fault(str(f.path), "outside", "a link that leads out of the source.") for f in outside]
    with_mask_folder = {f.place for f in pairs if any(m.mask_folder for m in pairs[f])}
    for file, label, split in zip(pictures, labels, splits, strict=True):
        name, own = str(file.path), tuple(str(m.path) for m in pairs.get(file, ()))
        if any(splits) and not split:
            faults.append(Fault(name, "no-split", "it lies beside the split's folders, in none of them."))
        elif not own and file.place in with_mask_folder and label.casefold() not in HEALTHY:
            faults.append(Fault(name, "no-mask", "there is a folder of masks, but no mask for it."))
        else:
            cases.append(Case(name=name, image=name, masks=own, label=label, split=split))
    faults += [Fault(str(f.path), "no-image", "a mask without its image.") for f in orphans]
    classes = tuple(sorted({label for label in labels if label}))
    return Listing(source, tuple(cases), classes, tuple(faults), (*notes, *label_notes), tuple(unused))


def _says_mask(folder: str) -> bool:
    name = folder.casefold()
    words = _words(folder)
    together = "groundtruth" in name.replace(" ", "").replace("_", "").replace("-", "")
    return name in MASK_FOLDERS or together or bool(MASK_WORDS & set(words))


def _words(name: str) -> list[str]:
    """Words in lower case, also of leftMask: left, mask."""
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _split(file: _File) -> str:
    names = (part.casefold().replace("_", " ").replace("-", " ") for part in file.path.parent.parts)
    return next((SPLIT_NAMES[name] for name in names if name in SPLIT_NAMES), "")


def _sort_out(
    source: Path, files: Sequence[_File], images: str, masks: str
) -> tuple[list[_File], list[_File], list[Fault]]:
    """Images, masks, and what is neither with the reason."""
    if images or masks:
        chosen = [_matching(source, files, pattern) for pattern in (images, masks)]
        pictures = chosen[0] if images else [f for f in files if f not in set(chosen[1])]
        # Without --masks the rest may hold masks, but nothing that --images did not name is an image.
        rest = [f for f in files if f not in set(pictures)]
        outlines = chosen[1] if masks else [f for f in rest if f.mask_folder or f.unmarked]
        taken = {*pictures, *outlines}
        why = "no pattern of --images or --masks covers it."
        return pictures, outlines, [Fault(str(f.path), "not-chosen", why) for f in files if f not in taken]
    pictures = [f for f in files if not f.mask_folder and not f.unmarked]
    outlines = [f for f in files if f.mask_folder or f.unmarked]
    # A name that happens to say mask, where no image lies that it could outline: an image after all.
    if not pictures and not any(f.mask_folder for f in outlines):
        pictures, outlines = outlines, []
    pictures, unused = _without_unknown_marks(source, pictures)
    return pictures, outlines, unused


def _matching(source: Path, files: Sequence[_File], pattern: str) -> list[_File]:
    if not pattern:
        return []
    try:
        hits = {PurePosixPath(p.relative_to(source).as_posix()) for p in source.glob(pattern)}
    except (ValueError, NotImplementedError, IndexError):
        raise InputError(f"'{pattern}' is not a pattern of paths below {source}.") from None
    chosen = [f for f in files if f.path in hits or any(p in hits for p in f.path.parents)]
    if not chosen:
        raise InputError(f"The pattern '{pattern}' matches no image file below {source}.")
    return chosen


def _without_unknown_marks(source: Path, pictures: Sequence[_File]) -> tuple[list[_File], list[Fault]]:
    """Find files that look like masks of an unknown kind: an image's name and more, and two values only."""
    stems = {(f.path.parent, f.path.stem) for f in pictures}
    extended: dict[str, list[_File]] = defaultdict(list)
    for file in pictures:
        for at in re.finditer(r"[ _.-]", file.path.stem):
            stem = file.path.stem[: at.start()]
            if (file.path.parent, stem) in stems:
                extended[re.sub(r"\d+$", "", file.path.stem[at.start() :])].append(file)
    unused: list[Fault] = []
    gone: set[_File] = set()
    for mark, files in extended.items():
        masks = [f for f in files if has_two_values(source / f.path)]
        if 2 * len(masks) > len(pictures) - len(masks) and len(masks) > 1:
            raise InputError(
                f"{len(masks)} files like {masks[0].path.name} have another image's name with '{mark}' added "
                "and two values only: masks, or images of their own?",
                f"Say --mask-suffix '{mark}' if they are masks, --images '**/*' if all files are images.",
            )
        gone |= set(masks)
        why = f"it looks like a mask, but of what, '{mark}' does not tell; --mask-suffix takes it as one."
        unused += [Fault(str(f.path), "unknown-mask", why) for f in masks]
    return [f for f in pictures if f not in gone], unused


Pairs = dict[_File, list[_File]]


def _pair(pictures: Sequence[_File], outlines: Sequence[_File]) -> tuple[Pairs, list[_File], list[str]]:
    """Masks of each image, masks without one, and how they were paired in words."""
    rules: list[tuple[Callable[[_File], object], Callable[[_File], object]]] = [
        (lambda f: (f.place, f.path.stem.casefold()), lambda m: (m.place, m.path.stem.casefold())),
        (lambda f: (f.place, f.path.stem.casefold()), lambda m: (m.place, m.unmarked.casefold())),
        (lambda f: (f.place, f.core), lambda m: (m.place, m.core)),
        (lambda f: (f.place, f.number), lambda m: (m.place, m.number)),
        (lambda f: f.path.stem.casefold(), lambda m: m.path.stem.casefold()),
        (lambda f: f.path.stem.casefold(), lambda m: m.unmarked.casefold()),
        (lambda f: f.core, lambda m: m.core),
    ]
    pairs: Pairs = defaultdict(list)
    left = list(outlines)
    for image_key, mask_key in rules:
        by_key: dict[object, list[_File]] = defaultdict(list)
        for file in pictures:
            by_key[image_key(file)].append(file)
        found = {m: by_key[k] for m in left if _tells(k := mask_key(m)) and k in by_key}
        for mask, images in found.items():
            if len(images) > 1:
                raise _ambiguous(
                    f"The mask {mask.path} could belong to {images[0].path} or to {images[1].path}."
                )
            pairs[images[0]].append(mask)
        left = [m for m in left if m not in found]
    for file, masks in pairs.items():
        folders = {re.sub(r"left|right", "", str(m.path.parent).casefold()) for m in masks}
        if len(folders) > 1:
            raise _ambiguous(f"The image {file.path} has the masks {_some(m.path for m in masks)}.")
    if outlines and len(left) == len(outlines):
        raise InputError(
            f"{len(outlines)} files seem to be masks ({_some(m.path for m in outlines)}), but none has the "
            f"name or the number of an image ({_some(f.path for f in pictures)}).",
            "Name them alike, or use --images GLOB and --masks GLOB; --images '**/*' if all are images.",
        )
    if not outlines:
        return pairs, left, []
    count = sum(map(len, pairs.values()))
    shapes = dict.fromkeys(_shape(f.path, m.path) for f in pictures if f in pairs for m in pairs[f])
    return pairs, left, [f"{len(pictures)} images, {count} masks paired with {len(pairs)}: {_some(shapes)}."]


def _shape(image: PurePosixPath, mask: PurePosixPath) -> str:
    """How a mask is named after its image, without the name itself, which may be a patient's."""
    name = mask.name.replace(image.stem, "NAME")
    if "NAME" not in name:
        words = re.findall(r"mask|segmentation|seg|tumou?r|lesion|label|gt|\d+", mask.stem, re.IGNORECASE)
        name = "_".join("#" if word.isdigit() else word for word in words) + mask.suffix
    return f"NAME{image.suffix} + {name}"


def _tells(key: object) -> bool:
    """Whether a mask's key says anything: an empty name or number does not."""
    return bool(key[-1] if isinstance(key, tuple) else key)


def _ambiguous(text: str) -> InputError:
    return InputError(
        text, "Say which files belong together with --images GLOB, --masks GLOB, --mask-suffix."
    )


def _some(items: Iterable[object]) -> str:
    shown = [str(item) for _, item in zip(range(SHOWN + 1), items, strict=False)]
    return ", ".join(shown[:SHOWN]) + (", ..." if len(shown) > SHOWN else "")


def _labels(pictures: Sequence[_File], outlines: Sequence[_File]) -> tuple[list[str], list[str]]:
    """Class of each image, and what was made of the folders' names."""
    rests = [_rest(file) for file in pictures]
    wrapping = 0
    while all(len(rest) > wrapping for rest in rests) and len({rest[wrapping] for rest in rests}) == 1:
        wrapping += 1
    if all(len(rest) == wrapping for rest in rests):
        # One folder only: a class of its own if that is all there is, else what the data set lies in.
        single = wrapping == 1 and not outlines and not _rest_is_wrapper(pictures)
        return [rests[0][0] if single else ""] * len(pictures), []
    given = [rest[wrapping] if len(rest) > wrapping else "" for rest in rests]
    if not all(given):
        raise InputError(
            f"{given.count('')} images lie beside the class folders, {len(given) - given.count('')} in them.",
            "Move them into a class folder, or name what is to be taken with --images GLOB.",
        )
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name in given:
        spellings[name.casefold()][name] += 1
    chosen = {key: names.most_common(1)[0][0] for key, names in spellings.items()}
    notes = [
        f"The folders {' and '.join(sorted(names))} are taken as one class, {chosen[key]}."
        for key, names in spellings.items()
        if len(names) > 1
    ]
    return [chosen[name.casefold()] for name in given], notes


def _rest(file: _File) -> tuple[str, ...]:
    """The folders' names that say neither image nor split."""
    return tuple(
        part
        for part in file.path.parent.parts
        if part.casefold() not in IMAGE_FOLDERS
        and not _says_mask(part)
        and part.casefold().replace("_", " ").replace("-", " ") not in SPLIT_NAMES
    )


def _rest_is_wrapper(pictures: Sequence[_File]) -> bool:
    return any(len(file.path.parent.parts) > 1 for file in pictures)

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
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path, PurePosixPath

from gcsam_med.datasets.case import BENIGN, HEALTHY, MALIGNANT, Case, Listing
from gcsam_med.errors import Fault, InputError
from gcsam_med.images import IMAGE_SUFFIXES, find_images, has_two_values

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
IMAGE_FOLDERS = frozenset({"images", "imgs", "image", "img", "original", "originals", "data", "cxr"})
MASK_FOLDERS = frozenset({"labels", "label", "annotations", "annotation", "annot"})
MASK_WORDS = frozenset(
    {"mask", "masks", "gt", "gts", "groundtruth", "seg", "segs", "segmentation", "segmentations"}
)
IMAGE_WORDS = frozenset(
    {"image", "images", "img", "imgs", "original", "originals", "scan", "scans", "frames"}
)
SET_WORDS = frozenset(
    {"set", "data", "dataset", "folder"}
)  # what may stand beside "train" in a folder's name
PATIENT_FOLDER = re.compile(r"^(p|pt|pat|patient|case|subj|subject|sub|person|id)[ _-]*\d+$", re.IGNORECASE)
SAMPLE, FOLDERS_LOOKED_AT = 3, 40  # files of a folder, and folders, that are opened to tell masks from images
# Names of folders that are surely classes, besides `HEALTHY`, in lower case.
CLASS_NAMES = BENIGN | MALIGNANT | {"abnormal", "positive", "pneumonia", "covid", "covid-19", "tuberculosis"}
MOST_CLASSES = 0.5  # of the number of images: more folders than that are no classes
MARK = r"(?:mask|segmentation|seg|tumou?r|lesion|gt|labels?|annotation|groundtruth|ground[ _-]truth)"
# "lesion (1)_mask_2", "x-seg", "x_tumor1", "x_mask (1)" (a browser's copy), "12mask"; "mask_7".
SUFFIX_MARK = re.compile(rf"^(?P<image>.+?)[ _.-]+{MARK}[ _-]?\d*(?: ?\(\d+\))?$", re.IGNORECASE)
CLOSE_MARK = re.compile(r"^(?P<image>.*\d)(?:mask|seg|gt)$", re.IGNORECASE)
ONLY_MARK = re.compile(rf"^{MARK}[ _-]?\d*$", re.IGNORECASE)  # mask.png beside the one image of its folder
PREFIX_MARK = re.compile(rf"^{MARK}[ _.-]+(?P<image>.+)$", re.IGNORECASE)
READER = re.compile(
    r"(?:annotator|annot|reader|rater|observer|expert|radiologist|doctor)[ _-]?\w+$", re.IGNORECASE
)
SHOWN = 3  # examples in a message


@dataclass(frozen=True)
class _File:
    """An image file below the source, and what its path says."""

    path: PurePosixPath
    suffix: str = ""  #: What --mask-suffix says masks end in.
    wrapping: int = 0  #: How many of the first folders wrap everything, and so say nothing.

    @cached_property
    def mask_folder(self) -> str:
        """Name of the folder that says mask, or empty."""
        return next((part for part in self.path.parent.parts[self.wrapping :] if _says_mask(part)), "")

    @cached_property
    def stem(self) -> str:
        """The name without an image's suffix: of ``1.2.840.dcm`` and of ``1.2.840`` it is 1.2.840."""
        name = unicodedata.normalize("NFC", self.path.name)
        while suffix := next((s for s in IMAGE_SUFFIXES if name.lower().endswith(s) and name != s), ""):
            name = name[: -len(suffix)]
        return name

    @cached_property
    def bare_place(self) -> tuple[str, ...]:
        """The folders' names without the words that say image or mask: ``benign_mask`` is benign."""
        return tuple(filter(None, map(_bare, self.path.parent.parts)))

    @cached_property
    def place(self) -> tuple[str, ...]:
        """The folders' names without those that say image or mask, in lower case."""
        parts = self.path.parent.parts
        return tuple(p.casefold() for p in parts if not _says_mask(p) and p.casefold() not in IMAGE_FOLDERS)

    @cached_property
    def unmarked(self) -> str:
        """The stem without what says mask; empty where nothing does."""
        if self.suffix:
            match = re.fullmatch(rf"(?P<image>.+?){re.escape(self.suffix)}\d*", self.stem)
            return match["image"] if match else ""
        match = next((m for p in (SUFFIX_MARK, PREFIX_MARK, CLOSE_MARK) if (m := p.match(self.stem))), None)
        return match["image"] if match else ""

    @property
    def without_last_word(self) -> str:
        """In a folder of masks the stem without its last word, whatever that is: ``x_outer``."""
        return re.sub(r"[ _.-]+[^ _.-]+$", "", self.stem) if self.mask_folder and not self.suffix else ""

    @property
    def says_mask(self) -> bool:
        """Whether folder or name say that it is a mask."""
        marked = self.unmarked or (not self.suffix and ONLY_MARK.match(self.stem))
        return bool(self.mask_folder or marked)

    @property
    def core(self) -> str:
        """The words of the stem without those that say image or mask: "1 Benign Mask" -> "1 benign"."""
        words = (w for w in _words(self.unmarked or self.stem) if w not in MASK_WORDS | IMAGE_WORDS)
        return " ".join(words)

    @property
    def number(self) -> str:
        """The stem from its first digit on: "test_Image_1" and "mask_001" -> "1"."""
        return re.sub(r"\d+", lambda found: str(int(found[0])), re.sub(r"^\D+", "", self.stem))


def list_cases(
    source: Path, images: str = "", masks: str = "", mask_suffix: str = "", label_regex: str = ""
) -> Listing:
    """List the cases of a folder; see the module's text.

    Parameters
    ----------
    source : Path
        The folder.
    images, masks : str, optional
        Patterns relative to it (``scans/**/*.png``): what is an image, what is a mask.
    mask_suffix : str, optional
        What the names of masks end in (``_outline``).
    label_regex : str, optional
        Finds the class in an image's path (its group 1, if any).

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
    if not pictures and (depth := _wrapping(found)):
        # A folder such as Kvasir-SEG that holds all says nothing of its files.
        within = [replace(file, wrapping=depth) for file in found]
        sorted_within = _sort_out(source, within, images, masks)
        if sorted_within[0] and sorted_within[1]:
            pictures, outlines, unused = sorted_within
    if not pictures:
        raise InputError(
            f"{source} holds no images{_but(source, outlines)}.",
            "Expected CLASS/*.png, or images/ and masks/, or train/CLASS/*.png and test/CLASS/*.png. "
            "--images GLOB says which files are images.",
        )
    pairs, orphans, notes = _pair(pictures, outlines)
    labels, label_notes = _by_regex(pictures, label_regex) if label_regex else _labels(pictures, outlines)
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


def _but(source: Path, outlines: Sequence[_File]) -> str:
    """What a folder without images holds, in words."""
    if outlines:
        return f", but {len(outlines)} masks"
    links = [path.name for path in sorted(source.glob("*")) if path.is_symlink() and path.is_dir()]
    if links:
        return f"; {_some(links)} are links to folders, which are not followed"
    kinds = Counter("".join(p.suffixes[-2:]) for p in source.rglob("*") if p.is_file())
    return f", but {_some(f'{n} {kind} files' for kind, n in kinds.most_common())}" if kinds else ""


@lru_cache(maxsize=4096)
def _says_mask(folder: str) -> bool:
    name = folder.casefold()
    words = _words(folder)
    together = "groundtruth" in name.replace(" ", "").replace("_", "").replace("-", "")
    return name in MASK_FOLDERS or together or bool(MASK_WORDS & set(words))


def _words(name: str) -> list[str]:
    """Words in lower case, also of leftMask: left, mask."""
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


@lru_cache(maxsize=4096)
def _bare(folder: str) -> str:
    """A folder's name in lower case without the words that say image or mask."""
    if folder.casefold() in IMAGE_FOLDERS | MASK_FOLDERS:
        return ""
    return " ".join(word for word in _words(folder) if word not in IMAGE_WORDS | MASK_WORDS)


def _split(file: _File) -> str:
    return next(filter(None, map(_split_of, file.path.parent.parts)), "")


def _split_of(folder: str) -> str:
    """The split that a folder's name says: ``Train``, ``train_images``, ``Test Set``, ``val2017``."""
    words = _words(folder)
    found = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    others = (w for w in words if w not in SPLIT_NAMES and not w.isdecimal())
    return found[0] if found and all(w in IMAGE_WORDS | MASK_WORDS | SET_WORDS for w in others) else ""


def _sort_out(
    source: Path, files: Sequence[_File], images: str, masks: str
) -> tuple[list[_File], list[_File], list[Fault]]:
    """Images, masks, and what is neither with the reason."""
    if images or masks:
        chosen = [_matching(source, files, pattern) for pattern in (images, masks)]
        pictures = chosen[0] if images else [f for f in files if f not in set(chosen[1])]
        # Without --masks the rest may hold masks, but nothing that --images did not name is an image.
        rest = [f for f in files if f not in set(pictures)]
        outlines = chosen[1] if masks else [f for f in rest if f.says_mask]
        taken = {*pictures, *outlines}
        why = "no pattern of --images or --masks covers it."
        return pictures, outlines, [Fault(str(f.path), "not-chosen", why) for f in files if f not in taken]
    pictures = [f for f in files if not f.says_mask]
    outlines = [f for f in files if f.says_mask]
    # A name that happens to say mask, where no image lies that it could outline: an image after all.
    if not pictures and not any(f.mask_folder for f in outlines):
        pictures, outlines = outlines, []
    pictures, unused = _without_unknown_marks(source, pictures)
    if not outlines and not unused:
        _refuse_unknown_mask_folder(source, pictures)
    return pictures, outlines, unused


def _wrapping(files: Sequence[_File]) -> int:
    """How many folders all files have in common."""
    levels = zip(*(file.path.parent.parts for file in files), strict=False)
    return sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))


def _refuse_unknown_mask_folder(source: Path, pictures: Sequence[_File]) -> None:
    """Refuse to take as images what fills a folder with two-valued pictures beside folders of others."""
    folders: dict[PurePosixPath, list[_File]] = defaultdict(list)
    for file in pictures:
        folders[file.path.parent].append(file)
    if not 1 < len(folders) <= FOLDERS_LOOKED_AT:
        return
    flat = [
        folder
        for folder, files in folders.items()
        if all(has_two_values(source / file.path) for file in files[:SAMPLE])
    ]
    if flat and len(flat) < len(folders):
        other = next(folder for folder in folders if folder not in flat)
        raise InputError(
            f"The files in {flat[0]} have two values only, as masks have, those in {other} more.",
            f"If so, say --images '{other}/*' --masks '{flat[0]}/*'; --images '**/*' if all are images.",
        )


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
    names: list[tuple[Callable[[_File], str], Callable[[_File], str]]] = [
        (lambda f: f.stem.casefold(), lambda m: m.stem.casefold()),
        (lambda f: f.stem.casefold(), lambda m: m.unmarked.casefold()),
        (lambda f: f.stem.casefold(), lambda m: m.without_last_word.casefold()),
        (lambda f: f.core, lambda m: m.core),
        (lambda f: f.number, lambda m: m.number),
        (lambda f: "only", lambda m: "only" if ONLY_MARK.match(m.stem) else ""),
    ]
    places: list[Callable[[_File], tuple[str, ...]]] = [
        lambda f: f.bare_place,
        lambda f: f.place,
        lambda f: (),
    ]
    # A number alone, without the place, says too little.
    rules = [(place, *name) for place in places for name in (names if place is not places[-1] else names[:4])]
    pairs: Pairs = defaultdict(list)
    left = list(outlines)
    homes = {f.place for f in pictures} | {f.bare_place for f in pictures}
    for place, image_name, mask_name in rules:
        by_key: dict[tuple[tuple[str, ...], str], list[_File]] = defaultdict(list)
        for file in pictures:
            by_key[place(file), image_name(file)].append(file)
        # A mask whose own folder has images belongs to one of them, or to none.
        near = left if place is not places[-1] else [m for m in left if not homes & {m.place, m.bare_place}]
        found = {m: by_key[k] for m in near if (k := (place(m), mask_name(m)))[1] and k in by_key}
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
        readers = [hit[0] for m in masks if (hit := READER.search(m.stem))]
        if len(readers) > 1:
            raise InputError(
                f"The image {file.path} has masks of several readers: {_some(readers)}.",
                "Say whose are to be taken with --images GLOB and --masks GLOB, such as --masks "
                f"'**/*{readers[0]}.*'.",
            )
    if outlines and len(left) == len(outlines):
        raise InputError(
            f"{len(outlines)} files seem to be masks ({_some(m.path for m in outlines)}), but none has the "
            f"name or the number of an image ({_some(f.path for f in pictures)}).",
            "Name them alike, or use --images GLOB and --masks GLOB; --images '**/*' if all are images.",
        )
    if not outlines:
        return pairs, left, []
    shift = _shift(pictures, outlines)
    if left and shift:
        raise InputError(
            f"Images are numbered from {min(_numbers(pictures))}, masks from {min(_numbers(outlines))}: does "
            f"each mask belong to the image of its own number, or to that of its number {shift:+d}?",
            "Number them alike, list the pairs in a table (--dataset table), or leave out with --images GLOB "
            "and --masks GLOB what has no partner.",
        )
    count = sum(map(len, pairs.values()))
    shapes = dict.fromkeys(_shape(f.path, m.path) for f in pictures if f in pairs for m in pairs[f])
    return pairs, left, [f"{len(pictures)} images, {count} masks paired with {len(pairs)}: {_some(shapes)}."]


def _numbers(files: Iterable[_File]) -> list[int]:
    return sorted(int(f.number) for f in files if f.number.isdecimal())


def _shift(pictures: Sequence[_File], outlines: Sequence[_File]) -> int:
    """By how much the numbers of all images are above those of as many masks; 0 if they are not."""
    images, masks = _numbers(pictures), _numbers(outlines)
    if len(images) != len(pictures) or len(masks) != len(outlines) or len(images) != len(masks):
        return 0
    steps = {image - mask for image, mask in zip(images, masks, strict=True)}
    return steps.pop() if len(steps) == 1 else 0


def _shape(image: PurePosixPath, mask: PurePosixPath) -> str:
    """How a mask is named after its image, without the name itself, which may be a patient's."""
    name = mask.name.replace(image.stem, "NAME")
    if "NAME" not in name:
        words = re.findall(r"mask|segmentation|seg|tumou?r|lesion|label|gt|\d+", mask.stem, re.IGNORECASE)
        name = "_".join("#" if word.isdigit() else word for word in words) + mask.suffix
    return f"NAME{image.suffix} + {name}"


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
        label = _class_name(rests[0][0]) if single else ""
        return [label] * len(pictures), [] if single else _classes_in_names(pictures)
    given = [rest[wrapping] if len(rest) > wrapping else "" for rest in rests]
    level, said = _class_level([rest[wrapping:] for rest in rests])
    if level < 0:
        return [""] * len(pictures), said
    given = [rest[wrapping + level] if len(rest) > wrapping + level else "" for rest in rests]
    if not all(given):
        place = next(file for file, name in zip(pictures, given, strict=True) if not name).path.parent
        beside = str(place) if place.parts else "the source itself"
        inside, n = sorted(filter(None, set(given))), given.count("")
        masks = f" If {inside[0]} holds masks, say --images '{place}/*' --masks '{inside[0]}/*'."
        raise InputError(
            f"{n} images lie beside the class folders, in {beside}; {len(given) - n} in {_some(inside)}.",
            "Move them into a class folder, or name what is to be taken with --images GLOB."
            + masks * (len(inside) == 1),
        )
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name in given:
        spellings[_plain(name)][name] += 1
    chosen = {key: names.most_common(1)[0][0] for key, names in spellings.items()}
    same = [
        f"The folders {' and '.join(sorted(names))} are taken as one class, {chosen[key]}."
        for key, names in spellings.items()
        if len(names) > 1
    ]
    return [_class_name(chosen[_plain(name)]) for name in given], [*said, *same]


def _plain(name: str) -> str:
    """A class folder's name without case and surplus spaces, in one of Unicode's spellings."""
    return unicodedata.normalize("NFC", " ".join(name.split())).casefold()


def _class_name(folder: str) -> str:
    """A class folder's name without the word images: ``Normal images`` is Normal."""
    return re.sub(r"(?i)(^|[ _-]+)(images?|imgs?|scans?|frames)$", "", folder).strip() or folder


def _classes_in_names(pictures: Sequence[_File]) -> list[str]:
    """Offer --label-regex where file names begin with a class."""
    firsts = [(_words(file.stem) or [""])[0] for file in pictures]
    found = sorted(set(firsts) & (CLASS_NAMES | HEALTHY))
    if len(found) < 2 or sum(first in found for first in firsts) < 0.8 * len(firsts):
        return []
    expression = f"(?i)({'|'.join(found)})"
    return [f"File names tell a class; if so, --label-regex '{expression}' takes it from them."]


def _class_level(rests: Sequence[tuple[str, ...]]) -> tuple[int, list[str]]:
    """Which level of folders is the class, and what to say of it; -1 if none is.

    Raises
    ------
    InputError
        If two levels could be.
    """
    levels = [[rest[i] for rest in rests] for i in range(min(map(len, rests)))]
    names = [{name.casefold() for name in level} for level in levels]
    sure = [i for i, found in enumerate(names) if len(found) > 1 and found <= CLASS_NAMES | HEALTHY]
    if sure:
        chosen = sure[0]
        said = f"Classes are the folders {_some(sorted(set(levels[chosen])))}, not those above or below."
        return chosen, [said] if chosen else []
    many = max(2, MOST_CLASSES * len(rests))
    people = [
        len(found) > 1 and (all(map(PATIENT_FOLDER.match, found)) or (len(found) > many)) for found in names
    ]
    left = [i for i in range(len(levels)) if not people[i] and len(names[i]) > 1]
    pairs = ((j, set(zip(levels[left[0]], levels[j], strict=True))) for j in left[1:])
    crossing = [j for j, both in pairs if len(both) > len(names[j])]
    if crossing:
        first, second = (_some(sorted(set(levels[i]))) for i in (left[0], crossing[0]))
        raise InputError(
            f"Classes could be the folders {first}, or the folders {second}.",
            "--label-regex takes the class from the path, such as '/(benign|malignant)/'.",
        )
    if left or not any(people):
        return (left or [0])[0], []
    return -1, [
        f"{len(names[people.index(True)])} folders of {len(rests)} images look like patients' folders, not "
        "classes: the images have no class. --label-regex finds one in the paths, --group-regex the patient."
    ]


def _by_regex(pictures: Sequence[_File], expression: str) -> tuple[list[str], list[str]]:
    """Class of each image by --label-regex."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise InputError(f"--label-regex '{expression}' is no regular expression: {error}.") from None
    matches = [pattern.search(f"/{file.path}") for file in pictures]
    labels = ["" if m is None else (m[1] if pattern.groups else m[0]) or "" for m in matches]
    if not all(labels):
        missing = pictures[labels.index("")].path
        raise InputError(
            f"--label-regex '{expression}' finds no class in {labels.count('')} of {len(labels)} paths, such "
            f"as {missing}.",
            "Let it match all images, or name with --images GLOB those that are to be taken.",
        )
    return labels, [f"--label-regex finds the classes {_some(sorted(set(labels)))}."]


def _rest(file: _File) -> tuple[str, ...]:
    """The folders' names that say neither image nor split."""
    return tuple(
        part
        for part in file.path.parent.parts
        if _bare(part) and not _says_mask(part) and not _split_of(part)
    )


def _rest_is_wrapper(pictures: Sequence[_File]) -> bool:
    return any(len(file.path.parent.parts) > 1 for file in pictures)

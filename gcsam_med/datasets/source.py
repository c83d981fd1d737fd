"""What a source tells: which cases there are, where their files lie, and what is known about each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gcsam_med.errors import Fault, InputError

Modality = Literal["ultrasound", "xray", "photo"]


@dataclass(frozen=True)
class Case:
    """One image of a source.

    Parameters
    ----------
    name : str
        Unique within the source; a public source's case id.
    image : str
        The image file, relative to the source's root, with ``/``.
    masks : tuple of str
        Mask files; the mask is their union.
    label : str
        Class name, or empty.
    patient : str
        Who the image is of, or empty where that is not known.
    split : str
        ``train``, ``val`` or ``test`` where the source gives a split, else empty.
    fold : int, optional
        Fold number where the source gives folds.
    attributes : mapping
        What else is known (device, BI-RADS, ...); become subgroups of the report.
    """

    name: str
    image: str
    masks: tuple[str, ...] = ()
    label: str = ""
    patient: str = ""
    split: str = ""
    fold: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """All cases of a source, and what is wrong with its layout.

    Parameters
    ----------
    root : Path
        Folder that the cases' paths are relative to.
    cases : tuple of Case
        In a stable order.
    classes : tuple of str
        Class names in order of their number.
    faults : tuple of Fault
        E.g. a mask without an image.
    """

    root: Path
    cases: tuple[Case, ...]
    classes: tuple[str, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class SourceSpec:
    """A data set that `prepare` knows: one line of `DATASETS`.

    Parameters
    ----------
    title : str
        The data set's name for people.
    list_cases : callable
        From the source's folder (or CSV file) to a `Listing`.
    modality : {"ultrasound", "xray", "photo"}
        Chooses transforms and channels (photo: 3, else 1).
    negative_classes : tuple of str
        Classes whose images hold no lesion by definition.
    mask_target : str
        What masks outline.
    licence, citation : str
        To be quoted with results.
    """

    title: str
    list_cases: Callable[[Path], Listing]
    modality: Modality
    negative_classes: tuple[str, ...] = ()
    mask_target: str = "lesion"
    licence: str = ""
    citation: str = ""


def locate(source: Path, needed: Sequence[str], what: str) -> Path:
    """Find the folder that holds all of `needed`: the source itself or a folder up to two levels below.

    Raises
    ------
    InputError
        If there is none.
    """
    if not source.exists():
        raise InputError(f"The source {source} is not there.", "Check --source.")
    candidates = [source, *sorted(source.glob("*/")), *sorted(source.glob("*/*/"))]
    for folder in candidates:
        if all((folder / name).exists() for name in needed):
            return folder
    found = sorted(p.name for p in source.iterdir())[:8] if source.is_dir() else ["a file"]
    raise InputError(
        f"{what} needs {', '.join(needed)} in its folder; {source} holds {', '.join(found) or 'nothing'}.",
        "Point --source at the folder in its original layout.",
    )

"""Where images come from. To add a data set: one file with a ``list_cases`` and one line here."""

from gcsam_med.datasets import busi
from gcsam_med.datasets.source import Case, Listing, SourceSpec

DATASETS: dict[str, SourceSpec] = {
    "busi": SourceSpec(
        title="Breast Ultrasound Images (BUSI)",
        list_cases=busi.list_cases,
        modality="ultrasound",
        negative_classes=("normal",),
        licence="No licence file; the describing article is CC BY 4.0 and asks to be cited.",
        citation="Al-Dhabyani W, Gomaa M, Khaled H, Fahmy A. Dataset of breast ultrasound images. "
        "Data in Brief 28 (2020) 104863. doi:10.1016/j.dib.2019.104863",
    ),
}

__all__ = ["DATASETS", "Case", "Listing", "SourceSpec"]

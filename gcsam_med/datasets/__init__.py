"""Where images come from. To add a data set: one short file with a ``list_cases`` and one row here."""

from gcsam_med.datasets import (
    breast,
    bus_uclm,
    busbra,
    busi,
    cifar,
    covid_radiography,
    folder,
    gdph_sysucc,
    kermany,
    lungs,
    table,
)
from gcsam_med.datasets.case import Case, Download, Listing, SourceSpec

DATASETS: dict[str, SourceSpec] = {
    "busi": SourceSpec(
        title="Breast Ultrasound Images (BUSI)",
        list_cases=busi.list_cases,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        layout="benign/, malignant/, normal/ with NAME.png and NAME_mask.png",
        negative_classes=("normal",),
        download=Download(
            "https://scholar.cu.edu.eg/Dataset_BUSI.zip",
            "sha256:b2ce09f6063a31a73f628b6a6ee1245187cbaec225e93e563735691d68654de7",
        ),
        kaggle="aryashah2k/breast-ultrasound-images-dataset",
        licence="No licence file; the describing article is CC BY 4.0 and asks to be cited.",
        citation="Al-Dhabyani W, Gomaa M, Khaled H, Fahmy A. Dataset of breast ultrasound images. "
        "Data in Brief 28 (2020) 104863. doi:10.1016/j.dib.2019.104863",
    ),
    "busbra": SourceSpec(
        title="BUS-BRA breast ultrasound",
        list_cases=busbra.list_cases,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        layout="bus_data.csv, 5-fold-cv.csv, Images/, Masks/",
        download=Download("https://zenodo.org/records/8231412/files/BUSBRA.zip"),
        licence="CC BY 4.0",
        citation="Gomez-Flores W, Gregorio-Calas MJ, Coelho de Albuquerque Pereira W. BUS-BRA: a breast "
        "ultrasound dataset for assessing computer-aided diagnosis systems. Medical Physics 51 (2024) "
        "3110-3123. doi:10.1002/mp.16812",
    ),
    "breast": SourceSpec(
        title="BrEaST breast ultrasound",
        list_cases=breast.list_cases,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        negative_classes=("normal",),
        layout="case001.png, case001_tumor.png, ... and BrEaST-Lesions-USG-clinical-data-....xlsx",
        licence="CC BY 4.0",
        citation="Pawlowska A et al. Curated benchmark dataset for ultrasound based breast lesion analysis. "
        "Scientific Data 11 (2024) 148. doi:10.1038/s41597-024-02984-z",
    ),
    "gdph-sysucc": SourceSpec(
        title="GDPH&SYSUCC breast ultrasound",
        list_cases=gdph_sysucc.list_cases,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        layout="GDPH/benign(443).png, SYSUCC/malignant(0).png, ... and BIRADS&FOLD.xlsx if there",
        licence="No licence file comes with it; see the authors' page.",
        citation="Mo Y et al. HoVer-Trans: anatomy-aware HoVer-Transformer for ROI-free breast cancer "
        "diagnosis in ultrasound images. IEEE TMI 42 (2023). doi:10.1109/TMI.2023.3236011",
    ),
    "bus-uclm": SourceSpec(
        title="BUS-UCLM breast ultrasound",
        list_cases=bus_uclm.list_cases,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        negative_classes=("normal",),
        layout="images/ALWI_000.png, masks/ALWI_000.png, ... and INFO.csv",
        licence="See its page, data.mendeley.com/datasets/7fvgj4jsp7.",
        citation="Vallez N et al. BUS-UCLM: breast ultrasound lesion segmentation dataset. Scientific Data "
        "12 (2025). doi:10.1038/s41597-025-04562-3",
    ),
    "kermany": SourceSpec(
        title="Paediatric chest X-rays (Kermany)",
        list_cases=kermany.list_cases,
        modality="xray",
        anatomy="lung",
        positive="PNEUMONIA",
        negative_classes=("NORMAL",),
        layout="chest_xray/train/NORMAL/, chest_xray/train/PNEUMONIA/, test/, val/",
        kaggle="paultimothymooney/chest-xray-pneumonia",
        licence="CC BY 4.0",
        citation="Kermany DS et al. Identifying medical diagnoses and treatable diseases by image-based deep "
        "learning. Cell 172 (2018) 1122-1131. doi:10.1016/j.cell.2018.02.010",
    ),
    "covid-radiography": SourceSpec(
        title="COVID-19 Radiography Database",
        list_cases=covid_radiography.list_cases,
        modality="xray",
        anatomy="lung",
        positive="COVID",
        negative_classes=("normal",),
        layout="COVID/images/, Normal/images/, ... with CLASS/masks/ and CLASS.metadata.xlsx if there",
        mask_target="lung",
        mask_size="resize",
        kaggle="tawsifurrahman/covid19-radiography-database",
        licence="Free for academic use with citation, see the data set's README.",
        citation="Chowdhury MEH et al. Can AI help in screening viral and COVID-19 pneumonia? IEEE Access 8 "
        "(2020) 132665-132676. Rahman T et al. Exploring the effect of image enhancement techniques on "
        "COVID-19 detection using chest X-ray images. Comput Biol Med 132 (2021) 104319.",
    ),
    "lungs": SourceSpec(
        title="Shenzhen and Montgomery chest X-rays with lung masks",
        list_cases=lungs.list_cases,
        modality="xray",
        anatomy="lung",
        positive="tuberculosis",
        layout="cxr/ (or CXR_png/) and masks/",
        mask_target="lung",
        kaggle="nikhilpandey360/chest-xray-masks-and-labels",
        licence="Research use, non-commercial (masks).",
        citation="Jaeger S et al. Two public chest X-ray datasets for computer-aided screening of pulmonary "
        "diseases. Quant Imaging Med Surg 4 (2014) 475-477. Candemir S et al. Lung segmentation in chest "
        "radiographs using anatomical atlases with nonrigid registration. IEEE TMI 33 (2014) 577-590.",
    ),
    "cifar10": SourceSpec(
        title="CIFAR-10",
        list_cases=cifar.list_cifar10,
        modality="photo",
        anatomy="",
        licence="No licence is stated.",
        layout="cifar-10-batches-bin/, cifar-10-batches-py/, or class folders (train/CLASS, test/CLASS)",
        download=Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"
        ),
        citation="Krizhevsky A. Learning multiple layers of features from tiny images. Technical report, "
        "University of Toronto (2009).",
    ),
    "cifar100": SourceSpec(
        title="CIFAR-100",
        list_cases=cifar.list_cifar100,
        modality="photo",
        anatomy="",
        licence="No licence is stated.",
        layout="cifar-100-binary/, cifar-100-python/, or class folders (train/CLASS, test/CLASS)",
        download=Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"
        ),
        citation="Krizhevsky A. Learning multiple layers of features from tiny images. Technical report, "
        "University of Toronto (2009).",
    ),
    "folder": SourceSpec(
        title="Folder of images",
        list_cases=folder.list_cases,
        modality="ultrasound",
        anatomy="",
        licence="",
        citation="",
        takes=("images", "masks", "mask_suffix"),
        layout="CLASS/*.png, or images/ and masks/, or train/CLASS/*.png and test/CLASS/*.png",
        private=True,
    ),
    "table": SourceSpec(
        title="Table of images",
        list_cases=table.list_cases,
        modality="ultrasound",
        anatomy="",
        licence="",
        citation="",
        takes=("images", "group_column"),
        layout="a CSV file or .xlsx with the column image, and optionally mask, label, group, split, more",
        private=True,
    ),
}

__all__ = ["DATASETS", "Case", "Download", "Listing", "SourceSpec"]

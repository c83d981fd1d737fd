"""Where images come from. To add a data set: one short file with a ``list_cases`` and one row here."""

from gcsam_med.datasets import (
    breast,
    bus_uclm,
    busbra,
    busi,
    chest_findings,
    cifar,
    covid_masks,
    covid_radiography,
    folder,
    gdph_sysucc,
    kermany,
    lungs,
    medmnist,
    table,
    ultrasound,
)
from gcsam_med.datasets.case import Case, Download, Listing, SourceSpec

_MEDMNIST = (
    "Yang J et al. MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image "
    "classification. Scientific Data 10 (2023) 41."
)

DATASETS: dict[str, SourceSpec] = {
    "busi": SourceSpec(
        title="Breast Ultrasound Images (BUSI)",
        list_cases=busi.list_cases,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        page="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        known_faults="Near-duplicates (201 pairs, 10 with two labels), images of the axilla, marks drawn in; "
        "see Pawlowska et al., Data in Brief 48 (2023) 109247.",
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
        page="https://doi.org/10.5281/zenodo.8231412",
        known_faults="The inner validation sets valid_1 to valid_5 put images of one patient on both sides.",
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
        page="https://doi.org/10.7937/9WKK-Q141",
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
        page="https://github.com/yuhaomo/HoVerTrans",
        known_faults="No patients are told; a public audit found 507 duplicates, and 39 conflicting labels "
        "in SYSUCC.",
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
        page="https://data.mendeley.com/datasets/7fvgj4jsp7",
        known_faults="Some images are Doppler or combined ones; the columns doppler and combined mark them.",
        layout="images/ALWI_000.png, masks/ALWI_000.png, ... and INFO.csv",
        licence="See its page, data.mendeley.com/datasets/7fvgj4jsp7.",
        citation="Vallez N et al. BUS-UCLM: breast ultrasound lesion segmentation dataset. Scientific Data "
        "12 (2025). doi:10.1038/s41597-025-04562-3",
    ),
    "udiat": SourceSpec(
        title="UDIAT breast ultrasound (Dataset B)",
        list_cases=ultrasound.list_udiat,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        page="https://helward.mmu.ac.uk/STAFF/M.Yap/dataset.php",
        layout="original/000001.png, GT/000001.png, DatasetB.xlsx",
        licence="On request, see its page.",
        citation="Yap MH et al. Automated breast ultrasound lesions detection using convolutional neural "
        "networks. IEEE JBHI 22 (2018) 1218-1226. doi:10.1109/JBHI.2017.2731873",
    ),
    "buid": SourceSpec(
        title="BUID breast ultrasound",
        list_cases=ultrasound.list_buid,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        page="https://qamebi.com/breast-ultrasound-images-database/",
        layout="Benign/1 Benign Image.bmp, Benign/1 Benign Mask.tif, Malignant/...",
        licence="",
        citation="Ardakani AA et al. An open-access breast lesion ultrasound image database: applicable in "
        "artificial intelligence studies. Comput Biol Med 152 (2023) 106438. "
        "doi:10.1016/j.compbiomed.2022.106438",
    ),
    "bus-uc": SourceSpec(
        title="BUS_UC breast ultrasound",
        list_cases=ultrasound.list_bus_uc,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        page="https://data.mendeley.com/datasets/3ksd7w7jkx",
        layout="Benign/images/, Benign/masks/, Malignant/images/, Malignant/masks/",
        licence="",
        citation="Iqbal A, Sharif M. Memory-efficient transformer network with feature fusion for breast "
        "tumor segmentation and classification task. Eng Appl Artif Intell (2024). "
        "doi:10.1016/j.engappai.2023.107292",
    ),
    "busi-curated": SourceSpec(
        title="Curated BUSI",
        list_cases=ultrasound.list_curated_busi,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        negative_classes=("normal",),
        layout="images/benign_id_1.png, ..., masks/ with the same names",
        licence="",
        citation="Al-Dhabyani W, Gomaa M, Khaled H, Fahmy A. Dataset of breast ultrasound images. "
        "Data in Brief 28 (2020) 104863. doi:10.1016/j.dib.2019.104863",
    ),
    "breastmnist": SourceSpec(
        title="BreastMNIST",
        list_cases=medmnist.list_breastmnist,
        modality="ultrasound",
        anatomy="breast",
        positive="malignant",
        negative_classes=("benign or normal",),
        page="https://medmnist.com",
        layout="breastmnist.npz, or breastmnist_64.npz, _128, _224",
        download=Download(
            "https://zenodo.org/records/10519652/files/breastmnist.npz",
            "md5:750601b1f35ba3300ea97c75c52ff8f6",
        ),
        published=(
            "750601b1f35ba3300ea97c75c52ff8f6",
            "742edef2a1fd1524b2efff4bd7ba9364",
            "363e4b3f8d712e9b5de15470a2aaadf1",
            "b56378a6eefa9fed602bb16d192d4c8b",
        ),
        licence="CC BY 4.0",
        known_faults="Made of BUSI, with its duplicates, split by image.",
        citation=f"{_MEDMNIST} Al-Dhabyani W et al. Dataset of breast ultrasound images. Data in Brief 28 "
        "(2020) 104863.",
    ),
    "kermany": SourceSpec(
        title="Paediatric chest X-rays (Kermany)",
        list_cases=kermany.list_cases,
        modality="xray",
        anatomy="lung",
        positive="PNEUMONIA",
        negative_classes=("NORMAL",),
        page="https://data.mendeley.com/datasets/rscbjbr9sj",
        known_faults="The given validation split has 16 images.",
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
        page="https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
        known_faults="Classes come from different collections, so they can be told apart without looking "
        "at a lung.",
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
        page="https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/",
        layout="cxr/ and masks/; or MontgomerySet/, ChinaSet_AllFiles/ and mask/ as shipped",
        mask_target="lung",
        kaggle="nikhilpandey360/chest-xray-masks-and-labels",
        licence="Research use, non-commercial (masks).",
        citation="Jaeger S et al. Two public chest X-ray datasets for computer-aided screening of pulmonary "
        "diseases. Quant Imaging Med Surg 4 (2014) 475-477. Candemir S et al. Lung segmentation in chest "
        "radiographs using anatomical atlases with nonrigid registration. IEEE TMI 33 (2014) 577-590.",
    ),
    "pneumoniamnist": SourceSpec(
        title="PneumoniaMNIST",
        list_cases=medmnist.list_pneumoniamnist,
        modality="xray",
        anatomy="lung",
        positive="pneumonia",
        negative_classes=("normal",),
        page="https://medmnist.com",
        layout="pneumoniamnist.npz, or pneumoniamnist_64.npz, _128, _224",
        download=Download(
            "https://zenodo.org/records/10519652/files/pneumoniamnist.npz",
            "md5:28209eda62fecd6e6a2d98b1501bb15f",
        ),
        published=(
            "28209eda62fecd6e6a2d98b1501bb15f",
            "8f4eceb4ccffa70c672198ea285246c6",
            "05b46931834c231683c68f40c47b2971",
            "d6a3c71de1b945ea11211b03746c1fe1",
        ),
        licence="CC BY 4.0",
        known_faults="Made of Kermany's images, split by image although patients have several.",
        citation=f"{_MEDMNIST} Kermany DS et al. Identifying medical diagnoses and treatable diseases by "
        "image-based deep learning. Cell 172 (2018) 1122-1131.",
    ),
    "nih-chestxray14": SourceSpec(
        title="NIH ChestX-ray14",
        list_cases=chest_findings.list_nih,
        modality="xray",
        anatomy="lung",
        positive="finding",
        negative_classes=("No Finding",),
        takes=("target",),
        page="https://nihcc.app.box.com/v/ChestXray-NIHCC",
        kaggle="nih-chest-xrays/data",
        layout="images*/00000013_005.png, Data_Entry_2017_v2020.csv, train_val_list.txt, test_list.txt",
        licence="Free use with a link to its page, acknowledgement of the NIH Clinical Center and citation, "
        "see its README.",
        known_faults="Labels were mined from reports by text; its authors estimate an accuracy above 90 %.",
        citation="Wang X et al. ChestX-ray8: hospital-scale chest X-ray database and benchmarks on "
        "weakly-supervised classification and localization of common thorax diseases. CVPR (2017) 3462-3471.",
    ),
    "rsna-pneumonia": SourceSpec(
        title="RSNA pneumonia detection challenge",
        list_cases=chest_findings.list_rsna,
        modality="xray",
        anatomy="lung",
        positive="Lung Opacity",
        negative_classes=("Normal", "no Lung Opacity"),
        takes=("target",),
        page="https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
        layout="stage_2_train_images/PATIENT.dcm, stage_2_train_labels.csv, stage_2_detailed_class_info.csv",
        licence="The rules of the challenge, see its page.",
        known_faults="A part of NIH ChestX-ray14: neither set is an external test of the other.",
        citation="Shih G et al. Augmenting the National Institutes of Health chest radiograph dataset with "
        "expert annotations of possible pneumonia. Radiology AI 1 (2019) e180041.",
    ),
    "siim-pneumothorax": SourceSpec(
        title="SIIM-ACR pneumothorax segmentation challenge",
        list_cases=chest_findings.list_siim,
        modality="xray",
        anatomy="lung",
        positive="pneumothorax",
        negative_classes=("no pneumothorax",),
        mask_target="pneumothorax",
        page="https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
        layout="dicom-images-train/**/IMAGE.dcm, train-rle.csv",
        licence="The rules of the challenge, see its page.",
        known_faults="A part of NIH ChestX-ray14: neither set is an external test of the other.",
        citation="Filice RW et al. Crowdsourcing pneumothorax annotations using machine learning annotations "
        "on the NIH chest X-ray dataset. J Digit Imaging 33 (2020) 490-496.",
    ),
    "covid-qu-ex": SourceSpec(
        title="COVID-QU-Ex",
        list_cases=covid_masks.list_covid_qu_ex,
        modality="xray",
        anatomy="lung",
        positive="COVID-19",
        negative_classes=("Normal", "Non-COVID"),
        mask_target="infection",
        takes=("target",),
        page="https://www.kaggle.com/datasets/anasmohammedtahir/covidqu",
        kaggle="anasmohammedtahir/covidqu",
        layout="Infection Segmentation Data/Train/COVID-19/images, infection masks, lung masks; Val, Test",
        licence="",
        known_faults="Classes come from different collections, so they can be told apart without looking "
        "at a lung.",
        citation="Tahir AM et al. COVID-19 infection localization and severity grading from chest X-ray "
        "images. Comput Biol Med 139 (2021) 105002. doi:10.1016/j.compbiomed.2021.105002",
    ),
    "qata-cov19": SourceSpec(
        title="QaTa-COV19 v2",
        list_cases=covid_masks.list_qata,
        modality="xray",
        anatomy="lung",
        positive="COVID-19",
        mask_target="infection",
        page="https://www.kaggle.com/datasets/aysendegerli/qatacov19-dataset",
        kaggle="aysendegerli/qatacov19-dataset",
        layout="Train Set/Images/, Train Set/Ground-truths/mask_NAME.png, Test Set/...",
        licence="",
        citation="Degerli A, Kiranyaz S, Chowdhury MEH, Gabbouj M. OSegNet: operational segmentation network "
        "for COVID-19 detection using chest X-ray images. IEEE ICIP (2022) 2306-2310.",
    ),
    "jsrt": SourceSpec(
        title="JSRT chest X-rays with and without nodules",
        list_cases=lungs.list_jsrt,
        modality="xray",
        anatomy="lung",
        positive="nodule",
        negative_classes=("non-nodule",),
        mask_target="lung",
        mask_size="resize",
        page="http://db.jsrt.or.jp/eng.php",
        layout="JPCLN001.IMG, ..., CLNDAT_EN.txt, CNNDAT_EN.txt; SCR's left lung/, right lung/ if there",
        licence="",
        citation="Shiraishi J et al. Development of a digital image database for chest radiographs with and "
        "without a lung nodule. AJR 174 (2000) 71-74. Masks: van Ginneken B, Stegmann MB, Loog M. "
        "Segmentation of anatomical structures in chest radiographs. Med Image Anal 10 (2006) 19-40.",
    ),
    "cifar10": SourceSpec(
        title="CIFAR-10",
        list_cases=cifar.list_cifar10,
        modality="photo",
        anatomy="",
        licence="No licence is stated.",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
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
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
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
        takes=("images", "masks", "mask_suffix", "label_regex"),
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

"""Small data sets in each source's own layout, for tests."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.images.malformed import dicom


def speckle(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    """An image unlike that of any other seed, uint8 (H, W)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    smooth = np.asarray(
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=float
    )
    return np.clip(smooth + rng.normal(0, 20, (height, width)), 0, 255).astype(np.uint8)


def blob(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    """A lesion, bool (H, W)."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width
    rows, columns = np.ogrid[:height, :width]
    return ((rows - y) / 8) ** 2 + ((columns - x) / 10) ** 2 < 1


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image or a mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def sheet(path: Path, rows: Sequence[Sequence[object]], title: str = "Sheet") -> None:
    """Write an Excel file with one sheet."""
    from openpyxl import Workbook

    path.parent.mkdir(parents=True, exist_ok=True)
    book = Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(list(row))
    book.save(path)


def busi(root: Path, counts: Sequence[int] = (8, 6, 4), seed: int = 0) -> Path:
    """BUSI's layout: counts of benign, malignant and normal; ``benign (2)`` has two masks."""
    folder = root / "Dataset_BUSI_with_GT"
    for k, (label, n) in enumerate(zip(("benign", "malignant", "normal"), counts, strict=True)):
        for i in range(1, n + 1):
            number = seed + 1000 * k + i
            save(folder / label / f"{label} ({i}).png", speckle(number))
            mask = blob(number) & (label != "normal")
            save(folder / label / f"{label} ({i})_mask.png", mask)
    if counts[0] > 1:
        save(folder / "benign" / "benign (2)_mask_1.png", blob(seed + 77))
    return folder


def busbra(root: Path, patients: int = 10) -> Path:
    """BUS-BRA's layout: two images a patient, folds 1 to 5 by patient."""
    folder = root / "BUSBRA"
    data = ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    folds = ["ID,Pathology,kFold,valid_1,valid_2,valid_3,valid_4,valid_5"]
    for case in range(1, patients + 1):
        label = ("benign", "malignant")[case % 2]
        for side in "lr":
            name, number = f"bus_{case:04d}-{side}", 2 * case + (side == "r")
            data.append(f'{name},{case},cyst,{label},{2 + case % 4},Maker A,56,40,left,"[1,2,3,4]"')
            folds.append(f"{name},{label},{1 + case % 5},1,1,1,1,NaN")
            save(folder / "Images" / f"{name}.png", speckle(number))
            save(folder / "Masks" / f"{name.replace('bus', 'mask')}.png", blob(number))
    (folder / "bus_data.csv").write_text("\n".join(data) + "\n")
    (folder / "5-fold-cv.csv").write_text("\n".join(folds) + "\n")
    return folder


def breast(root: Path, n: int = 20) -> Path:
    """BrEaST's layout: case 2 has another mask, case 3 two tumours, the last four are normal."""
    columns = "CaseID Image_filename Mask_tumor_filename Mask_other_filename Classification BIRADS"
    rows: list[Sequence[object]] = [(*columns.split(), "Verification", "Pixel_size")]
    for i in range(1, n + 1):
        name, label = f"case{i:03d}", "normal" if i > n - 4 else ("benign", "malignant")[i % 2]
        masks = [] if i > n - 4 else [f"{name}_tumor{k}.png" for k in ((1, 2) if i == 3 else ("",))]
        other = [f"{name}_other1.png"] if i == 2 else []
        save(root / f"{name}.png", speckle(i))
        for k, mask in enumerate([*masks, *other]):
            save(root / mask, blob(i + k))
        about = ("4a", "confirmed by biopsy", 0.0075)
        rows.append((i, f"{name}.png", "&".join(masks), "&".join(other), label, *about))
    sheet(root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx", rows)
    return root


def gdph_sysucc(root: Path, n: int = 24) -> Path:
    """Two hospitals and the sheet of readers."""
    rows: list[Sequence[object]] = [("ID", "BIRADS-reader1", "BIRADS-reader2", "fold")]
    for i in range(n):
        name = f"{('benign', 'malignant')[i % 2]}({i})"
        save(root / "GDPH&SYSUCC" / ("GDPH", "SYSUCC")[i // 2 % 2] / f"{name}.png", speckle(i))
        rows.append((name, "4A", "4b", i % 5))
    sheet(root / "GDPH&SYSUCC" / "BIRADS&FOLD.xlsx", rows, "prediction")
    return root


def bus_uclm(root: Path, n: int = 24) -> Path:
    """Two images a patient; masks green (benign), red (malignant) or black (normal)."""
    rows = ["Image;Label;Doppler;Combined"]
    for i in range(n):
        name, label = (
            f"AL{'ABCDEFGHIJKL'[i // 2]}I_{i % 2:03d}",
            ("Benign", "Malignant", "Normal")[i // 2 % 3],
        )
        mask = np.zeros((40, 56, 3), dtype=np.uint8)
        if label != "Normal":
            mask[blob(i), 1 if label == "Benign" else 0] = 255
        save(root / "BUS-UCLM" / "images" / f"{name}.png", speckle(i))
        save(root / "BUS-UCLM" / "masks" / f"{name}.png", mask)
        rows.append(f"{name}.png;{label};No;{('No', 'Yes')[i % 2]}")
    (root / "BUS-UCLM" / "INFO.csv").write_text("\n".join(rows) + "\n")
    return root


def udiat(root: Path, n: int = 20) -> Path:
    """Grey edges in the masks, numbers without zeros in the sheet."""
    rows: list[Sequence[object]] = [("Image", "Type")]
    for i in range(1, n + 1):
        save(root / "original" / f"{i:06d}.png", speckle(i))
        mask = blob(i).astype(np.uint8) * 255
        mask[np.roll(mask, 1, axis=0) != mask] = 100
        save(root / "GT" / f"{i:06d}.png", mask)
        rows.append((i, ("Benign", "Malignant")[i % 2]))
    sheet(root / "DatasetB.xlsx", rows)
    return root


def buid(root: Path, n: int = 10) -> Path:
    """Image, mask and an image with the outline drawn in, of each number in each class."""
    for k, label in enumerate(("Benign", "Malignant")):
        for i in range(1, n + 1):
            save(root / label / f"{i} {label} Image.bmp", speckle(100 * k + i))
            save(root / label / f"{i} {label} Lesion.bmp", speckle(100 * k + i))
            save(root / label / f"{i} {label} Mask.tif", blob(100 * k + i))
    return root


def bus_uc(root: Path, n: int = 10) -> Path:
    """Two class folders, and All with the same again."""
    for k, label in enumerate(("Benign", "Malignant")):
        for i in range(n):
            for folder, name in ((label, f"{i:03d}"), ("All", f"{k}{i:03d}")):
                save(root / "BUS_UC" / folder / "images" / f"{name}.png", speckle(100 * k + i))
                save(root / "BUS_UC" / folder / "masks" / f"{name}.png", blob(100 * k + i))
    return root


def busi_curated(root: Path, n: int = 21) -> Path:
    """The class in the name; normal images with black masks."""
    for i in range(n):
        label = ("benign", "malignant", "normal")[i % 3]
        save(root / "images" / f"{label}_id_{i}.png", speckle(i))
        save(root / "masks" / f"{label}_id_{i}.png", blob(i) & (label != "normal"))
    return root


def medmnist(root: Path, name: str, n: int = 12) -> Path:
    """A .npz of 28 x 28 images, labels in turns, deflated as the published ones are."""
    arrays = {}
    for k, split in enumerate(("train", "val", "test")):
        arrays[f"{split}_images"] = np.stack([speckle(1000 * k + i, 28, 28) for i in range(n)])
        arrays[f"{split}_labels"] = (np.arange(n, dtype=np.uint8) % 2)[:, None]
    np.savez_compressed(root / f"{name}.npz", **arrays)
    return root / f"{name}.npz"


def nih(root: Path, n: int = 24) -> Path:
    """Two images a patient, three findings in turns, an official test set."""
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    lists: dict[str, list[str]] = {"test_list": [], "train_val_list": []}
    for i in range(n):
        name = f"{i // 2:08d}_{i % 2:03d}.png"
        finding = ("No Finding", "Pneumothorax|Effusion", "Effusion")[i // 2 % 3]
        rows.append(f"{name},{finding},0,{i // 2},{30 + i},{'FM'[i % 2]},PA")
        save(root / f"images_{i % 2 + 1:03d}" / "images" / name, speckle(i))
        lists["test_list" if i // 2 % 4 == 3 else "train_val_list"].append(name)
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows) + "\n")
    for name, names in lists.items():
        (root / f"{name}.txt").write_text("\n".join(names) + "\n")
    return root


def chest(path: Path, number: int, patient: str = "") -> None:
    """Write a small DICOM chest X-ray, of a patient of its own where none is named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = {"Modality": "DX", "PatientID": patient or f"id {number}"}
    path.write_bytes(dicom(speckle(number).tobytes(), rows=40, columns=56, **tags))


def rsna(root: Path, n: int = 18) -> Path:
    """A third with an opacity, of which the first has two boxes."""
    boxes, kinds = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for i in range(n):
        kind = ("Lung Opacity", "Normal", "No Lung Opacity / Not Normal")[i % 3]
        own = [f"p{i:03d},{x}.0,5.0,8.0,9.0,1" for x in ((3, 20) if i == 0 else (4,))]
        boxes += own if i % 3 == 0 else [f"p{i:03d},,,,,0"]
        kinds += [f"p{i:03d},{kind}"] * (2 if i == 0 else 1)
        chest(root / "stage_2_train_images" / f"p{i:03d}.dcm", i)
    (root / "stage_2_train_labels.csv").write_text("\n".join(boxes) + "\n")
    (root / "stage_2_detailed_class_info.csv").write_text("\n".join(kinds) + "\n")
    return root


def run_lengths(mask: np.ndarray) -> str:
    """Gap and length in turns, down the columns, counted with a loop."""
    runs, gap, length = [], 0, 0
    for inside in mask.T.ravel().tolist():
        if not inside and length:
            runs += [gap, length]
            gap, length = 0, 0
        length += inside
        gap += not inside and not length
    return " ".join(map(str, [*runs, gap, length] if length else runs))


def siim(root: Path, n: int = 20) -> Path:
    """Masks as run lengths under a column with a blank; image 1 has two rows."""
    rows = ["ImageId, EncodedPixels"]
    for i in range(n):
        name = f"1.2.276.{i}"
        parts = [blob(i), blob(i + 50)] if i == 1 else [blob(i)]
        rows += [f"{name}, {run_lengths(part)}" for part in parts] if i % 2 else [f"{name}, -1"]
        chest(root / "dicom-images-train" / f"s{i}" / f"t{i}" / f"{name}.dcm", i)
    (root / "train-rle.csv").write_text("\n".join(rows) + "\n")
    return root


def covid_qu_ex(root: Path, n: int = 8) -> Path:
    """Infection masks are black but of COVID-19; lung masks beside them."""
    for s, split in enumerate(("Train", "Val", "Test")):
        for k, label in enumerate(("COVID-19", "Non-COVID", "Normal")):
            place = root / "Infection Segmentation Data" / split / label
            for i in range(n):
                number = 100 * s + 10 * k + i
                save(place / "images" / f"{label}_{i}.png", speckle(number))
                save(place / "infection masks" / f"{label}_{i}.png", blob(number) & (k == 0))
                save(place / "lung masks" / f"{label}_{i}.png", blob(number + 1000))
    return root


def qata(root: Path, n: int = 24) -> Path:
    """Half of the names tell a patient of two images."""
    for i in range(n):
        name = f"sub-S{i // 4:05d}_ses-E{i}_run-1.png" if i % 2 else f"covid_{i}.png"
        place = root / "QaTa-COV19-v2" / ("Test Set" if i // 4 % 4 == 3 else "Train Set")
        save(place / "Images" / name, speckle(i))
        save(place / "Ground-truths" / f"mask_{name}", blob(i))
    return root


def jsrt(root: Path, n: int = 12) -> Path:
    """Raw words of 12 bits, 0 is white, and SCR's masks of half the size."""
    tables: dict[str, list[str]] = {"CLNDAT_EN.txt": [], "CNNDAT_EN.TXT": []}
    for i in range(n):
        name = f"JPC{('LN', 'NN')[i % 2]}{i + 1:03d}"
        words = (4095 - speckle(i, 48, 48).astype(int) * 16).astype(">u2")
        (root / "All247images").mkdir(exist_ok=True)
        (root / "All247images" / f"{name}.IMG").write_bytes(words.tobytes())
        for side in ("left", "right"):
            half = blob(i + (side == "left") * 500, 24, 24)
            save(root / "SCR" / f"fold{1 + i % 2}" / "masks" / f"{side} lung" / f"{name}.gif", half)
        tables["CLNDAT_EN.txt"].append(f"{name}.IMG\t3\t15\t53\tmale\t20\t11\tmalignant\tupper\tcancer")
        tables["CNNDAT_EN.TXT"].append(f"{name}.IMG  50 female    non-nodule")
    for i, (table, lines) in enumerate(tables.items()):
        (root / table).write_text("\n".join(lines[i::2]) + "\n")
    return root


def kermany(root: Path, n: int = 24) -> Path:
    """Two images a patient, in the given split."""
    for i in range(n):
        split = ("train", "train", "val", "test")[i // 2 % 4]
        sick, well = f"person{i // 2}_{('virus', 'bacteria')[i % 2]}_{i}", f"IM-{i // 2:04d}-{i % 2:04d}"
        save(root / "chest_xray" / split / "PNEUMONIA" / f"{sick}.jpeg", speckle(i))
        save(root / "chest_xray" / split / "NORMAL" / f"{well}.jpeg", speckle(100 + i))
    return root


def lungs(root: Path, n: int = 12) -> Path:
    """Shenzhen and Montgomery, the last image without a mask."""
    folder = root / "Lung_Segmentation"
    for i in range(n):
        name = f"{('CHNCXR', 'MCUCXR')[i % 2]}_{i:04d}_{i // 2 % 2}"
        save(folder / "cxr" / f"{name}.png", speckle(i))
        if i < n - 1:
            suffix = "_mask" if i % 4 == 0 else ""
            save(folder / "masks" / f"{name}{suffix}.png", blob(i).astype(np.uint8) * 255)
    return folder


def covid(root: Path, n: int = 6, *, masks: bool = True, sheets: bool = True) -> Path:
    """The official layout; masks have half the images' size."""
    folder = root / "COVID-19_Radiography_Dataset"
    for k, label in enumerate(("COVID", "Normal", "Viral Pneumonia")):
        rows = [("FILE NAME", "FORMAT", "SIZE", "URL")]
        for i in range(1, n + 1):
            grey = speckle(100 * k + i, 48, 48)
            save(folder / label / "images" / f"{label}-{i}.png", np.repeat(grey[..., None], 3, axis=2))
            if masks:
                half = np.repeat((blob(i, 24, 24).astype(np.uint8) * 255)[..., None], 3, axis=2)
                save(folder / label / "masks" / f"{label}-{i}.png", half)
            rows.append((f"{label.upper()}-{i}", "PNG", "256*256", f"https://collection.example/{k}"))
        if sheets:
            sheet(folder / f"{label}.metadata.xlsx", rows)
    return folder


def class_folders(root: Path, classes: Sequence[str] = ("a", "b"), n: int = 8, *, masks: str = "") -> Path:
    """Class folders; masks ``inside`` (CLASS/masks), ``beside`` (masks/CLASS), ``names`` or none."""
    for k, label in enumerate(classes):
        for i in range(n):
            number = 500 * k + i
            save(root / label / f"img{i}.png", speckle(number))
            where = {
                "inside": root / label / "masks" / f"img{i}.png",
                "beside": root / "masks" / label / f"img{i}_mask.png",
                "names": root / label / f"img{i}_mask.png",
            }.get(masks)
            if where is not None:
                save(where, blob(number))
    return root


def cifar_pictures(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, uint8 (n, 3, 32, 32), and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), labels


def cifar10_binary(root: Path, per_batch: int = 20) -> Path:
    """cifar-10-batches-bin with few pictures."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    for b, batch in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        pictures, labels = cifar_pictures(per_batch, 10, seed=b)
        records = (bytes([label]) + p.tobytes() for p, label in zip(pictures, labels, strict=True))
        (folder / f"{batch}.bin").write_bytes(b"".join(records))
    return folder


def cifar100_binary(root: Path, n: int = 60) -> Path:
    """cifar-100-binary with few pictures of three classes."""
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("apple\nbear\ncan\n")
    (folder / "coarse_label_names.txt").write_text("fruit\ncarnivores\n")
    for s, split in enumerate(("train", "test")):
        pictures, labels = cifar_pictures(n, 3, seed=s)
        records = (bytes([k % 2, k]) + p.tobytes() for p, k in zip(pictures, labels.tolist(), strict=True))
        (folder / f"{split}.bin").write_bytes(b"".join(records))
    return folder


def table(root: Path) -> Path:
    """A CSV file with all columns, two images a patient."""
    rows = ["image,mask,label,group,site,note"]
    for i in range(18):
        save(root / f"i{i}.png", speckle(i))
        save(root / f"m{i}.png", blob(i))
        rows.append(f"i{i}.png,m{i}.png,{'ab'[i % 2]},patient {i // 2},site {i % 3},free text {i} {i}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return root / "table.csv"


# A small source of each row of `DATASETS`, large enough to be split.
SOURCES: dict[str, Callable[[Path], Path]] = {
    "busi": busi,
    "busbra": busbra,
    "breast": breast,
    "gdph-sysucc": gdph_sysucc,
    "bus-uclm": bus_uclm,
    "udiat": udiat,
    "buid": buid,
    "bus-uc": bus_uc,
    "busi-curated": busi_curated,
    "breastmnist": lambda root: medmnist(root, "breastmnist"),
    "pneumoniamnist": lambda root: medmnist(root, "pneumoniamnist"),
    "nih-chestxray14": nih,
    "rsna-pneumonia": rsna,
    "siim-pneumothorax": siim,
    "covid-qu-ex": covid_qu_ex,
    "qata-cov19": qata,
    "jsrt": jsrt,
    "kermany": kermany,
    "covid-radiography": covid,
    "lungs": lambda root: lungs(root, 20),
    "cifar10": cifar10_binary,
    "cifar100": cifar100_binary,
    "folder": lambda root: class_folders(root, masks="inside"),
    "table": table,
}


def python2_batch(pictures: np.ndarray, labels: Sequence[int], key: str = "labels") -> bytes:
    """The bytes that Python 2 wrote for a batch: protocol 2, byte strings, an array built by NumPy 1.

    Put together opcode by opcode, so that nothing is needed that could also load it.
    """

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)

    data = pictures.tobytes()
    shape = b"".join(number(x) for x in (len(pictures), pictures[0].size)) + b"\x86"
    dtype = b"cnumpy\ndtype\nq\x05" + text("u1") + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + text("|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    build = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + number(0)
        + b"\x85"
        + text("b")
        + b"\x87R"
    )
    state = b"(" + number(1) + shape + dtype + b"\x89" + b"T" + struct.pack("<i", len(data)) + data + b"tb"
    batch = text("batch_label") + text("training batch 1 of 5")
    names = text(key) + b"]q\x03(" + b"".join(number(x) for x in labels) + b"e"
    return b"\x80\x02}q\x01(" + batch + names + text("data") + build + state + b"u."


def python2_names(names: Sequence[str], key: str = "label_names") -> bytes:
    """The bytes of a meta file."""
    items = b"".join(b"U" + bytes([len(n)]) + n.encode() for n in names)
    return b"\x80\x02}q\x01(U" + bytes([len(key)]) + key.encode() + b"]q\x02(" + items + b"eu."

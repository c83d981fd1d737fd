"""The demo data set: BUSI's layout, the same images for the same seed, and nobody's data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gcsam_med.datasets.demo import FOLDER, MARKER, class_counts, is_synthetic, write_demo
from gcsam_med.errors import InputError


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, n=24, seed=3)
    return folder / FOLDER


def test_layout_is_busis(demo: Path) -> None:
    """Oracle: BUSI's own names, ``benign (1).png`` with ``benign (1)_mask.png``, numbered from 1."""
    for kind, count in class_counts(24).items():
        images = {p.name for p in (demo / kind).glob("*.png") if "_mask" not in p.name}
        assert images == {f"{kind} ({i}).png" for i in range(1, count + 1)}
        assert all((demo / kind / f"{kind} ({i})_mask.png").is_file() for i in range(1, count + 1))


def test_every_ninth_lesion_image_has_two_disjoint_lesions(demo: Path) -> None:
    first, second = (_pixels(demo / "benign" / f"benign (9)_mask{i}.png") for i in ("", "_1"))
    assert first.any()
    assert second.any()
    assert not (first & second).any()
    assert not (demo / "benign" / "benign (8)_mask_1.png").exists()


def test_images_and_masks_are_grey_and_of_one_size(demo: Path) -> None:
    sizes = set()
    for path in demo.glob("*/*.png"):
        if "_mask" in path.name:
            continue
        image, mask = _pixels(path), _pixels(path.with_name(f"{path.stem}_mask.png"))
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == mask.shape
        assert set(np.unique(mask)) == ({0} if path.parent.name == "normal" else {0, 255})
        assert image.std() > 15  # neither black nor saturated
        sizes.add(image.shape)
    assert len(sizes) > 12  # sizes vary, as in BUSI
    assert all(320 <= h < 560 and 400 <= w < 640 for h, w in sizes)


def test_lesions_are_hypoechoic(demo: Path) -> None:
    """Oracle: a lesion backscatters less than the tissue beside it at the same depth (8 to 17 dB)."""
    darker = []
    for path in demo.glob("[bm]*/*_mask.png"):
        image, mask = _pixels(path.with_name(path.name.replace("_mask", ""))).astype(float), _pixels(path) > 0
        rows = mask.any(axis=1)
        darker.append(image[rows][mask[rows]].mean() < image[rows][~mask[rows]].mean() - 5)
    assert np.mean(darker) > 0.85


def test_an_image_depends_on_seed_class_and_number_alone(demo: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "smaller", n=12, seed=3)
    write_demo(tmp_path / "other", n=12, seed=4)
    for name in ("benign/benign (2).png", "malignant/malignant (1)_mask.png", "normal/normal (1).png"):
        assert (demo / name).read_bytes() == (tmp_path / "smaller" / FOLDER / name).read_bytes()
    other = _pixels(tmp_path / "other" / FOLDER / "benign" / "benign (2).png")
    assert not np.array_equal(_pixels(demo / "benign" / "benign (2).png"), other)


def test_everything_says_that_it_is_synthetic(demo: Path) -> None:
    assert is_synthetic(demo)
    assert "synthetic" in (demo / MARKER).read_text(encoding="utf-8")
    for path in demo.glob("*/*.png"):
        with Image.open(path) as image:
            assert "Synthetic" in image.info["synthetic"]


def test_brightness_does_not_give_the_class_away(tmp_path: Path) -> None:
    """Oracle: Mann-Whitney area of the mean grey inside the lesion, benign against malignant; 0.5 is none."""
    from sklearn.metrics import roc_auc_score

    write_demo(tmp_path, n=80, seed=0)
    grey, wide, label = [], [], []
    for path in (tmp_path / FOLDER).glob("[bm]*/*_mask.png"):
        mask = _pixels(path) > 0
        grey.append(_pixels(path.with_name(path.name.replace("_mask", "")))[mask].mean())
        wide.append(mask.any(axis=0).sum() / mask.any(axis=1).sum())
        label.append(path.parent.name == "benign")
    assert 0.3 < roc_auc_score(label, grey) < 0.7
    assert roc_auc_score(label, wide) > 0.9  # but the orientation tells, as in the BI-RADS lexicon


def test_a_second_writing_replaces_the_first(tmp_path: Path) -> None:
    write_demo(tmp_path, n=8)
    write_demo(tmp_path, n=4)
    assert len([p for p in (tmp_path / FOLDER).glob("*/*.png") if "_mask" not in p.name]) == 4


def test_real_images_are_never_overwritten(tmp_path: Path) -> None:
    real = tmp_path / FOLDER / "benign" / "benign (1).png"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a clinic's image")
    with pytest.raises(InputError, match="nothing was changed"):
        write_demo(tmp_path, n=4)
    assert real.read_bytes() == b"a clinic's image"


def test_counts_follow_busi_and_add_up() -> None:
    """Oracle: BUSI has 437 benign, 210 malignant and 133 normal images."""
    assert class_counts(780) == {"benign": 437, "malignant": 210, "normal": 133}
    for n in range(3, 60):
        assert sum(class_counts(n).values()) == n
        assert min(class_counts(n).values()) >= 1
    with pytest.raises(InputError, match="at least 3"):
        write_demo(Path("nowhere"), n=2)

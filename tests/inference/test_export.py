"""Exports are read by what others read them with: onnxruntime, torch.export, MONAI, safetensors, YAML."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageOps

from gcsam_med.config import PredictOptions
from gcsam_med.errors import GcsamMedError, InputError
from gcsam_med.evaluation import evaluate_run, evaluation_folder
from gcsam_med.inference import predict
from gcsam_med.inference.export import FORMATS, export_run
from gcsam_med.inference.export.bundle import can_be_bundled
from gcsam_med.inference.export.graphs import TOLERANCE, check
from gcsam_med.networks import NETWORKS
from gcsam_med.reporting.write import metrics_json
from gcsam_med.runs import load_model
from tests.builders import copied_run, make_prepared, make_run, picture, trained_runs

# All of NETWORKS take minutes, because tracing a transformer does.
ALL = bool(os.environ.get("GCSAM_MED_ALL_NETWORKS"))
TRACED = tuple(NETWORKS) if ALL else ("resnet18",)  # unet is traced by the other tests


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was evaluated, so that it has an operating point and figures."""
    run = copied_run(tmp_path_factory.mktemp("export"), "segmentation")
    report = evaluate_run(run, resamples=100, device="cpu")
    figures = evaluation_folder(report, run) / "metrics.json"
    figures.parent.mkdir(parents=True)
    figures.write_text(json.dumps(metrics_json(report)), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def onnx(run):
    return export_run(run, "onnx").folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images high, wide and odd; grey, colour, with transparency, turned by EXIF."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("images")
    for i, (height, width) in enumerate([(50, 71), (64, 33), (32, 32), (97, 40)]):
        Image.fromarray(picture("malignant", height, width, rng)[0]).save(folder / f"a{i}.png")
    colour = rng.integers(0, 256, (45, 60, 3)).astype(np.uint8)
    Image.fromarray(colour).save(folder / "colour.png")
    Image.fromarray(np.dstack([colour, colour[..., :1]])).save(folder / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture("benign", 40, 70, rng)[0]).save(folder / "turned.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def masks(run, images, tmp_path_factory):
    """What `predict` says of the images."""
    out = tmp_path_factory.mktemp("predicted")
    done = predict([run], [images], out, PredictOptions(device="cpu"))
    masks = {row["name"]: np.asarray(Image.open(out / row["mask"])) > 0 for row in done.rows}
    assert any(mask.any() for mask in masks.values())
    return masks


def dice(a, b):
    return 1.0 if not (a.any() or b.any()) else 2 * (a & b).sum() / (a.sum() + b.sum())


def test_an_onnx_file_gives_our_masks_by_its_own_description(onnx, images, masks):
    """Oracle: predict. Here are only Pillow, NumPy, onnxruntime and what the file says of itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx / "model.onnx", providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map["description"])
    assert told == json.loads((onnx / "description.json").read_text())
    assert [step["step"] for step in told["preprocessing"]] == [
        "decode",
        "resize",
        "pad",
        "scale",
        "channels",
    ]
    assert [step["step"] for step in told["postprocessing"]] == ["crop", "restore", "threshold"]
    size = told["size"]
    squares, places = [], {}
    for path in sorted(images.iterdir()):
        pixels = np.asarray(
            ImageOps.exif_transpose(Image.open(path)).convert(told["preprocessing"][0]["mode"])
        )
        height, width = pixels.shape
        scale = size / max(height, width)
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (size - h) // 2, (size - w) // 2
        square = np.zeros((size, size), np.uint8)
        square[top : top + h, left : left + w] = Image.fromarray(pixels).resize(
            (w, h), Image.Resampling.BILINEAR
        )
        squares.append(square / np.float32(255))
        places[path.stem] = np.s_[top : top + h, left : left + w], (width, height)
    answers = session.run(["probability"], {"image": np.stack(squares)[:, None].astype(np.float32)})[0]
    for answer, (name, (inner, shape)) in zip(answers, places.items(), strict=True):
        plane = Image.fromarray(np.ascontiguousarray(answer[0][inner]))
        mask = np.asarray(plane.resize(shape, Image.Resampling.BILINEAR)) >= told["threshold"]
        assert dice(mask, masks[name]) >= 0.999, name


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_exported(name, tmp_path):
    """Oracle: export_run itself compares what was written with the network, for batches of 1 and 3."""
    spec = NETWORKS[name]
    formats = [f for f in ("onnx", "torch-export") if name in TRACED]
    # 134 M weights for nothing new: torchvision's others go the same way.
    formats += ["monai-bundle"] if ALL or name != "vgg16" else []
    if not formats:
        pytest.skip("with GCSAM_MED_ALL_NETWORKS=1")
    size = max(32, spec.smallest)
    run = make_run(tmp_path, make_prepared(tmp_path / "data", n=6, size=size), spec.task, model=name)
    for form in formats:
        if form == "monai-bundle" and not can_be_bundled(NETWORKS[name]):
            with pytest.raises(InputError, match="need gcsam-med to run"):
                export_run(run, form)
            assert not (run / "export").exists() or not list((run / "export").glob("*bundle*"))
        else:
            assert export_run(run, form).difference <= TOLERANCE


def test_an_onnx_file_says_nothing_of_this_machine(onnx):
    """Oracle: exporters leave code lines and file names in each node; none of ours may be in the file."""
    data = (onnx / "model.onnx").read_bytes()
    for word in (b"/gcsam_med/", b"site-packages", str(Path.home()).encode() + b"/", b"def forward"):
        assert word not in data


def test_a_program_takes_any_batch(run, tmp_path):
    """Oracle: the model here; the description travels inside."""
    folder = export_run(run, "torch-export", tmp_path / "out").folder
    extra = {"description.json": ""}
    network = torch.export.load(folder / "model.pt2", extra_files=extra).module()
    assert json.loads(extra["description.json"]) == json.loads((folder / "description.json").read_text())
    model = load_model(run / "model")
    squares = np.random.default_rng(0).integers(0, 256, (5, 32, 32)).astype(np.uint8)
    with torch.inference_mode():
        found = network(torch.from_numpy(squares)[:, None] / 255)
    torch.testing.assert_close(found, model.probabilities(model.tensor(squares)), atol=1e-4, rtol=0)


def test_weights_are_the_run_s(run, tmp_path):
    """Oracle: the hash on the run's card."""
    import hashlib

    folder = export_run(run, "safetensors", tmp_path / "out").folder
    told = json.loads((folder / "description.json").read_text())
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    assert digest == told["weights_sha256"] == load_model(run / "model").card.weights_sha256
    assert told["preprocessing"][-1]["mean"] == told["mean"]


def schema():
    """MONAI's schema of metadata.json, by what it requires (MONAI bundle specification)."""
    text, tensor = {"type": "string"}, {
        "type": "object",
        "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
        "properties": {"num_channels": {"type": "integer"}, "value_range": {"items": {"type": "number"}}},
    }  # fmt: skip
    texts = ["schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description",
             "authors", "copyright"]  # fmt: skip
    mappings = ["required_packages_version", "optional_packages_version", "network_data_format"]
    sides = {side: {"additionalProperties": tensor} for side in ("inputs", "outputs")}
    return {
        "type": "object",
        "required": [*texts, *mappings],
        "properties": {
            **dict.fromkeys(texts, text),
            "network_data_format": {"required": ["inputs", "outputs"], "properties": sides},
        },
    }


def test_a_bundle_runs_without_this_package_and_gives_our_masks(run, images, masks, tmp_path):
    """Oracle: predict, and MONAI's own `bundle run` and `verify_metadata`, where we cannot be imported."""
    folder = export_run(run, "monai-bundle", tmp_path / "bundle").folder
    (tmp_path / "schema.json").write_text(json.dumps(schema()))
    code = (
        "import sys; sys.modules['gcsam_med'] = None\n"
        "from monai.bundle import run, verify_metadata\n"
        f"verify_metadata(meta_file='configs/metadata.json', filepath={str(tmp_path / 'schema.json')!r})\n"
        "run(config_file='configs/inference.json', meta_file='configs/metadata.json', "
        f"dataset_dir={str(images)!r}, output_dir={str(tmp_path / 'out')!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(found) == {p.name if p.suffix == ".png" else p.name + ".png" for p in images.iterdir()}
    for name, path in found.items():
        assert dice(np.asarray(Image.open(path)) > 0, masks[name.split(".")[0]]) >= 0.999, name


def test_a_bundle_of_a_classification_gives_our_probabilities(images, tmp_path):
    """Oracle: predict."""
    from monai.bundle import run as run_bundle

    run = trained_runs()["classes"]
    folder = export_run(run, "monai-bundle", tmp_path / "bundle").folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_bundle(
            config_file=str(folder / "configs/inference.json"),
            bundle_root=str(folder),
            dataset_dir=str(images),
            output_dir=str(tmp_path / "out"),
        )
    rows = predict([run], [images], tmp_path / "predicted", PredictOptions(device="cpu")).rows
    lines = [line.split(",") for line in (tmp_path / "out/predictions.csv").read_text().splitlines()]
    found = {Path(name).stem: [float(x) for x in values] for name, *values in lines}
    for row in rows:
        wanted = [row[f"prob_{name}"] for name in ("benign", "malignant", "normal")]
        np.testing.assert_allclose(found[row["name"]], wanted, atol=1e-4)


def header(text):
    start, block, body = text.split("---\n", 2)
    assert not start
    return yaml.safe_load(block), body


def test_the_model_card_is_filled_from_the_run(run, onnx):
    """Oracle: metrics.json; the header's fields are those of the Hugging Face hub."""
    block, body = header((onnx / "README.md").read_text())
    figures = json.loads((run / "evaluation/test/metrics.json").read_text())["metrics"]
    result = block["model-index"][0]["results"][0]
    assert result["task"]["type"] == block["pipeline_tag"] == "image-segmentation"
    assert result["dataset"] == {"type": "toy", "name": "toy", "split": "test"}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values["dice"] == round(figures["dice"]["value"], 4)
    low, high = figures["dice"]["ci95"]
    assert f"| Dice | {figures['dice']['value']:.3f} | {low:.3f} to {high:.3f} |" in body
    assert "Not for clinical use" in body
    assert "Synthetic data" in body
    assert "synthetic" in block["tags"]
    assert "No external validation" in body
    assert str(run.parent) not in body
    assert "| train |" in body


def test_a_model_card_admits_what_is_not_known(tmp_path):
    """Oracle: a run that was never evaluated, whose data are gone."""
    import shutil

    run = make_run(tmp_path, make_prepared(tmp_path / "data", n=6, synthetic=False))
    shutil.rmtree(tmp_path / "data")
    block, body = header((export_run(run, "safetensors").folder / "README.md").read_text())
    assert "has not been evaluated" in body
    assert "not chosen on validation" in body
    assert "not at hand" in body
    assert "Synthetic" not in body
    assert "model-index" not in block


def test_nothing_is_overwritten_in_silence(run, tmp_path):
    """Oracle: the files before and after."""
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("all of it")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is no export"):
            export_run(run, "safetensors", other, overwrite=overwrite)
    assert [p.name for p in other.iterdir()] == ["thesis.txt"]
    folder = export_run(run, "safetensors", tmp_path / "out").folder
    (folder / "README.md").write_text("changed")
    with pytest.raises(InputError, match="holds an export"):
        export_run(run, "safetensors", folder)
    assert (folder / "README.md").read_text() == "changed"
    export_run(run, "safetensors", folder, overwrite=True)
    assert (folder / "README.md").read_text().startswith("---\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "out"]


def test_an_export_that_fails_leaves_nothing(run, tmp_path, monkeypatch):
    """Oracle: the folder, listed."""

    def fail(run, folder):
        (folder / "half").write_text("x")
        raise GcsamMedError("differs")

    monkeypatch.setitem(
        FORMATS, "onnx", FORMATS["onnx"].__class__(**{**vars(FORMATS["onnx"]), "write": fail})
    )
    with pytest.raises(GcsamMedError, match="differs"):
        export_run(run, "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_difference_is_refused():
    """Oracle: the tolerance; NaN is a difference."""
    same = [np.zeros((1, 2))]
    assert check("file", same, [np.full((1, 2), 5e-5)]) == pytest.approx(5e-5)
    for wrong in (np.full((1, 2), 2e-4), np.full((1, 2), np.nan), np.zeros((2, 2))):
        with pytest.raises(GcsamMedError, match="file"):
            check("file", same, [wrong])

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gcsam_med.config import PredictOptions
from gcsam_med.errors import InputError
from gcsam_med.evaluation import evaluate_run
from gcsam_med.inference import predict
from gcsam_med.inference.ensemble import load_ensemble
from gcsam_med.runs import load_model
from gcsam_med.transforms.letterbox import Letterbox
from tests.builders import copied_run, picture, trained_runs

CPU = PredictOptions(device="cpu")


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(3)
    folder = tmp_path / "in"
    folder.mkdir()
    for i, (height, width) in enumerate([(50, 70), (64, 40), (33, 90), (48, 48), (61, 77)]):
        pixels, _ = picture(("benign", "malignant")[i % 2], height, width, rng)
        Image.fromarray(pixels).save(folder / f"case{i}.png")
    return folder


def png(path):
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_masks_are_those_of_the_network_in_the_input_s_own_size(images, tmp_path):
    """Oracle: the network asked by hand, its map brought back and cut at the threshold."""
    run = trained_runs()["segmentation"]
    model = load_model(run / "model")
    done = predict(
        [run], [images], tmp_path / "out", PredictOptions(device="cpu", threshold=0.4, batch_size=2)
    )
    assert len(done.rows) == 5
    for row in done.rows:
        pixels = png(images / f"{row['name']}.png")
        mask = png(tmp_path / "out" / row["mask"])
        assert mask.shape == pixels.shape == (row["height"], row["width"])
        assert set(np.unique(mask)) <= {0, 255}
        geometry = Letterbox(*pixels.shape, 32)
        square = model.probabilities(model.tensor(geometry.place_image(pixels)[None]))[0, 0].numpy()
        expected = geometry.restore(square) >= 0.4
        # Batches of another size may round the last bit otherwise.
        assert (expected != (mask > 0)).mean() < 0.002
        assert row["area_px"] == (mask > 0).sum()
        with Image.open(tmp_path / "out" / row["overlay"]) as overlay:
            assert overlay.size == pixels.shape[::-1]
            drawn = np.asarray(overlay.convert("RGB"))
        coloured = np.ptp(drawn, axis=2) > 0
        assert coloured.any() == mask.any()
        far = ~ndimage.binary_dilation(
            ndimage.binary_dilation(mask > 0) & ~ndimage.binary_erosion(mask > 0), None, 3
        )
        np.testing.assert_array_equal(drawn[far][:, 0], np.minimum(pixels, 254)[far])


def test_the_table_has_a_row_for_every_input_and_bad_files_say_why(images, tmp_path):
    """Oracle: counted by hand; faults by their kind."""
    (images / "broken.png").write_bytes((images / "case0.png").read_bytes()[:60])
    (images / "text.png").write_text("no image")
    (images / "empty.png").touch()
    done = predict([trained_runs()["segmentation"]], [images], tmp_path / "out", CPU)
    assert {f.path.rsplit("/", 1)[1] for f in done.faults} == {"broken.png", "text.png", "empty.png"}
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows].count("ok") == 5
    assert [row["status"] for row in rows].count("failed") == 3
    assert all(row["reason"] for row in rows if row["status"] == "failed")
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 5
    page = (tmp_path / "out" / "predictions.html").read_text()
    assert page.count("<img ") == 5
    assert "broken" in page


def test_the_page_of_a_classification_shows_the_images_themselves(images, tmp_path):
    """Oracle: one picture an image, none of which was written to the output folder."""
    predict([trained_runs()["binary"]], [images], tmp_path / "out", CPU)
    assert (tmp_path / "out" / "predictions.html").read_text().count("<img ") == 5
    assert not (tmp_path / "out" / "overlays").exists()


def test_the_threshold_is_the_one_chosen_on_validation(images, tmp_path):
    """Oracle: the report's, whether it was evaluated before or not; without one, 0.5 with a word about it."""
    run = copied_run(tmp_path, "segmentation")
    before = predict([run], [images], tmp_path / "a", CPU)
    assert "chosen on validation" in before.threshold_from
    report = evaluate_run(run, resamples=100, device="cpu")
    after = predict([run], [images], tmp_path / "b", CPU)
    assert before.threshold == after.threshold == report.operating.threshold
    assert before.rows == after.rows
    (run / "model" / "calibration.json").unlink()
    without = predict([run], [images], tmp_path / "c", CPU)
    assert without.threshold == 0.5
    assert "not chosen" in without.threshold_from


def test_classes_and_calibrated_probabilities(images, tmp_path):
    """Oracle: the call follows the threshold; probabilities sum to 1; the likelier class stays."""
    run = copied_run(tmp_path, "binary")
    report = evaluate_run(run, resamples=100, device="cpu")
    done = predict([run], [images], tmp_path / "out", CPU)
    for row in done.rows:
        assert row["prob_benign"] + row["prob_malignant"] == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == ("malignant" if row["prob_malignant"] >= done.threshold else "benign")
        if report.calibration.temperature is not None:
            assert row["calibrated_benign"] + row["calibrated_malignant"] == pytest.approx(1, abs=1e-5)
            assert (row["prob_benign"] > 0.5) == (row["calibrated_benign"] > 0.5)
    assert not (tmp_path / "out" / "masks").exists()


def test_a_stopped_prediction_goes_on_and_ends_the_same(images, tmp_path, monkeypatch):
    """Oracle: the folder of a prediction that was not stopped, byte for byte."""
    run = trained_runs()["segmentation"]
    options = PredictOptions(device="cpu", batch_size=1)
    predict([run], [images], tmp_path / "whole", options)

    def stopping(items, what, total=None):
        for i, item in enumerate(items):
            if i == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        predict([run], [images], tmp_path / "out", options, track=stopping)
    assert not (tmp_path / "out" / "predictions.csv").exists()
    # A crash may cut the last line short.
    with (tmp_path / "out" / "predictions.jsonl").open("a") as file:
        file.write('{"key": "x", "ro')
    done = predict([run], [images], tmp_path / "out", options)
    assert done.resumed == 2
    for file in sorted(
        p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file()
    ):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_nothing_is_done_twice_and_lost_files_are_made_anew(images, tmp_path):
    """Oracle: counted by hand. A power loss may leave 0 bytes, or the head of a file."""
    run = trained_runs()["segmentation"]
    predict([run], [images], tmp_path / "out", CPU)
    masks = tmp_path / "out" / "masks"
    former = (masks / "case2.png").read_bytes()
    (masks / "case1.png").unlink()
    (masks / "case2.png").write_bytes(b"")
    (masks / "case3.png").write_bytes((masks / "case3.png").read_bytes()[:-30])
    done = predict([run], [images], tmp_path / "out", CPU)
    assert done.resumed == 2
    assert (masks / "case1.png").is_file()
    assert (masks / "case2.png").read_bytes() == former


def test_a_mask_that_another_input_of_the_same_name_has_taken_is_made_anew(images, tmp_path):
    """Two folders with a scan.png each, one after the other into one output. Oracle: each predicted alone."""
    run = trained_runs()["segmentation"]
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        (images / f"case{number}.png").rename(tmp_path / str(number) / "scan.png")
        predict([run], [tmp_path / str(number)], tmp_path / f"alone{number}", CPU)
    for number in (0, 1, 0):
        done = predict([run], [tmp_path / str(number)], tmp_path / "out", CPU)
        alone = tmp_path / f"alone{number}" / "masks" / "scan.png"
        assert done.resumed == 0
        assert (tmp_path / "out" / "masks" / "scan.png").read_bytes() == alone.read_bytes()


def test_predictions_of_other_settings_are_not_mixed(images, tmp_path):
    """Oracle: a refusal that names --overwrite; with it, all are new."""
    run = trained_runs()["segmentation"]
    predict([run], [images], tmp_path / "out", CPU)
    other = PredictOptions(device="cpu", threshold=0.9)
    with pytest.raises(InputError, match="other options") as caught:
        predict([run], [images], tmp_path / "out", other)
    assert "--overwrite" in caught.value.advice
    done = predict(
        [run], [images], tmp_path / "out", PredictOptions(device="cpu", threshold=0.9, overwrite=True)
    )
    assert done.resumed == 0
    (images / "case0.png").unlink()
    predict([run], [images], tmp_path / "out", PredictOptions(device="cpu", overwrite=True))
    assert not (tmp_path / "out" / "masks" / "case0.png").exists()  # a mask without a row


def test_an_ensemble_is_the_mean_and_one_model_twice_agrees_with_itself(images):
    """Oracle: the mean by hand; the mutual information of equal answers is 0, of others above 0."""
    runs = trained_runs()
    square = np.stack([Letterbox(50, 70, 32).place_image(png(images / "case0.png"))])
    one = load_ensemble([runs["segmentation"]], device="cpu")(square)
    assert one.disagreement is None
    twice = load_ensemble([runs["segmentation"]] * 2, device="cpu")(square)
    np.testing.assert_allclose(twice.probability, one.probability, atol=1e-6)
    assert twice.disagreement.max() < 1e-5
    flipped = load_ensemble([runs["segmentation"]], device="cpu", flip=True)
    mirrored = load_ensemble([runs["segmentation"]], device="cpu")(square[:, :, ::-1].copy())
    expected = (one.probability + mirrored.probability[:, :, ::-1]) / 2
    answer = flipped(square)
    np.testing.assert_allclose(answer.probability, expected, atol=1e-5)
    assert 0 < answer.disagreement.max() <= np.log(2) + 1e-6


def test_runs_of_other_questions_are_no_ensemble():
    """Oracle: the message names what differs."""
    runs = trained_runs()
    with pytest.raises(InputError, match="task"):
        load_ensemble([runs["segmentation"], runs["binary"]], device="cpu")
    with pytest.raises(InputError, match="classes"):
        load_ensemble([runs["classes"], runs["binary"]], device="cpu")


def test_colour_archives_and_collisions(images, tmp_path):
    """Oracle: an RGB copy of a grey image has the same mask; names that meet are told apart."""
    colour = io.BytesIO()
    Image.open(images / "case0.png").convert("RGB").save(colour, format="PNG")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("x/case0.png", colour.getvalue())
    done = predict([trained_runs()["segmentation"]], [images, tmp_path / "z.zip"], tmp_path / "out", CPU)
    assert done.renamed == 2
    same = [png(tmp_path / "out" / r["mask"]) for r in done.rows if "case0" in r["name"]]
    assert len(same) == 2
    np.testing.assert_array_equal(*same)


def test_settings_are_kept_with_the_predictions(images, tmp_path):
    """Oracle: what a reader of the folder needs to know, by name."""
    run = trained_runs()["segmentation"]
    options = PredictOptions(device="cpu", largest_component=True, overlays=False)
    predict([run], [images], tmp_path / "out", options)
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["postprocessing"] == "largest component"
    assert content["weights_sha256"] == [load_model(run / "model").card.weights_sha256]
    assert content["synthetic"] is True
    assert not (tmp_path / "out" / "overlays").exists()


def test_an_image_unlike_the_training_images_is_flagged(images, tmp_path):
    """Oracle: by construction; each odd kind among usual images has a flag of its own."""
    run = copied_run(tmp_path, "segmentation")
    usual = png(images / "case0.png")
    Image.fromarray(np.zeros_like(usual)).save(images / "black.png")
    Image.fromarray(255 - usual).save(images / "inverted.png")
    Image.fromarray(np.where(usual > 100, 255, 0).astype(np.uint8)).save(images / "mask.png")
    large = Image.fromarray(usual)
    large.resize((8 * large.width, 8 * large.height), Image.Resampling.NEAREST).save(images / "large.png")
    tinted = np.stack([usual, usual // 2, usual // 3], axis=2)
    Image.fromarray(tinted).save(images / "tinted.png")
    rows = {r["name"]: r for r in predict([run], [images], tmp_path / "out", CPU).rows}
    assert "one grey value only" in rows["black"]["flags"]
    assert "looks like a mask" in rows["mask"]["flags"]
    assert "another size or shape than the training images" in rows["large"]["flags"]
    assert "unlike the training images" in rows["inverted"]["flags"]
    for name in ("black", "inverted", "mask", "large"):
        assert rows[name]["unlikeness"] > 1
        assert rows[name]["flags"].count("training images") <= 1 + ("features" in rows[name]["flags"])
    assert "coloured" in rows["tinted"]["flags"]
    assert "unlike" not in rows["case0"]["flags"]


def test_every_frame_of_a_file_has_its_own_mask(images, tmp_path):
    """Oracle: three pages, three rows and files; by default only the first."""
    pages = [Image.fromarray(png(images / f"case{i}.png")) for i in range(3)]
    source = tmp_path / "clip.tif"
    pages[0].save(source, save_all=True, append_images=pages[1:])
    run = trained_runs()["segmentation"]
    every = predict([run], [source], tmp_path / "all", PredictOptions(device="cpu", frames="all"))
    assert [row["name"] for row in every.rows] == ["clip_f0", "clip_f1", "clip_f2"]
    sizes = [png(tmp_path / "all" / row["mask"]).shape for row in every.rows]
    assert sizes == [page.size[::-1] for page in pages]
    first = predict([run], [source], tmp_path / "first", CPU)
    assert [row["name"] for row in first.rows] == ["clip"]

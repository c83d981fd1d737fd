import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from gcsam_med.cli import run as command
from gcsam_med.config import PredictOptions
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.errors import CheckpointError, InputError
from gcsam_med.inference import predict
from gcsam_med.inference.ensemble import find_runs, load_ensemble
from gcsam_med.inference.predict import lanes
from gcsam_med.metrics.calibration import apply_temperature
from gcsam_med.runs import RunFolder, load_model, save_model
from gcsam_med.runs.calibration import CALIBRATION, load_calibration
from gcsam_med.runs.references import FEATURE_FILE
from gcsam_med.training.calibration import calibrate_run
from tests.builders import copied_run, picture, trained_runs


def squares(n=3, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([picture(("benign", "malignant")[i % 2], 32, 32, rng)[0] for i in range(n)])


@pytest.fixture
def calibrated_run(tmp_path):
    """A classification with threshold, temperature and features."""
    return copied_run(tmp_path, "binary")


def with_dropout(run):
    """Give a run's network dropout, as if it had been trained so."""
    from gcsam_med.networks import build_network

    model = load_model(run / "model")
    card = model.card.model_copy(update={"dropout": 0.3})
    network = build_network(
        card.model, task=card.task, in_channels=1, outputs=1, size=card.size, dropout=card.dropout
    )
    network.load_state_dict(model.network.state_dict())
    save_model(run / "model", network, card)
    return run


def test_an_ensemble_s_calibrated_answer_is_the_mean_of_calibrated_answers(calibrated_run, tmp_path):
    """Oracle: each model softened by its own temperature, by hand; none if one model has none."""
    other = tmp_path / "other"
    shutil.copytree(calibrated_run, other)
    model = load_model(other / "model")
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(1.02)
    save_model(other / "model", model.network, model.card)
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        load_ensemble([calibrated_run, other], device="cpu")
    (other / "model" / CALIBRATION).unlink()
    assert load_ensemble([calibrated_run, other], device="cpu")(squares()).calibrated is None
    calibrate_run(other, device="cpu")
    answer = load_ensemble([calibrated_run, other], device="cpu")(squares())
    expected = []
    for run in (calibrated_run, other):
        one = load_model(run / "model")
        point = load_calibration(run / "model", one.card.weights_sha256)
        expected.append(
            apply_temperature(one.probabilities(one.tensor(squares())).double().numpy(), point.temperature)
        )
    np.testing.assert_allclose(answer.calibrated, np.mean(expected, axis=0), atol=1e-6)
    assert answer.disagreement.shape == (3,)


def test_what_the_network_sees_as_strange_is_flagged(calibrated_run, tmp_path):
    """Oracle: the features' own distance; stripes are flagged, an image of the kind is not."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(picture("benign", 32, 32, rng)[0]).save(folder / "usual.png")
    stripes = np.broadcast_to((np.arange(32) % 4 < 2) * 255, (32, 32)).astype(np.uint8)
    Image.fromarray(stripes).save(folder / "stripes.png")
    done = predict([calibrated_run], [folder], tmp_path / "out", PredictOptions(device="cpu"))
    rows = {row["name"]: row for row in done.rows}
    assert "features unlike the training images" in rows["stripes"]["flags"]
    assert rows["stripes"]["feature_unlikeness"] > 1 > rows["usual"]["feature_unlikeness"]
    # The other training images, which the limit was taken from, lie on the right side of it.
    ensemble = load_ensemble([calibrated_run], device="cpu")
    data = PreparedDataset(trained_runs()["data"] / "prepared" / "toy")
    assert (ensemble(data.images(data.rows("train"))).feature_distance > 1).mean() <= 0.03


def test_features_of_another_network_are_refused(calibrated_run):
    """Oracle: exit code 4 and what to do."""
    path = calibrated_run / "model" / FEATURE_FILE
    path.write_bytes(path.read_bytes().replace(b"fc.", b"xx."))
    with pytest.raises(CheckpointError, match="changed since it was written"):
        load_ensemble([calibrated_run], device="cpu")


def test_monte_carlo_dropout_averages_and_tells_how_unsure(tmp_path):
    """Oracle: the samples by hand; their mutual information; the same twice, also in other batches."""
    run = with_dropout(copied_run(tmp_path, "segmentation"))
    ensemble = load_ensemble([run], device="cpu", mc_dropout=4)
    answer = ensemble(squares())
    model, samples = ensemble.models[0], []
    for number in range(4):
        with ensemble.samples[0].sample(number):
            samples.append(model.probabilities(model.tensor(squares()))[:, 0].double().numpy())
    mean = np.mean(samples, axis=0)
    np.testing.assert_allclose(answer.probability, mean, atol=1e-5)

    def entropy(p):
        return -(p * np.log(p) + (1 - p) * np.log(1 - p))

    expected = entropy(mean) - np.mean([entropy(p) for p in samples], axis=0)
    np.testing.assert_allclose(answer.disagreement, expected, atol=1e-4)
    assert answer.disagreement.max() > 0
    again = ensemble(squares()[1:2])
    np.testing.assert_allclose(again.probability[0], answer.probability[1], atol=1e-4)
    assert dataclasses.replace(ensemble, passes=0, samples=())(squares()).disagreement is None


def test_monte_carlo_dropout_on_the_command_line(tmp_path, capsys):
    """Oracle: the settings kept; without dropout a refusal that says how to train; 1 sample is none."""
    run = with_dropout(copied_run(tmp_path, "segmentation"))
    image = tmp_path / "a.png"
    Image.fromarray(squares(1)[0]).save(image)
    out = tmp_path / "out"
    words = ["predict", str(run), str(image), "--device", "cpu", "-o", str(out)]
    assert command([*words, "--mc-dropout", "3"]) == 0
    assert '"mc_dropout": 3' in (out / "predictions.json").read_text()
    assert command([*words, "--mc-dropout", "1", "--overwrite"]) == 2
    plain = trained_runs()["segmentation"]
    assert (
        command(["predict", str(plain), str(image), "-o", str(out), "--overwrite", "--mc-dropout", "3"]) == 2
    )
    assert "dropout" in capsys.readouterr().err


def test_a_folder_of_folds_is_an_ensemble(tmp_path, capsys):
    """Oracle: the same as naming each; an unfinished fold is named, not left out."""
    folds = tmp_path / "folds"
    for fold in range(2):
        shutil.copytree(trained_runs()["segmentation"], folds / f"fold{fold}")
    assert find_runs([folds]) == [folds / "fold0", folds / "fold1"]
    assert find_runs([folds / "fold1", tmp_path / "none"]) == [folds / "fold1", tmp_path / "none"]
    image = tmp_path / "a.png"
    Image.fromarray(squares(1)[0]).save(image)
    words = ["predict", str(folds), str(image), "--device", "cpu", "--json", "-o", str(tmp_path / "out")]
    assert command(words) == 0
    assert "disagreement" in (tmp_path / "out" / "predictions.csv").read_text()
    shutil.rmtree(RunFolder(folds / "fold1").model)
    with pytest.raises(InputError, match="fold1"):
        load_ensemble([folds], device="cpu")
    capsys.readouterr()


def test_lanes_share_the_cores_and_give_them_back():
    """Oracle: the number of threads torch names, within and after; few images have few lanes."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with lanes(100, 8, device="cpu") as (pool, count):
            inside = list(pool.map(lambda _: torch.get_num_threads(), range(8)))
        assert (count, set(inside), torch.get_num_threads()) == (3, {1}, 3)
        with lanes(5, 8, device="cpu") as (pool, count):
            assert (count, pool.submit(torch.get_num_threads).result()) == (1, 3)
        with lanes(100, 8, device="mps") as (_, count):
            assert count == 1
    finally:
        torch.set_num_threads(before)

"""The configuration of a run: what is read is what was written, and every fault is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gcsam_med.config import (
    CompareOptions,
    PrepareOptions,
    RunConfig,
    dump_config,
    load_config,
    with_overrides,
)
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.errors import ConfigError, InputError
from gcsam_med.fields import chosen
from gcsam_med.runs.folder import settings_sha256


def write(folder: Path, text: str) -> Path:
    file = folder / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return file


SETTINGS = st.fixed_dictionaries(
    {"dataset": st.sampled_from(["busi", "my-set", "a.b"])},
    optional={
        "lr": st.floats(1e-9, 10),
        "rho": st.none() | st.floats(0, 5),
        "epochs": st.integers(1, 10**6),
        "classes": st.none() | st.lists(st.sampled_from("abcdef"), min_size=1, unique=True),
        "fold": st.none() | st.integers(0, 20),
        "weights": st.none() | st.sampled_from([Path("a/b.safetensors"), Path("/c d.pth")]),
        "seed": st.integers(0, 2**32 - 1),
        "precision": st.sampled_from(["fp32", "bf16"]),
        "augment": st.booleans(),
        "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:3", "mps"]),
        "norm": st.sampled_from([None, "raw", "centralized"]),
    },
)


@settings(deadline=None)
@given(SETTINGS)
def test_what_is_dumped_is_read_back(tmp_path_factory, values):
    """Oracle: equality of the model; config.yaml replays a run."""
    config = RunConfig(**values)
    file = write(tmp_path_factory.mktemp("config"), dump_config(config))
    assert load_config(file, {}) == config


def test_the_dump_holds_every_field_and_plain_values_only():
    """Oracle: yaml.safe_load, which knows no Python objects."""
    values = yaml.safe_load(dump_config(RunConfig(dataset="busi")))
    assert set(values) == set(RunConfig.model_fields)
    assert values["data_root"] == "data"


def test_later_sources_win(tmp_path):
    """Defaults, then the file, then --set, then options; an option that was not given does not count."""
    file = write(tmp_path, "dataset: busi\nlr: 0.1\nrho: 0.1\nepochs: 7\n")
    config = load_config(
        file, {"rho": 0.3, "epochs": None}, ["rho=0.2", "lr=1e-4", "classes=benign, malignant"]
    )
    assert (config.dataset, config.rho, config.lr, config.epochs) == ("busi", 0.3, 1e-4, 7)
    assert config.classes == ["benign", "malignant"]
    assert config.batch_size == RunConfig.model_fields["batch_size"].default
    assert with_overrides(config, {"epochs": 9}, ["lr=1.0"]) == config.model_copy(
        update={"epochs": 9, "lr": 1.0}
    )


@pytest.mark.parametrize("name", list(RunConfig.model_fields))
def test_every_field_is_explained_in_a_sentence(name):
    text = RunConfig.model_fields[name].description
    assert text
    assert text.endswith(".")
    assert len(text) < 130


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("epochs=0", "epochs: .*greater than or equal to 1"),
        ("epochs=yes", "epochs: should not be true or false"),
        ("seed=false", "seed: should not be true or false"),
        ("epochs=1.5", "epochs: .*integer"),
        ("lr=0", "lr: .*greater than 0"),
        ("lr=.nan", "lr: .*finite"),
        ("lr=.inf", "lr: .*finite"),
        ("rho=-0.1", "rho: .*greater than or equal to 0"),
        ("ema=1", "ema: .*less than 1"),
        ("seed=4294967296", "seed: .*less than 4294967296"),
        ("schedule=Cosine", "schedule: .*'cosine' or 'constant'.*got 'Cosine'"),
        ("device=gpu", "device: should be auto, cpu, cuda, cuda:N or mps, but got 'gpu'"),
        ("device=cuda:x", "device: should be"),
        ("dataset=data/prepared/busi", "dataset: should be the name that prepare gave, not a path"),
        ("dataset=..", "dataset: should be the name"),
        ("dataset=''", "dataset: should be the name"),
        ("classes=[]", "classes: should name each class once"),
        ("classes=benign,benign", "classes: should name each class once"),
        ("classes=benign,,", "classes: should name each class once"),
        ("norm=l2", "norm: "),
        ("rho=1e308", "rho: .*less than or equal to 100"),
        ("weight_decay=1e308", "weight_decay: .*less than or equal to 100"),
        ("warmup_epochs=1e308", "warmup_epochs: .*less than or equal to 10000"),
        ("max_minutes=1e308", "max_minutes: .*less than or equal to 525600"),
        ("epochs=10000000000", "epochs: .*less than or equal to 1000000"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_found(setting, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(None, {"dataset": "busi"} if not setting.startswith("dataset") else {}, [setting])
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) <= 2


def test_all_faults_are_named_at_once(tmp_path):
    file = write(tmp_path, "dataset: busi\nlr: -1\nepochs: none\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert "lr:" in caught.value.message
    assert "epochs:" in caught.value.message
    assert str(file) in caught.value.message


def test_a_missing_data_set_is_a_fault():
    with pytest.raises(ConfigError, match="dataset: Field required"):
        load_config(None, {})


def test_fields_are_checked_against_each_other():
    with pytest.raises(ConfigError, match="--pretrained and --weights"):
        load_config(None, {"dataset": "busi", "pretrained": True, "weights": Path("w.pth")})
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        load_config(None, {"dataset": "busi", "precision": "fp16", "device": "cpu"})


def test_an_unknown_setting_gets_the_nearest_known_one():
    with pytest.raises(InputError, match="Unknown setting 'learning_rho'") as caught:
        load_config(None, {"dataset": "busi"}, ["learning_rho=0.1"])
    assert "epochs" in caught.value.advice
    with pytest.raises(InputError) as caught:
        load_config(None, {"dataset": "busi"}, ["epoch=3"])
    assert "Did you mean 'epochs'" in caught.value.advice


@pytest.mark.parametrize("text", ["lr", "lr 0.1", ""])
def test_set_takes_key_equals_value(text):
    with pytest.raises(ConfigError, match="--set takes key=value"):
        load_config(None, {"dataset": "busi"}, [text])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "should hold a mapping"),
        ("- lr\n", "should hold a mapping"),
        ("lr: [\n", "not valid YAML"),
        ("lr: 0.1\nepochs: 3\nlr: 0.2\n", "sets lr more than once"),
        ("lr: !!python/object/apply:pathlib.Path.touch [ran]\n", "not valid YAML"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_of_settings_is_refused(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        load_config(write(tmp_path, text), {"dataset": "busi"})
    assert [p.name for p in tmp_path.iterdir()] == ["run.yaml"], "the file ran code"


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, {})
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00lr")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "bad.yaml", {})
    with pytest.raises(ConfigError, match="--set lr"):
        load_config(None, {"dataset": "busi"}, ["lr=[0.1"])


def test_a_configuration_does_not_change():
    config = RunConfig(dataset="busi")
    with pytest.raises(ValueError, match="frozen"):
        config.lr = 1.0


@pytest.mark.parametrize(
    "name",
    [".", "..", ".hidden", "a/b", "../../runs", "/abs", "a\\b", " a", "a\nb", "a" * 101, "\u60a3" * 70],
)
def test_what_is_no_name_names_no_prepared_set(name):
    """Oracle: none of these is a file name below a folder that another set could not own."""
    with pytest.raises(InputError, match="not a path"):
        chosen(PrepareOptions, None, name=name)
    with pytest.raises(InputError, match="is not a name"):
        open_prepared(Path("data"), name)


def test_options_and_their_fields_are_one():
    """Oracle: the model itself; an unknown field gets the nearest known one, a choice its alternatives."""
    assert chosen(PrepareOptions, PrepareOptions(size=64), seed=3) == PrepareOptions(size=64, seed=3)
    with pytest.raises(InputError, match="Did you mean 'split_by'"):
        chosen(PrepareOptions, None, split_buy="image")
    with pytest.raises(InputError, match="Did you mean 'drop'"):
        chosen(PrepareOptions, None, conflicts="dorp")
    assert chosen(CompareOptions, None, seeds="0-2,7").seeds == (0, 1, 2, 7)


def test_a_setting_that_is_added_later_leaves_the_hash_of_older_runs():
    """Oracle: by hand; a run of before it goes on, and any other value than the default is another run."""

    class Later(RunConfig):
        added: int = 3

    config = RunConfig(dataset="d", lr=0.1)
    assert settings_sha256(Later(**config.model_dump())) == settings_sha256(config)
    assert settings_sha256(Later(**config.model_dump(), added=4)) != settings_sha256(config)
    assert settings_sha256(RunConfig(dataset="d")) != settings_sha256(config)
    assert settings_sha256(RunConfig(dataset="d", lr=0.1, augment=False)) != settings_sha256(config)

"""Pretrained weights: fitted to the network, downloaded whole or not at all, never executed."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models.vision_transformer import interpolate_embeddings

from gcsam_med.errors import CheckpointError, EnvironmentFault, InputError
from gcsam_med.networks import NETWORKS, build_network, input_channels, load_pretrained
from gcsam_med.networks import pretrained as module


def build(name: str, *, in_channels: int = 1, outputs: int = 2, size: int = 64) -> torch.nn.Module:
    torch.manual_seed(1)
    return build_network(name, task=NETWORKS[name].task, in_channels=in_channels, outputs=outputs, size=size)


def torchvision_state(constructor: str, **options: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    return torchvision.models.get_model(constructor, **options).state_dict()


def write(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


# --- Fitting


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b0", "swin-t", "unet-resnet34"])
def test_a_grey_network_answers_as_the_colour_network_to_grey_repeated(name, tmp_path):
    """Oracle: the three-channel network itself; a convolution is linear in its input channels."""
    colour = build(name, in_channels=3).eval()
    file = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous().clone() for k, v in colour.state_dict().items()}, file)
    grey = build(name, in_channels=1).eval()
    report = load_pretrained(grey, name, weights=file)
    assert report.fresh == ()
    assert report.unused == ()
    assert len(report.notes) == 1
    x = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(grey(x), colour(x.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)
        back = build(name, in_channels=3).eval()
        save_file({k: v.contiguous().clone() for k, v in grey.state_dict().items()}, file)
        load_pretrained(back, name, weights=file)
        torch.testing.assert_close(back(x.repeat(1, 3, 1, 1)), grey(x), rtol=1e-4, atol=1e-5)


def test_imagenet_weights_fit_but_for_the_last_layer(tmp_path):
    """Oracle: torchvision's resnet18, tensor by tensor."""
    state = torchvision_state("resnet18")
    network = build("resnet18", in_channels=3)
    report = load_pretrained(network, "resnet18", weights=write(tmp_path / "r.pth", state))
    assert set(report.fresh) == {"fc.1.weight", "fc.1.bias"}
    assert set(report.unused) == {"fc.weight", "fc.bias"}
    assert report.loaded == len(state) - 2
    assert all(torch.equal(network.state_dict()[k], v) for k, v in state.items() if not k.startswith("fc"))


def test_a_resnet_goes_into_the_encoder_of_a_unet(tmp_path):
    """Oracle: torchvision's resnet34 as a feature extractor; only decoder and head stay fresh."""
    torch.manual_seed(3)
    resnet = torchvision.models.resnet34().eval()
    network = build("unet-resnet34", in_channels=3, outputs=1).eval()
    report = load_pretrained(network, "unet-resnet34", weights=write(tmp_path / "r.pth", resnet.state_dict()))
    assert all(name.startswith(("decoder.", "head.")) for name in report.fresh)
    assert set(report.unused) == {"fc.weight", "fc.bias"}
    resnet.fc = torch.nn.Identity()
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network.encoder(x), resnet(x))


@pytest.mark.slow
def test_position_embeddings_are_interpolated(tmp_path):
    """Oracle: torchvision's interpolate_embeddings on the whole state."""
    state = torchvision_state("vit_b_16", num_classes=2)
    network = build("vit-b-16", in_channels=3, size=64)
    report = load_pretrained(network, "vit-b-16", weights=write(tmp_path / "v.pth", state))
    assert report.fresh == ()
    assert any("14 x 14 to 4 x 4" in note for note in report.notes)
    expected = interpolate_embeddings(64, 16, dict(state))["encoder.pos_embedding"]
    torch.testing.assert_close(network.state_dict()["encoder.pos_embedding"], expected)


def test_densenet_weights_of_the_old_names_fit(tmp_path):
    """Oracle: the names in torchvision's published file (norm.1, conv.2), which it renames while loading."""
    state = torchvision_state("densenet121", num_classes=2)
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", k): v for k, v in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    network = build("densenet121", in_channels=3)
    report = load_pretrained(network, "densenet121", weights=write(tmp_path / "d.pth", old))
    assert set(report.fresh) == {"classifier.1.weight", "classifier.1.bias"}


def test_wrappers_around_a_state_are_opened(tmp_path):
    """Lightning keeps the state under "state_dict"; DistributedDataParallel puts "module." before names."""
    state = {f"module.{k}": v for k, v in build("unet").state_dict().items()}
    file = write(tmp_path / "w.pt", {"epoch": 3, "state_dict": state})
    other = build("unet")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert load_pretrained(other, "unet", weights=file).fresh == ()
    assert all(torch.equal(v, state[f"module.{k}"]) for k, v in other.state_dict().items())


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path):
    network = build("unet")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(InputError, match="does not fit this network"):
        load_pretrained(network, "unet", weights=write(tmp_path / "r.pth", torchvision_state("resnet18")))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in {"vgg16", "vit-b-16"}])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_channels_of_a_file_are_read_from_it(name, channels, tmp_path):
    """Oracle: what the network was built with; a safetensors file lists its tensors in another order."""
    state = build(name, in_channels=channels).state_dict()
    file = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous().clone() for k, v in state.items()}, file)
    before = torch.random.get_rng_state()
    assert input_channels(name, file) == channels
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_channels_of_another_networks_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not of the network 'unet'"):
        input_channels("unet", write(tmp_path / "r.pth", torchvision_state("resnet18")))


# --- Files that are not what they should be


class Trap:
    """Unpickling it would create the file it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_with_code_in_it_is_refused_and_not_run(tmp_path):
    sign = tmp_path / "it-ran"
    for number, content in enumerate((pickle.dumps(Trap(sign)), _torch_bytes({"a": Trap(sign)}))):
        file = tmp_path / f"{number}.pth"
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a valid file of tensors"):
            load_pretrained(build("unet"), "unet", weights=file)
    assert not sign.exists()


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no tensors here", b"\x00" * 4096])
def test_rubbish_is_refused(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises((CheckpointError, InputError)):
        load_pretrained(build("unet"), "unet", weights=file)


def test_other_things_than_tensors_and_missing_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="other things than named tensors"):
        load_pretrained(build("unet"), "unet", weights=write(tmp_path / "a.pth", {"a": 1}))
    with pytest.raises(InputError, match="There is no weights file"):
        load_pretrained(build("unet"), "unet", weights=tmp_path / "nowhere.pth")


def _torch_bytes(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


# --- The download, from a server on this machine


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves ``files``; counts requests; torch's cache lies in tmp_path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found.requests += 1
            content = found.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) - found.missing])

        def log_message(self, *_):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.files, found.requests, found.missing = {}, 0, 0
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def publish(server, monkeypatch, content: bytes, digest: str | None = None) -> str:
    name = f"resnet18-{(digest or hashlib.sha256(content).hexdigest())[:8]}.pth"
    server.files[f"/{name}"] = content
    monkeypatch.setattr(module, "weights_url", lambda _: f"http://127.0.0.1:{server.server_port}/{name}")
    return name


def cache(tmp_path: Path) -> list[str]:
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_a_download_is_checked_and_kept(server, monkeypatch, tmp_path):
    """Oracle: sha256 in the name; the second time the server is not asked."""
    name = publish(server, monkeypatch, _torch_bytes(torchvision_state("resnet18")))
    report = load_pretrained(build("resnet18"), "resnet18")
    assert (report.source, cache(tmp_path)) == (name, [name])
    load_pretrained(build("resnet18"), "resnet18")
    assert server.requests == 1


def test_a_download_of_another_hash_or_cut_short_leaves_nothing(server, monkeypatch, tmp_path):
    content = _torch_bytes(torchvision_state("resnet18"))
    publish(server, monkeypatch, content, digest="0123456789abcdef")
    with pytest.raises(EnvironmentFault, match="another sha256"):
        load_pretrained(build("resnet18"), "resnet18")
    publish(server, monkeypatch, content)
    server.missing = 1000
    with pytest.raises(EnvironmentFault, match="could not be downloaded"):
        load_pretrained(build("resnet18"), "resnet18")
    assert cache(tmp_path) == []


def test_without_network_the_file_to_bring_is_named(server, monkeypatch, tmp_path):
    """Oracle: exit code 3; the advice holds the whole address and --weights."""
    monkeypatch.setattr(module, "weights_url", lambda _: "http://127.0.0.1:9/resnet18-f37072fd.pth")
    with pytest.raises(EnvironmentFault, match="refused") as caught:
        load_pretrained(build("resnet18"), "resnet18")
    assert caught.value.exit_code == 3
    assert "http://127.0.0.1:9/resnet18-f37072fd.pth" in caught.value.advice
    assert "--weights resnet18-f37072fd.pth" in caught.value.advice
    publish(server, monkeypatch, b"")
    server.files.clear()
    with pytest.raises(EnvironmentFault, match="Not Found"):
        load_pretrained(build("resnet18"), "resnet18")


def test_a_damaged_file_in_the_cache_is_not_used(server, monkeypatch, tmp_path):
    name = publish(server, monkeypatch, _torch_bytes(torchvision_state("resnet18")))
    load_pretrained(build("resnet18"), "resnet18")
    file = tmp_path / "torch" / "hub" / "checkpoints" / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EnvironmentFault, match="is damaged") as caught:
        load_pretrained(build("resnet18"), "resnet18")
    assert "Delete it" in caught.value.advice


@pytest.mark.parametrize("name", [n for n, spec in NETWORKS.items() if spec.weights])
def test_addresses_are_https_and_carry_a_hash(name):
    """Oracle: torchvision's table of weights."""
    url = module.weights_url(name)
    assert url.startswith("https://download.pytorch.org/models/")
    assert module.HASH.search(url)


def test_a_network_without_imagenet_weights_names_those_with():
    with pytest.raises(InputError, match="no pretrained weights for 'unet'") as caught:
        load_pretrained(build("unet"), "unet")
    assert "unet-resnet34" in caught.value.advice

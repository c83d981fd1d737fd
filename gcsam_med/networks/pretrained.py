"""Weights that a network starts from: torchvision's by download, or a file."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcsam_med.errors import CheckpointError, EnvironmentFault, InputError
from gcsam_med.reading import open_plain, read_plain

if TYPE_CHECKING:
    import torch
    from torch import nn

State = dict[str, "torch.Tensor"]

MOST_BYTES = 16 * 2**30
HASH = re.compile(r"-([0-9a-f]{8,})\.")
"""torchvision's file names end in the first digits of the file's sha256."""
_SAME_MODEL = "Give the weights of the same --model."


@dataclass(frozen=True)
class PretrainedReport:
    """What was loaded."""

    source: str  #: File name of the weights.
    loaded: int  #: Number of tensors taken over.
    #: Tensors of the network that keep their random start (the last layer, a decoder).
    fresh: tuple[str, ...]
    unused: tuple[str, ...]  #: Tensors of the file that have no place in the network.
    notes: tuple[str, ...]  #: What was adapted, one sentence each.


def load_pretrained(network: nn.Module, name: str, *, weights: Path | None = None) -> PretrainedReport:
    """Load pretrained weights into a network from `build_network`, in place, and return what was loaded.

    A first kernel for three channels is summed over them for a network of one: its response to a grey image
    is then exactly that of the three-channel network to the image repeated three times. Position embeddings
    of a vision transformer are interpolated to its size. A last layer for other classes keeps its random
    start.

    Parameters
    ----------
    network : nn.Module
        Built by its `name` in `NETWORKS`.
    weights : Path, optional
        A safetensors or tensor-only torch file: torchvision's, or a run's ``model/weights.safetensors``.
        Default: torchvision's ImageNet weights, taken from torch's cache or downloaded into it.

    Raises
    ------
    InputError
        If there are no pretrained weights for this network, or the file does not fit it.
    EnvironmentFault
        If the download fails; the message says which file to bring.
    """
    path = _from_cache(weights_url(name)) if weights is None else Path(weights)
    return _fit(network, _read(path), path.name)


def input_channels(name: str, weights: Path) -> int:
    """Number of channels that a weights file was made for: those of its first convolution.

    Raises
    ------
    InputError
        If the file cannot be read or is not of the network `name`.
    """
    import torch
    from torch import nn

    from gcsam_med.networks.table import NETWORKS, build_network

    state = _read(Path(weights))
    with torch.random.fork_rng(devices=[]):
        network = build_network(name, task=NETWORKS[name].task, in_channels=3, outputs=1, size=224)
    first = next(n for n, module in network.named_modules() if isinstance(module, nn.Conv2d)) + ".weight"
    kernel = state.get(first, state.get(first.removeprefix("encoder.")))
    if kernel is None or kernel.dim() != 4:
        raise InputError(f"{Path(weights).name} is not of the network '{name}'.", _SAME_MODEL)
    return int(kernel.shape[1])


def weights_url(name: str) -> str:
    """Address of torchvision's ImageNet weights for a network.

    Raises
    ------
    InputError
        If torchvision has none; the networks for which it has are named.
    """
    from torchvision.models import get_weight

    from gcsam_med.networks.table import NETWORKS

    key = NETWORKS[name].weights
    if key is None:
        able = ", ".join(other for other, spec in NETWORKS.items() if spec.weights)
        raise InputError(
            f"There are no pretrained weights for '{name}'.",
            f"Train it from scratch, give a file with --weights, or choose one of: {able}.",
        )
    return str(get_weight(key).url)


def _from_cache(url: str) -> Path:
    import torch

    target = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not target.is_file():
        _download(url, target)
    elif not _is_whole(target, target.name):
        raise EnvironmentFault(
            f"{target} is damaged: its sha256 is not the one in its name.", "Delete it and run again."
        )
    return target


def _download(url: str, target: Path) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    try:
        # The name holds the first digits of the hash only, so pooch cannot check it.
        pooch.retrieve(url, None, target.name, target.parent, downloader=pooch.HTTPDownloader(timeout=20))
        if not _is_whole(target, target.name):
            target.unlink()
            raise OSError("the downloaded file has another sha256 than the one in its name")
    except (OSError, requests.exceptions.RequestException) as error:
        raise EnvironmentFault(
            f"The pretrained weights could not be downloaded: {error}.",
            f"Fetch {url} on a machine with network, bring the file here, and give --weights {target.name}",
        ) from error


def _is_whole(path: Path, name: str) -> bool:
    """Whether the sha256 begins with the digits in which torchvision's file names end."""
    expected = HASH.search(name)
    with open_plain(path) as file:
        return expected is None or hashlib.file_digest(file, "sha256").hexdigest().startswith(expected[1])


def _read(path: Path) -> State:
    import torch
    from safetensors.torch import load

    if not path.is_file():
        raise InputError(f"There is no weights file {path}.", "Check --weights.")
    try:
        if path.suffix == ".safetensors":
            content: Any = load(read_plain(path, MOST_BYTES))
        else:
            with warnings.catch_warnings():
                # torch warns of pickle protocols that it then reads, or refuses with an error.
                warnings.simplefilter("ignore", UserWarning)
                content = torch.load(
                    io.BytesIO(read_plain(path, MOST_BYTES)), map_location="cpu", weights_only=True
                )
    except (MemoryError, EnvironmentFault):
        raise
    except Exception as error:
        # Of whatever kind: what a hostile or broken file makes the readers raise cannot be listed.
        raise CheckpointError(
            f"{path} is not a valid file of tensors ({type(error).__name__}).",
            "Give safetensors, or a torch file that holds tensors only (weights_only).",
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise CheckpointError(f"{path} holds other things than named tensors.", "Give a state_dict.")
    # DistributedDataParallel puts "module." before every name.
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _fit(network: nn.Module, state: State, source: str) -> PretrainedReport:
    own: State = network.state_dict()
    # A plain ResNet's weights go into the encoder of a U-Net on it.
    prefix = "encoder." if "encoder.conv1.weight" in own and "conv1.weight" in state else ""
    notes: list[str] = []
    taken: State = {}
    unused = []
    for key, value in state.items():
        # torchvision's DenseNet weights are from before its submodules were renamed: norm.1 is now norm1.
        place = prefix + re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key)
        if place not in own:
            unused.append(key)
        elif (fitted := _fit_tensor(place, value, own[place], notes)) is not None:
            taken[place] = fitted
    fresh = tuple(key for key in own if key not in taken)
    if sum(own[key].numel() for key in fresh) > 0.5 * sum(value.numel() for value in own.values()):
        raise InputError(
            f"{source} does not fit this network: only {len(taken)} of its {len(own)} tensors are in it.",
            _SAME_MODEL,
        )
    network.load_state_dict(taken, strict=False)
    return PretrainedReport(source, len(taken), fresh, tuple(unused), tuple(notes))


def _fit_tensor(
    place: str, value: torch.Tensor, target: torch.Tensor, notes: list[str]
) -> torch.Tensor | None:
    """Give `value` in the shape of `target`, or None where that would be another thing."""
    if value.shape == target.shape:
        return value
    channels = {value.shape[1], target.shape[1]} if value.dim() == target.dim() == 4 else set()
    if channels == {1, 3}:
        from gcsam_med.networks.table import fit_channels

        notes.append(f"The first kernel was rewritten from {value.shape[1]} to {target.shape[1]} channels.")
        return fit_channels(value, target.shape[1])
    if place == "encoder.pos_embedding" and value.dim() == target.dim() == 3:
        from torchvision.models.vision_transformer import interpolate_embeddings

        side, former = (round((shape[1] - 1) ** 0.5) for shape in (target.shape, value.shape))
        notes.append(f"Position embeddings were interpolated from {former} x {former} to {side} x {side}.")
        return interpolate_embeddings(side, 1, {place: value})[place]
    return None

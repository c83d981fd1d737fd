"""Weights that a network starts from: torchvision's by download, or a file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcsam_med.errors import EnvironmentFault, InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

State = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class PretrainedReport:
    """What was loaded.

    Parameters
    ----------
    source : str
        File name of the weights.
    loaded : int
        Parameters and statistics taken over, as a number of tensors.
    fresh : tuple of str
        Tensors of the network that keep their random start (the last layer, a decoder).
    unused : tuple of str
        Tensors of the file that have no place in the network.
    notes : tuple of str
        What was adapted, one sentence each.
    """

    source: str
    loaded: int
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]


def load_pretrained(network: nn.Module, name: str, *, weights: Path | None = None) -> PretrainedReport:
    """Load pretrained weights into a network, in place.

    A kernel of three input channels is summed over them for a network of one: the response to a grey image is
    then exactly that of the three-channel network to the image repeated three times. Position embeddings of a
    vision transformer are interpolated to its size. A last layer for other classes keeps its random start.

    Parameters
    ----------
    network : nn.Module
        From `build_network`.
    name : str
        Its key in `NETWORKS`.
    weights : Path, optional
        A safetensors or tensor-only torch file: torchvision's, or a run's ``model/weights.safetensors``. Left
        open: torchvision's ImageNet weights are taken from the local cache or downloaded.

    Returns
    -------
    PretrainedReport
        What was loaded and what was not.

    Raises
    ------
    InputError
        If there are no pretrained weights for this network, or the file does not fit it.
    EnvironmentFault
        If the download fails; the message says which file to bring.
    """
    path = _torchvision_file(name) if weights is None else Path(weights)
    return _fit(network, _read(path), path.name)


def input_channels(weights: Path) -> int:
    """Number of channels that the network of a weights file takes: those of its first convolution.

    Raises
    ------
    InputError
        If the file cannot be read or holds no convolution.
    """
    for value in _read(weights).values():
        if value.dim() == 4:
            return int(value.shape[1])
    raise InputError(f"{weights.name} holds no convolution.", "Give the weights of the same --model.")


def _torchvision_file(name: str) -> Path:
    import torch
    from torchvision.models import get_weight

    from gcsam_med.networks.table import NETWORKS

    key = NETWORKS[name].weights
    if key is None:
        able = ", ".join(other for other, spec in NETWORKS.items() if spec.weights)
        raise InputError(
            f"There are no pretrained weights for '{name}'.",
            f"Train it from scratch, give a file with --weights, or choose one of: {able}.",
        )
    url = get_weight(key).url
    target = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not target.is_file():
        _download(url, target)
    _check_hash(target)
    return target


def _download(url: str, target: Path) -> None:
    import pooch

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    try:
        pooch.HTTPDownloader(progressbar=False, timeout=20)(url, str(temporary), None)
        temporary.replace(target)
    except OSError as error:
        raise EnvironmentFault(
            f"The pretrained weights could not be downloaded from {url} ({type(error).__name__}).",
            f"Download that file on a machine with network, bring it here, and give --weights {target.name}",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _check_hash(path: Path) -> None:
    # torchvision's file names end in the first digits of their sha256.
    expected = re.search(r"-([0-9a-f]{8,})\.", path.name)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if expected and not found.startswith(expected[1]):
        path.unlink()
        raise EnvironmentFault(
            f"{path.name} is damaged: its sha256 starts with {found[:8]}, expected {expected[1]}.",
            "It was removed; run the command again to download it anew.",
        )


def _read(path: Path) -> State:
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"There is no weights file {path}.")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise InputError(
            f"{path} is not a sound file of tensors.",
            "Give safetensors, or a torch file that holds tensors only (weights_only).",
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no named tensors.", "Give a state_dict.")
    state = {str(key).removeprefix("module."): value for key, value in content.items()}
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path} holds other things than tensors.", "Give a state_dict.")
    return state


def _fit(network: nn.Module, state: State, source: str) -> PretrainedReport:
    own: State = network.state_dict()
    notes: list[str] = []
    prefix = "encoder." if "encoder.conv1.weight" in own and "conv1.weight" in state else ""
    taken: State = {}
    unused = []
    for key, value in state.items():
        place = prefix + key
        if place not in own:
            unused.append(key)
            continue
        fitted = _fit_tensor(place, value, own[place], notes)
        if fitted is not None:
            taken[place] = fitted
    fresh = tuple(key for key in own if key not in taken)
    if sum(own[key].numel() for key in fresh) > 0.5 * sum(value.numel() for value in own.values()):
        raise InputError(
            f"{source} does not fit this network: {len(taken)} of its {len(own)} tensors have a counterpart.",
            "Give the weights of the same --model.",
        )
    network.load_state_dict(taken, strict=False)
    return PretrainedReport(source, len(taken), fresh, tuple(unused), tuple(notes))


def _fit_tensor(
    place: str, value: torch.Tensor, target: torch.Tensor, notes: list[str]
) -> torch.Tensor | None:
    if value.shape == target.shape:
        return value
    if value.dim() == 4 and target.dim() == 4 and value.shape[1] == 3 and target.shape[1] == 1:
        notes.append("The first kernel was summed over its three colour channels.")
        return value.sum(dim=1, keepdim=True)
    return None

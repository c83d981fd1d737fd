"""A trained model on disk: weights as safetensors, everything else as JSON. Reading it runs no code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gcsam_med import __version__
from gcsam_med.errors import CheckpointError, InputError
from gcsam_med.files import json_bytes, write_durably
from gcsam_med.progress import Track, silent
from gcsam_med.reading import faults, read_json, read_plain
from gcsam_med.transforms.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    import torch

MOST_CARD_BYTES, MOST_WEIGHTS_BYTES = 2**20, 8 * 2**30
"""The largest network here has half a GiB of weights."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
BATCH = 16  # Cases a forward pass, where nothing else is said.
WEIGHTS, CARD = "weights.safetensors", "model.json"
INCOMING = "weights.incoming.safetensors"
"""Where new weights lie until the card that names them is written."""


class ModelCard(BaseModel):
    """What is needed to build the network and to feed it (``model/model.json``)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())

    schema_version: Literal[1] = Field(
        default=1, alias="schema", description="Version of this file's layout."
    )
    task: Literal["segmentation", "classification"] = Field(description="What it does.")
    model: str = Field(description="Name in the table of networks.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout rate it was built with.")
    classes: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        min_length=1,
        max_length=1000,
        description="Names of the outputs; for segmentation the one foreground class.",
    )
    modality: Literal["ultrasound", "xray", "photo"] = Field(description="Kind of images it was trained on.")
    in_channels: Literal[1, 3] = Field(
        description="1 for grey, 3 for colour or grey repeated (pretrained networks)."
    )
    size: int = Field(ge=16, le=4096, description="Side of the square the network sees, in pixels.")
    mean: list[Finite] = Field(description="Mean of intensities in 0..1, one a channel, that is subtracted.")
    std: list[Annotated[Finite, Field(gt=0)]] = Field(
        description="Standard deviation, one a channel, that is divided by."
    )
    threshold: float = Field(
        default=0.5, ge=0, le=1, description="Probability from which a pixel is foreground."
    )
    weights_sha256: str = Field(default="", description="Hash of the weights file.")
    dataset: str = Field(description="Name of the data set it was trained on.")
    dataset_sha256: str = Field(description="content_sha256 of that data set.")
    synthetic: bool = Field(description="Whether it was trained on generated images.")
    optimizer: str = Field(description="Optimizer it was trained with.")
    settings_sha256: str = Field(description="Hash of the run's settings, see runs.folder.settings_sha256.")
    epoch: int = Field(description="Epoch (from 1) whose weights these are.")
    tool_version: str = Field(description="Version of gcsam-med that wrote it.")

    @property
    def preprocessing(self) -> Preprocessing:
        """What turns images into this network's input."""
        return Preprocessing(self.size, self.in_channels, tuple(self.mean), tuple(self.std))

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if not len(self.mean) == len(self.std) == self.in_channels:
            raise ValueError("mean and std should have one number for each channel")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes should be distinct")
        return self


@dataclass(frozen=True)
class TrainedModel:
    """A network in eval mode, with its card."""

    network: torch.nn.Module
    card: ModelCard
    device: torch.device

    def tensor(self, stored: np.ndarray) -> torch.Tensor:
        """Turn stored images into the network's input, on its device; see `Preprocessing`."""
        return self.card.preprocessing(stored).to(self.device)

    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        """Run the network on a batch (B, in_channels, size, size) from `tensor`.

        The result is float32: (B, 1, size, size), probability of foreground, for segmentation; (B, classes),
        rows that sum to 1, for classification.
        """
        import torch

        with torch.inference_mode():
            logits = self.network(batch).float()
            return logits.sigmoid() if self.card.task == "segmentation" else logits.softmax(dim=1)


def network_outputs(
    model: TrainedModel,
    images: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    *,
    batch_size: int | None = None,
    track: Track = silent,
    what: str = "Evaluating",
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each row of a data set with the network's probabilities, in the order of `rows`.

    Parameters
    ----------
    model : TrainedModel
        In eval mode.
    images : callable
        From rows to stored images, such as `PreparedDataset.images`.
    rows : ndarray of int, shape (n,)
        Which rows.
    batch_size : int, optional
        Cases per forward pass; changes only speed and memory.
    track : Track
        Shows progress under the name `what`, one step for each case.

    Yields
    ------
    row : int
        The row.
    probability : ndarray of float32
        Segmentation: (size, size), of foreground. Classification: (classes,).

    Raises
    ------
    InputError
        If the network gives NaN or infinity: it has diverged.
    """
    import numpy as np

    size = batch_size or BATCH

    def stream() -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            batch = model.probabilities(model.tensor(images(part))).cpu().numpy()
            if not np.isfinite(batch).all():
                raise InputError(
                    "The network's output is NaN or infinite: training has diverged, so no metric exists.",
                    "Train it again with a lower learning rate or in fp32.",
                )
            for row, probability in zip(part, batch, strict=True):
                yield int(row), probability[0] if model.card.task == "segmentation" else probability

    return track(stream(), what, total=len(rows))


def save_model(folder: Path, network: torch.nn.Module, card: ModelCard) -> ModelCard:
    """Write a model folder and return the card as written, with ``weights_sha256`` filled in.

    A reader finds the former model or the new one, also after a crash halfway.
    """
    from safetensors.torch import save

    # Shared tensors are not allowed in safetensors, and non-contiguous ones neither.
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    data = save(state)
    written = card.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    folder.mkdir(parents=True, exist_ok=True)
    # Two files cannot be replaced in one instant. Until the card is there, the former weights stay; from then
    # on, the reader takes the incoming ones, whether or not they have moved to their place yet.
    write_durably(folder / INCOMING, data)
    write_durably(folder / CARD, json_bytes(written.model_dump(mode="json", by_alias=True)))
    (folder / INCOMING).replace(folder / WEIGHTS)
    return written


def load_card(folder: Path) -> ModelCard:
    """Read ``model.json``.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    """
    path = folder / CARD
    return read_json(
        path, ModelCard, "Copy the whole model folder.", fault=CheckpointError, most=MOST_CARD_BYTES
    )


def load_model(folder: Path, device: torch.device | str = "cpu") -> TrainedModel:
    """Read a model folder that `save_model` wrote, in eval mode, on a device.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or the weights do not fit the network.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from gcsam_med.networks import build_network

    card, data = _read_pair(folder)
    path = folder / WEIGHTS
    try:
        state: dict[str, Any] = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a valid safetensors file: {error}.") from error
    outputs = 1 if card.task == "segmentation" else len(card.classes)
    try:
        network = build_network(
            card.model,
            task=card.task,
            in_channels=card.in_channels,
            outputs=outputs,
            size=card.size,
            dropout=card.dropout,
        )
    except InputError as error:
        raise CheckpointError(
            f"{folder / CARD}: {error.message}",
            f"It was written by gcsam-med {card.tool_version}; this is {__version__}.",
        ) from error
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the network '{card.model}'.", str(error)[:300]) from error
    target = torch.device(device)
    return TrainedModel(network.to(target).eval(), card, target)


def _read_weights(path: Path) -> bytes:
    with faults(path, "Copy it again.", CheckpointError):
        return read_plain(path, MOST_WEIGHTS_BYTES, follow=False)


def _read_pair(folder: Path) -> tuple[ModelCard, bytes]:
    """Read a card and the weights it names."""
    for _ in range(2):  # training may replace the model between the reading of the card and of the weights
        card = load_card(folder)
        found = ""
        for path in (folder / WEIGHTS, folder / INCOMING):
            if path.is_file():
                data = _read_weights(path)
                digest = hashlib.sha256(data).hexdigest()
                if digest == card.weights_sha256:
                    return card, data
                found = found or digest
    if not found:
        raise CheckpointError(f"{folder / WEIGHTS} is not there.", "Copy the whole model folder.")
    raise CheckpointError(
        f"{folder / WEIGHTS} is not the file that was saved: its sha256 is {found[:12]}..., expected "
        f"{card.weights_sha256[:12]}....",
        "It was damaged or exchanged; copy it again or train again.",
    )

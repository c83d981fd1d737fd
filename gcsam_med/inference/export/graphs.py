"""Writers of graphs and weights (ONNX, torch.export, safetensors), and the check of what was written."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gcsam_med.errors import GcsamMedError, MissingExtra
from gcsam_med.inference.export.exported_run import DESCRIPTION, ExportedRun, describe
from gcsam_med.runs import TrainedModel
from gcsam_med.runs.model import WEIGHTS

ONNX, PROGRAM = "model.onnx", "model.pt2"
OPSET = 20
TOLERANCE = 1e-4
"""Largest difference of a probability between the exported file and the model here."""


def write_onnx(run: ExportedRun, folder: Path) -> float:
    """Write ``model.onnx`` with its description inside, and run it in onnxruntime.

    Returns the largest difference of a probability from the model here.

    Raises
    ------
    MissingExtra
        If onnx, onnxruntime or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx imports it, with an error that names no remedy
    except ImportError as error:
        raise MissingExtra("Exporting to ONNX", "export") from error

    program = trace(run.model)
    with quiet_exporters(), redirect_stdout(io.StringIO()):
        made = torch.onnx.export(
            program,
            input_names=["image"],
            output_names=["probability"],
            dynamic_shapes={"image": {0: "batch"}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if made is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model = made.model_proto
    described = describe(run, standardized=True)
    model.doc_string = f"{described['model']}, {described['task']}; {described['use']}"
    flat = {key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}
    # Each field on its own for people who look into the file, and the whole for programs.
    onnx.helper.set_model_props(model, {**flat, "description": json.dumps(described)})
    for node in [*model.graph.node, *(n for f in model.functions for n in f.node)]:
        # They hold file names and code lines of the machine that exported.
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    (folder / ONNX).write_bytes(data)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    inputs = examples(run.model)
    found = [session.run(["probability"], {"image": image})[0] for image in inputs]
    return check("ONNX file", found, [expected(run.model, image) for image in inputs])


def write_program(run: ExportedRun, folder: Path) -> float:
    """Write ``model.pt2`` with its description inside, and read it back; see `write_onnx`."""
    path = folder / PROGRAM
    described = json.dumps(describe(run, standardized=True), indent=2)
    with quiet_exporters():
        torch.export.save(trace(run.model), path, extra_files={DESCRIPTION: described})
        # Written here a moment ago, so it is read as trusted.
        network = torch.export.load(path).module()
        inputs = examples(run.model)
        with torch.inference_mode():
            found = [network(torch.from_numpy(image)).numpy() for image in inputs]
    return check("program", found, [expected(run.model, image) for image in inputs])


def write_weights(run: ExportedRun, folder: Path) -> None:
    """Write ``weights.safetensors``, the bare network's weights by their names in its state_dict."""
    from safetensors.torch import save

    state = {name: value.contiguous() for name, value in run.model.network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(state))


class Portable(nn.Module):
    """A network that standardizes its input and gives probabilities: a graph with no Python class of ours."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.network = model.network
        self.segmentation = model.card.task == "segmentation"
        self.register_buffer("mean", torch.tensor(model.card.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(model.card.std).view(1, -1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (B, C, size, size) in 0..1 to probabilities (B, 1, size, size) or (B, classes)."""
        logits = self.network((image - self.mean) / self.std)
        return logits.sigmoid() if self.segmentation else logits.softmax(dim=1)


def trace(model: TrainedModel) -> torch.export.ExportedProgram:
    """Trace a model (on the CPU, in eval mode) for batches of any size; its one input is ``image``."""
    card = model.card
    example = torch.zeros(2, card.in_channels, card.size, card.size)
    with quiet_exporters(), torch.no_grad():
        batch = torch.export.Dim("batch", min=1)
        return torch.export.export(
            Portable(model).eval(), (example,), dynamic_shapes={"image": {0: batch}}, strict=False
        )


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Hide the exporters' warnings of their own deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def examples(model: TrainedModel) -> list[np.ndarray]:
    """Make inputs to compare on: batches of 1 and 3; noise, an edge and a ramp, float32 in 0..1.

    No image of a single grey: its variance is 0, so an instance norm divides rounding by the root of 1e-5,
    and ONNX then differs by up to 2e-4 (swin-unetr), for an input that shows nothing.
    """
    card = model.card
    rng = np.random.default_rng(0)
    shape = (card.in_channels, card.size, card.size)
    noise = rng.random((2, *shape), dtype=np.float32)
    step = np.zeros((1, *shape), dtype=np.float32)
    step[..., card.size // 3 :, : card.size // 2] = 1
    ramp = np.broadcast_to(np.linspace(0.3, 0.5, card.size, dtype=np.float32), (1, *shape))
    return [noise[:1], np.concatenate([noise[1:], step, ramp])]


def expected(model: TrainedModel, image: np.ndarray) -> np.ndarray:
    """The model's probabilities for an input of `examples`."""
    with torch.inference_mode():
        answer: np.ndarray = Portable(model).eval()(torch.from_numpy(image)).numpy()
    return answer


def check(name: str, found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """Compare the exported file's probabilities with the model's and return the largest difference.

    Raises
    ------
    GcsamMedError
        If it is above ``TOLERANCE``, or a shape differs.
    """
    for mine, theirs in zip(found, wanted, strict=True):
        if mine.shape != theirs.shape:
            raise GcsamMedError(
                f"The exported {name} gives {mine.shape} where the model gives {theirs.shape}."
            )
    worst = max(float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True))
    if not worst <= TOLERANCE:
        raise GcsamMedError(
            f"The exported {name} differs from the model by {worst:.1e}; at most {TOLERANCE:.0e} passes.",
            "Nothing was written. Try another --format, and report it.",
        )
    return worst

"""Writers of graphs and weights: ONNX, torch.export, safetensors."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import torch

from gcsam_med.errors import MissingExtra
from gcsam_med.inference.export.description import DESCRIPTION, describe
from gcsam_med.inference.export.exported_run import Subject
from gcsam_med.inference.export.portable import check, examples, expected, quietly, trace
from gcsam_med.runs.model import WEIGHTS

ONNX, PROGRAM = "model.onnx", "model.pt2"
OPSET = 20


def write_onnx(subject: Subject, folder: Path) -> float:
    """Write ``model.onnx`` with its description inside, and run it in onnxruntime.

    Parameters
    ----------
    subject : Subject
        The run.
    folder : Path
        Where to.

    Returns
    -------
    float
        Largest difference of a probability from the model here.

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

    program = trace(subject.model)
    with quietly(), contextlib.redirect_stdout(io.StringIO()):
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
    told = describe(subject, standardized=True)
    model.doc_string = f"{told['model']}, {told['task']}; {told['use']}"
    flat = {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
    # Each field on its own for people who look into the file, and the whole for programs.
    onnx.helper.set_model_props(model, {**flat, "description": json.dumps(told)})
    for node in [*model.graph.node, *(n for f in model.functions for n in f.node)]:
        # They hold file names and code lines of the machine that exported.
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    (folder / ONNX).write_bytes(data)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    inputs = examples(subject.model)
    found = [session.run(["probability"], {"image": image})[0] for image in inputs]
    return check("ONNX file", found, [expected(subject.model, image) for image in inputs])


def write_program(subject: Subject, folder: Path) -> float:
    """Write ``model.pt2`` with its description inside, and read it back; see `write_onnx`."""
    path = folder / PROGRAM
    told = json.dumps(describe(subject, standardized=True), indent=2)
    with quietly():
        torch.export.save(trace(subject.model), path, extra_files={DESCRIPTION: told})
        # Written here a moment ago, so it is read as trusted.
        network = torch.export.load(path).module()
        inputs = examples(subject.model)
        with torch.inference_mode():
            found = [network(torch.from_numpy(image)).numpy() for image in inputs]
    return check("program", found, [expected(subject.model, image) for image in inputs])


def write_weights(subject: Subject, folder: Path) -> None:
    """Write ``weights.safetensors``, the bare network's weights by their names in its state_dict."""
    from safetensors.torch import save

    state = {name: value.contiguous() for name, value in subject.model.network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(state))

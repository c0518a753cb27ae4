"""The files that a model is exported to: ONNX, torch.export and safetensors, checked as written."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import safetensors.torch as safetensors
import torch
from torch import Tensor

from dpvae_cli.exporter.graphs import GRAPHS, Graph
from dpvae_cli.exporter.onnx_format import (
    ExportError,
    export_errors,
    exported_program,
    onnx_bytes,
    quiet,
)
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import write_atomically
from dpvae_cli.model import VAE
from dpvae_cli.version import __version__

ROWS = 100
"""Inputs that a file is compared with the model on."""
TOLERANCE = 1e-3
"""The largest difference of a file that is written, as `largest_difference` counts it."""
WEIGHTS = {
    "decoder": ("decoder.", "likelihood."),
    "sampler": ("prior.", "decoder.", "likelihood."),
    "model": ("prior.", "decoder.", "likelihood."),
    "encoder": ("encoder.",),
}
"""What the names of the weights that a graph uses begin with."""


@final
@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Args:
        path: the file.
        what: the graph, or for all weights `weights`.
        difference: the largest from the model, as `largest_difference` counts it.
    """

    path: Path
    what: str
    difference: float


def write_graph(model: VAE, path: Path, *, what: str) -> ExportedFile:
    """Write one graph of a model to an .onnx or .pt2 after a comparison with the model.

    Args:
        model: the trained model.
        path: the file; its suffix is the format.
        what: `decoder`, `sampler`, `model` or `encoder`.

    Raises:
        ExportError: it cannot be exported, or the file computes something else; says why.
        UsageError: the prior has no z0, or the file cannot be written.
    """
    to_bytes, run = {".onnx": (_to_onnx, _run_onnx), ".pt2": (_to_pt2, _run_pt2)}[path.suffix]
    graph = GRAPHS[what](model)
    content = to_bytes(graph)
    x = graph.example_input(ROWS)
    with torch.no_grad():
        expected = _as_tuple(graph(x))
    with export_errors(graph):
        found = run(content, graph, x)
    difference = max(map(largest_difference, found, expected))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{path} would differ from the model by {difference:.2g}, more than {TOLERANCE:g}",
            hint="Nothing was written. .safetensors holds the weights of any model.",
        )
    write_atomically(path, lambda file: file.write(content))
    return ExportedFile(path, what, difference)


def write_weights(
    model: VAE, path: Path, *, what: str | None, facts: Mapping[str, str]
) -> ExportedFile:
    """Write weights by their names in the model to a .safetensors, read again before it is written.

    Args:
        model: the trained model.
        path: the file.
        what: the graph whose weights are written; None writes all.
        facts: what its metadata says, such as the recipe.

    Raises:
        UsageError: the file cannot be written.
    """
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if what is None or name.startswith(WEIGHTS[what])
    }
    shape = json.dumps(list(model.example_shape))
    facts = {"format": "pt", "dpvae": __version__, "example_shape": shape, **facts}
    content = safetensors.save(weights, metadata=facts)
    read = safetensors.load(content)
    difference = max((largest_difference(read[name], weights[name]) for name in weights), default=0)
    write_atomically(path, lambda file: file.write(content))
    return ExportedFile(path, what or "weights", difference)


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Return max |found - expected|, relative to max |expected| where that is above 1.

    Raises:
        ExportError: the shapes are not the same.
    """
    if found.shape != expected.shape:
        raise ExportError(f"the file returns {tuple(found.shape)}, not {tuple(expected.shape)}")
    if not expected.numel():
        return 0.0
    found, expected = found.double(), expected.double()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))


def _to_onnx(graph: Graph) -> bytes:
    return onnx_bytes(
        graph,
        (graph.example_input(2),),
        input_names=(graph.input_name,),
        output_names=graph.output_names,
    )


def _run_onnx(content: bytes, graph: Graph, x: Tensor) -> tuple[Tensor, ...]:
    """Run an ONNX graph by ONNX Runtime, or where that is missing by onnx's own interpreter."""
    names, inputs = list(graph.output_names), {graph.input_name: x.numpy()}
    run: Callable[..., Any]
    if find_spec("onnxruntime") is not None:
        import onnxruntime  # noqa: PLC0415 - of an extra

        run = onnxruntime.InferenceSession(content).run
    else:
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - of an extra

        run = ReferenceEvaluator(content).run
    return tuple(torch.from_numpy(np.asarray(each)) for each in run(names, inputs))


def _to_pt2(graph: Graph) -> bytes:
    program = exported_program(graph, (graph.example_input(2),))
    buffer = io.BytesIO()
    with quiet(), export_errors(graph):
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _run_pt2(content: bytes, _: Graph, x: Tensor) -> tuple[Tensor, ...]:
    with quiet(), torch.no_grad():
        return _as_tuple(torch.export.load(io.BytesIO(content)).module()(x))


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def check_suffix(path: Path) -> None:
    """Check that the name of a file says its format.

    Raises:
        UsageError: the suffix is of none of them.
    """
    if path.suffix not in (".onnx", ".pt2", ".safetensors"):
        raise UsageError(
            f"--to {path}: a model is exported as .onnx, .pt2 or .safetensors, not {path.suffix}",
            hint="Leave the suffix out to name a folder.",
        )

"""ONNX: a graph with its weights inside that any runtime can run."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.mathematics.gaussian import LOG_2PI

if TYPE_CHECKING:
    from onnx_ir import Model

MODULES = ("onnx", "onnxscript")
"""What torch.onnx needs."""
INSTALL_HINT = "Install it: pip install 'dpvae-cli[export]'. .pt2 and .safetensors need no extra."


class ExportError(UsageError):
    """A module or a prior cannot be exported, or an extra is missing (exit code 2)."""


def onnx_bytes(
    module: nn.Module,
    example_inputs: tuple[Tensor, ...],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> bytes:
    """Return a module as the content of an .onnx file; the batch may have any size.

    Args:
        module: takes tensors and returns a tensor or a tuple of them, a row an example.
        example_inputs: what to trace it with; at least two rows each.
        input_names: of the graph's inputs.
        output_names: of its outputs.

    Raises:
        ExportError: an extra is missing, or torch cannot export the module; says why.
    """
    model = _onnx_model(module, example_inputs, input_names, output_names)
    return _serialize(model)


def onnx_parts(
    module: nn.Module,
    example_inputs: tuple[Tensor, ...],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    parts: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> dict[str, bytes]:
    """Return parts of a module as contents of .onnx files; one conversion serves them all.

    Args:
        module: as of `onnx_bytes`.
        example_inputs: of different numbers of rows.
        input_names: as of `onnx_bytes`.
        output_names: as of `onnx_bytes`.
        parts: the inputs and outputs of each part.

    Raises:
        ExportError: as of `onnx_bytes`.
    """
    model = _onnx_model(module, example_inputs, input_names, output_names)
    from onnx_ir.passes.common import RemoveUnusedNodesPass  # noqa: PLC0415 - of an extra

    contents = {}
    for name, (taken, given) in parts.items():
        part = model.clone()
        part.graph.inputs[:] = [each for each in part.graph.inputs if each.name in taken]
        part.graph.outputs[:] = [each for each in part.graph.outputs if each.name in given]
        RemoveUnusedNodesPass()(part)
        part = part.clone()  # in which no loop that was removed counts as a user of its weights
        RemoveUnusedNodesPass()(part)
        contents[name] = _serialize(part)
    return contents


def _serialize(model: "Model") -> bytes:
    from onnx_ir.serde import serialize_model  # noqa: PLC0415 - of an extra

    content: bytes = serialize_model(model).SerializeToString()
    return content


def _onnx_model(
    module: nn.Module,
    example_inputs: tuple[Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> "Model":
    missing = [name for name in MODULES if find_spec(name) is None]
    if missing:
        raise ExportError(f".onnx needs {' and '.join(missing)}", hint=INSTALL_HINT)
    program = exported_program(module, example_inputs)
    log_gamma = torch.ops.aten.lgamma.default
    with quiet(), export_errors(module):
        if any(node.target is log_gamma for node in program.graph.nodes):  # it takes seconds
            program = program.run_decompositions({log_gamma: _log_gamma})
        converted = torch.onnx.export(
            program,
            dynamo=True,
            input_names=input_names,
            output_names=output_names,
            verbose=False,
        )
    assert converted is not None  # as no file is named
    from onnx_ir.passes import common  # noqa: PLC0415 - of an extra

    model = converted.model
    common.ClearMetadataAndDocStringPass()(model)  # names and source files of this machine
    for value in chain(model.graph.inputs, *(node.outputs for node in model.graph.all_nodes())):
        value.metadata_props.clear()
    for weight in model.graph.initializers.values():
        weight.metadata_props.clear()
    common.DeduplicateInitializersPass(size_limit=2**20)(model)
    return model


def exported_program(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Return the graph of a module in torch's own form; the batch of each input may have any size.

    Raises:
        ExportError: torch cannot trace it; says why.
    """
    names = ("batch", *(f"batch_{i}" for i in range(2, len(example_inputs) + 1)))
    shapes = tuple({0: Dim(name, min=1)} for name in names)
    # with gradients, bijections and mixtures take a way that does not depend on their input
    with quiet(), export_errors(module), torch.enable_grad():
        program = torch.export.export(module, example_inputs, dynamic_shapes=shapes)
    graphs = [each for each in program.graph_module.modules() if isinstance(each, GraphModule)]
    for node in chain.from_iterable(each.graph.nodes for each in graphs):
        node.meta.pop("stack_trace", None)  # source files of this machine
    return program


@contextmanager
def export_errors(module: nn.Module) -> Iterator[None]:
    """Turn what torch raises inside the block into one sentence.

    Raises:
        ExportError: with the reason.
    """
    try:
        yield
    except Exception as error:
        reason = _reason(error)
        raise ExportError(f"torch cannot export {type(module).__name__}: {reason}") from error


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch, onnx and onnxscript print, log and warn inside the block."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _log_gamma(x: Tensor) -> Tensor:
    """Return log Gamma(x) for positive x; ONNX has no operation of it.

    Stirling's series at y = x + 8, and Gamma(y) = x (x + 1) ... (x + 7) Gamma(x).
    """
    shift = 8
    y = x.double() + shift
    series = 1 / (12 * y) - 1 / (360 * y**3) + 1 / (1260 * y**5) - 1 / (1680 * y**7)
    log_gamma = (y - 0.5) * torch.log(y) - y + 0.5 * LOG_2PI + series
    for step in range(1, shift + 1):
        log_gamma = log_gamma - torch.log(y - step)
    return log_gamma.to(x.dtype)

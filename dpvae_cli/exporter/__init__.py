"""Export parts of a trained model to files that run without dpvae."""

from dpvae_cli.exporter.graphs import (
    GRAPHS,
    DecoderGraph,
    EncoderGraph,
    Graph,
    ModelGraph,
    SamplerGraph,
)
from dpvae_cli.exporter.onnx_format import ExportError, onnx_bytes, onnx_parts

__all__ = [
    "GRAPHS",
    "DecoderGraph",
    "EncoderGraph",
    "ExportError",
    "Graph",
    "ModelGraph",
    "SamplerGraph",
    "onnx_bytes",
    "onnx_parts",
]

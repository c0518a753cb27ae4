"""The three graphs that a page runs: the prior with g, the inverse of g, and the decoder."""

from typing import final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.explorer.packing import pack_bytes
from dpvae_cli.exporter import Graph, onnx_parts
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.model import VAE

PARTS = {
    "decoder": (("z",), ("x",)),
    "prior": (("z",), ("log_p", "to_z0")),
    "inverse": (("z0",), ("to_z",)),
}
"""Inputs and outputs of the graphs; without z0 there is no inverse and no to_z0."""
MAX_HALF = 65_504
"""The largest float16."""


@final
class PageGraph(Graph):
    """z -> x and log p(z) in nats, and where there is a z0, to_z0 = g(z) and z0 -> to_z.

    One graph, of which `PARTS` are cut: its conversion takes seconds.
    """

    what = "page"
    input_name = "z"

    @property
    def has_generation(self) -> bool:
        """Whether there is a z0."""
        return self.model.prior.generation is not None

    @property
    def input_names(self) -> tuple[str, ...]:
        """Return `z`, and `z0` where there is one."""
        return ("z", "z0")[: 1 + self.has_generation]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return `x` and `log_p`, and where there is a z0 `to_z0` and `to_z`."""
        return ("x", "log_p", "to_z0", "to_z")[: 2 + 2 * self.has_generation]

    def forward(
        self, z: Float[Tensor, "codes latent"], z0: Float[Tensor, "others latent"] | None = None
    ) -> tuple[Tensor, ...]:
        """Return what `output_names` says; rows of z and of z0 need not be as many."""
        prior, x = self.model.prior, self._decode(z)
        if prior.generation is None or z0 is None:
            return x, prior.log_prob(z)
        to_z0, log_abs_det = prior.to_generation(z)
        log_p = prior.generation.log_prob(to_z0) + log_abs_det
        return x, log_p, to_z0.clone(), prior.points(z0).clone()


def pack_graphs(model: VAE) -> dict[str, str]:
    """Return the graphs of a model by their names, ready for a page.

    Raises:
        ExportError: they cannot be exported; says why.
    """
    graph = PageGraph(model)
    inputs = tuple(graph.example_input(3 + 2 * i) for i, _ in enumerate(graph.input_names))
    outputs = set(graph.output_names)
    parts = {
        name: (taken, tuple(each for each in given if each in outputs))
        for name, (taken, given) in PARTS.items()
        if outputs & {*given}
    }
    contents = onnx_parts(
        graph,
        inputs,
        input_names=graph.input_names,
        output_names=graph.output_names,
        parts=parts,
    )
    if is_image(model.example_shape):
        contents["decoder"] = halve_weights(contents["decoder"])
    return {name: pack_bytes(content) for name, content in contents.items()}


def halve_weights(content: bytes) -> bytes:
    """Return a graph with its float32 weights stored as float16, which it casts as it runs.

    Pixels differ by less than a grey level, and the weights of a decoder of images are most of a
    page. Weights that no float16 holds stay as they are.
    """
    import onnx  # noqa: PLC0415 - of an extra

    model = onnx.load_from_string(content)
    for weight in model.graph.initializer:
        values, name = onnx.numpy_helper.to_array(weight), weight.name
        half = f"{name}_half"
        if values.dtype == np.float32 and values.ndim > 1 and np.abs(values).max() < MAX_HALF:
            weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
            cast = onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT)
            model.graph.node.insert(0, cast)
    halved: bytes = model.SerializeToString()
    return halved

"""The three graphs that a page runs: the prior with g, the inverse of g, and the decoder."""

from typing import final

from dpvae_cli.explorer.packing import pack_bytes
from dpvae_cli.exporter import DecoderGraph, Graph, onnx_bytes
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.model import VAE


@final
class PriorGraph(Graph):
    """z -> log p(z) in nats, and z0 = g(z) where there is one."""

    what = "prior"
    input_name = "z"

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return `log_p`, and `z0` where there is one."""
        return ("log_p", "z0")[: 1 + (self.model.prior.generation is not None)]

    def forward(self, z: Codes) -> PerExample | tuple[PerExample, Codes]:
        """Return log p(z) and g(z)."""
        prior = self.model.prior
        if prior.generation is None:
            return prior.log_prob(z)
        z0, log_abs_det = prior.to_generation(z)
        return prior.generation.log_prob(z0) + log_abs_det, z0.clone()


@final
class InverseGraph(Graph):
    """z0 -> z = g^-1(z0)."""

    what = "inverse"
    input_name = "z0"
    output_names = ("z",)

    def forward(self, z0: Codes) -> Codes:
        """Return g^-1(z0)."""
        return self.model.prior.to_representation(z0)[0].clone()


def pack_graphs(model: VAE) -> dict[str, str]:
    """Return the graphs of a model by their names, ready for a page.

    Raises:
        ExportError: one of them cannot be exported; says why.
    """
    kinds: list[type[Graph]] = [DecoderGraph, PriorGraph]
    if model.prior.generation is not None:
        kinds.append(InverseGraph)
    packed = {}
    for kind in kinds:
        graph = kind(model)
        content = onnx_bytes(
            graph,
            (graph.example_input(4),),
            input_names=(graph.input_name,),
            output_names=graph.output_names,
        )
        packed[graph.what] = pack_bytes(content)
    return packed

"""ONNX graphs by onnxruntime against the model: each prior and architecture, any batch size."""

from itertools import product

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import dpvae_cli as dpvae
from dpvae_cli.architectures import Mlp
from dpvae_cli.exporter import GRAPHS, Graph, onnx_bytes
from dpvae_cli.exporter.onnx_format import exported_program
from dpvae_cli.likelihoods import Gaussian
from dpvae_cli.model import VAE
from tests.mathematics.random_models import randomised
from tests.priors.test_contract import SPECS, name_of

BATCHES = (1, 7, 1000)
TOLERANCE = 1e-4
ARCHITECTURES = {
    "beta_h_moons": (2,),
    "beta_h_mnist": (1, 28, 28),
    "beta_h_svhn": (3, 32, 32),
    "beta_h_celeba": (3, 64, 64),
}


def model_of(spec, *, dtype: torch.dtype = torch.float32) -> VAE:
    """Return a model of vectors of three entries with random weights."""
    encoder, decoder = Mlp(latent_dim=2, hidden=(8,)).build((3,))
    model = VAE(
        encoder=encoder,
        decoder=decoder,
        likelihood=Gaussian(),
        prior=spec,
        latent_dim=2,
        example_shape=(3,),
    )
    return randomised(model, gain=0.9, seed=3).to(dtype).eval()


def onnx_of(graph: Graph) -> bytes:
    return onnx_bytes(
        graph,
        (graph.example_input(2),),
        input_names=[graph.input_name],
        output_names=graph.output_names,
    )


def onnx_outputs(content: bytes, graph: Graph, x: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content)
    return session.run(list(graph.output_names), {graph.input_name: x.numpy()})


def expected_outputs(model: VAE, what: str, x: torch.Tensor) -> list[np.ndarray]:
    """Return what the model itself computes, by the calls that a user would write."""
    with torch.no_grad():
        if what == "encoder":
            posterior = model.encode(model.units.transform(x))
            found = [posterior.mean, posterior.log_variance]
        elif what == "sampler":
            z, _ = model.prior.to_representation(x)
            found = [z, model.units.inverse_transform(model.decode(z))]
        else:
            found = [model.units.inverse_transform(model.decode(x))]
        if what == "model":
            found.insert(0, model.prior.log_prob(x))
            if model.prior.generation is not None:
                found.insert(0, model.prior.to_generation(x)[0])
    return [tensor.numpy() for tensor in found]


def check_graph(model: VAE, what: str, *, tolerance: float = TOLERANCE) -> None:
    graph = GRAPHS[what](model)
    content = onnx_of(graph)
    x = graph.example_input(max(BATCHES), seed=1)
    for n in BATCHES:
        pairs = zip(
            onnx_outputs(content, graph, x[:n]), expected_outputs(model, what, x[:n]), strict=True
        )
        for found, expected in pairs:
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        pytest.param(spec, what, id=f"{name_of(spec)}-{what}")
        for spec, what in product(SPECS, ("sampler", "model"))
        if what == "model" or spec.has_generation
    ],
)
def test_the_graphs_of_each_prior_compute_what_the_model_does(spec, what):
    check_graph(model_of(spec), what)


@pytest.mark.parametrize("what", ["sampler", "model"])
def test_steps_of_an_integration_are_repeated_and_not_written_one_by_one(what):
    nodes = []
    for steps in (3, 30):
        graph = GRAPHS[what](model_of(dpvae.FlowMatching(hidden=8, blocks=1, steps=steps)))
        program = exported_program(graph, (graph.example_input(2),))
        nodes.append(len(program.graph.nodes))
        x = graph.example_input(5)
        expected = expected_outputs(graph.model, what, x)
        for found, each in zip(program.module()(x), expected, strict=True):
            np.testing.assert_allclose(found, each, atol=TOLERANCE)
    assert nodes[0] == nodes[1]


@pytest.mark.parametrize("what", list(GRAPHS))
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_graphs_of_each_architecture_compute_what_the_model_does(name, what):
    shape = ARCHITECTURES[name]
    model = dpvae.build(dpvae.load_recipe(name), example_shape=shape)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):  # statistics other than 0 and 1
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    check_graph(model.eval(), what)

"""The likelihood of an image from 21,000 importance samples, compared with decoding alone.

The decoder's throughput is that of `decoder(z)` on the same number of codes in the same batches,
drawn in advance: without sampling, densities, sums and the fit of the proposal.
"""

from collections.abc import Iterator

import torch

from benchmarks import stand_ins
from benchmarks.measure import Options, Ratio, Trial, over, timed
from dpvae_cli.evaluation.nll import negative_log_likelihoods
from dpvae_cli.foundation.devices import Precision
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.model import build
from dpvae_cli.recipe import load_recipe
from dpvae_cli.sampling.samples import batch_size_for

SAMPLES = 21_000
RATIOS = {
    "MNIST": (
        Ratio(
            "nll, 21,000 samples an MNIST picture: share of the decoder's throughput",
            over("decoder alone", "ours"),
            at_least=0.7,
        ),
    )
}


def trials(options: Options) -> Iterator[Trial]:
    """Yield a trial with one MNIST-shaped image and the decoupled prior."""
    device, samples = options.device, options.pick(SAMPLES, 100)
    data = stand_ins.mnist(1)
    model = build(load_recipe("vae_mnist"), example_shape=data.example_shape).eval()
    model = Precision("float32", device).place(model)
    x = data.train.examples().to(device)
    z = torch.randn(samples, model.latent_dim, device=device)
    batches = z.split(batch_size_for(model))

    def ours() -> None:
        generator = stream(0, "nll", device=device)
        negative_log_likelihoods(model, x, samples=samples, generators=[generator])

    @torch.no_grad()
    def decoder_alone() -> None:
        for codes in batches:
            model.decoder(codes)

    variants = {
        "ours": timed(ours, units=samples, device=device),
        "decoder alone": timed(decoder_alone, units=samples, device=device),
    }
    facts = {"samples": samples, "decoded at once": batch_size_for(model)}
    yield Trial("MNIST", variants, "s a sample", facts)

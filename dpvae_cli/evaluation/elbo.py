"""The ELBO of held-out examples, and what its KL is made of on the training data."""

from functools import partial
from typing import NamedTuple, final

import torch

from dpvae_cli.data import Split
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.kl_decomposition import decompose_kl
from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE
from dpvae_cli.sampling.encodings import encode, reconstruction
from dpvae_cli.sampling.samples import check_log_density

BLOCK = 1_000
"""Examples whose noise is drawn together."""


@final
class ElboParts(NamedTuple):
    """Each example's terms in nats, and its posterior."""

    reconstruction: PerExample
    kl: PerExample
    means: Codes
    variances: Codes


@torch.no_grad()
def elbo_parts(model: VAE, split: Split, *, seed: int, purpose: str) -> ElboParts:
    """Return the terms of the negative ELBO of a split, from one draw of q(z|x) an example.

    `purpose` names the stream of draws: the same seed and purpose give the same noise.
    """
    parts = []
    for start in range(0, len(split), BLOCK):
        x = split.examples(slice(start, start + BLOCK))
        posterior = encode(model, Split(x), size=BLOCK)
        x = x.to(model.device, model.dtype)
        generator = stream(seed, purpose, "elbo", start, device=model.device)
        z = posterior.sample(generator=generator)
        variances = posterior.log_variance.exp()
        kl_of = partial(_kl, model, posterior, z)
        kl = torch.cat(list(map_in_chunks(kl_of, len(z), size=BLOCK, what="KL")))
        terms = reconstruction(model, x, z), kl
        parts.append((*(term.cpu().double() for term in terms), posterior.mean, variances))
    return ElboParts(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _kl(model: VAE, posterior: DiagonalGaussian, z: Codes, rows: slice) -> PerExample:
    some = DiagonalGaussian(posterior.mean[rows], posterior.log_variance[rows])
    return model.prior.kl(some, z[rows])


def elbo(context: EvaluationContext) -> list[Result]:
    """Measure the held-out ELBO with its two parts, and the training data's KL in its parts."""
    split = context.evaluation.split
    parts = elbo_parts(
        context.model, context.dataset.split(split), seed=context.seed, purpose="evaluation"
    )
    check_log_density(parts.kl, "KL[q(z|x), p(z)]")
    held_out = {
        "elbo": -(parts.reconstruction + parts.kl),
        "reconstruction": parts.reconstruction,
        "kl": parts.kl,
    }
    terms = decompose_kl(
        context.model,
        context.aggregate,
        samples=context.evaluation.samples,
        generator=context.generator("elbo"),
        progress=context.progress,
    ).terms()
    training_kl = mean_and_error(terms.pop("kl"))._asdict()
    if not context.model.prior.factorises:
        del terms["dimension_wise_kl"]
    components = len(context.aggregate)
    return [
        *(context.mean_result(name, values, split=split) for name, values in held_out.items()),
        *(
            context.mean_result(
                name, values, split="train", components=components, training_kl=training_kl
            )
            for name, values in terms.items()
        ),
    ]

"""What the figures of a diagnosis are drawn from."""

import numpy as np
import torch

from dpvae_cli.diagnosis.groups import TAIL, are_in
from dpvae_cli.diagnosis.null import HalfSplits
from dpvae_cli.diagnosis.record import CandidatePrior
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.sampling.gallery import IMAGES, POOL, decoded_samples
from dpvae_cli.sampling.plane import density_map

SHOWN = 2_000
"""Codes of either side that the plane shows."""


def arrays(context: EvaluationContext, at: HalfSplits) -> dict[str, np.ndarray]:
    """Return both log-densities of both sides in one split, and with L = 2 the plane.

    `prior_log_q`, `codes_log_q`, `prior_log_p` and `codes_log_p` (n,), `tail_log_q` and
    `tail_log_p`, all in nats; `prior_z` and `codes_z` (m, 2), the map of log q(z) and log p(z).
    """
    a, b = at.halves[0]
    fresh = are_in(at.codes.group, a)
    codes_log_q = at.log_q(at.codes, b)[0][fresh]
    both = {
        "prior_log_q": at.log_q(at.prior, b)[0].numpy(),
        "codes_log_q": codes_log_q.numpy(),
        "prior_log_p": at.prior.log_p.numpy(),
        "codes_log_p": at.codes.log_p[fresh].numpy(),
        "tail_log_q": torch.quantile(codes_log_q, TAIL).numpy(),
        "tail_log_p": torch.quantile(at.prior.log_p, TAIL).numpy(),
    }
    if context.model.latent_dim != 2:
        return both
    prior_z = at.prior.z[:SHOWN].double().numpy()
    plane = density_map(at.groups.half(b), also=prior_z, model=context.model)
    return both | {"prior_z": prior_z, "codes_z": at.codes.z[fresh][:SHOWN].numpy()} | plane


def images(
    context: EvaluationContext, at: HalfSplits, repair: CandidatePrior | None
) -> dict[str, np.ndarray]:
    """Return decoded samples (n, c, h, w) of an image model, in bytes; nothing of any other.

    `samples` of its prior, `lowest` the fifth of a pool with the lowest log q(z), `repaired` of the
    prior that is recommended.
    """
    if not is_image(context.model.example_shape):
        return {}
    _, b = at.halves[0]
    repaired = None if repair is None else repair.samples
    return decoded_samples(
        context.model,
        at.prior.z[: POOL * IMAGES],
        log_q=at.log_q(at.prior, b)[0][: POOL * IMAGES],
        repaired=None if repaired is None else torch.from_numpy(repaired),
    )

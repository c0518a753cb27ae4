"""What the figures of a diagnosis are drawn from."""

import numpy as np

from dpvae_cli.evaluation.diagnosis.null import Found
from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.sampling.density_map import density_map

SHOWN = 2_000
"""Codes of either side that the plane shows."""


def arrays(subject: Subject, found: Found) -> dict[str, np.ndarray]:
    """Return both log-densities of both sides in one split, and with L = 2 the plane.

    `prior_log_q`, `codes_log_q`, `prior_log_p` and `codes_log_p` (n,), `tail_log_q` and
    `tail_log_p`, all in nats; `prior_z` and `codes_z` (m, 2), the map of log q(z) and log p(z).
    """
    at, drawn = found.at, found.drawn
    both = {
        "prior_log_q": drawn.log_q.numpy(),
        "codes_log_q": at.fresh_log_q.numpy(),
        "prior_log_p": drawn.log_p.numpy(),
        "codes_log_p": drawn.fresh_log_p.numpy(),
        "tail_log_q": np.array(at.tail_of_codes),
        "tail_log_p": np.array(drawn.tail_of_samples),
    }
    if subject.model.latent_dim != 2:
        return both
    prior_z = drawn.z[:SHOWN].double().numpy()
    plane = density_map(at.q, also=prior_z, model=subject.model)
    return both | {"prior_z": prior_z, "codes_z": at.fresh[:SHOWN].numpy()} | plane

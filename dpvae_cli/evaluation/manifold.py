"""Distance of decoded samples to the noiseless data manifold, where the data knows one (moons)."""

from typing import Any

from torch import Tensor

from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.sampling.encodings import decode
from dpvae_cli.sampling.samples import lowest, prior_samples


def manifold(subject: Subject) -> list[Result]:
    """Measure the mean distance of prior samples' decoded means to the manifold, in units of x."""
    count = subject.evaluation.manifold_samples
    drawn = prior_samples(subject.model, count, generator=subject.generator("manifold"))
    return [_result(subject, "manifold", _distances(subject, drawn.z), {})]


def manifold_lp(subject: Subject) -> list[Result]:
    """Measure the same for low-posterior samples: the lowest log q(z) of a pool of prior samples.

    The lowest of a pool differ from random ones even where q(z) = p(z), so `details.null` has the
    same selection by log p(z) from the same pool.
    """
    evaluation = subject.evaluation
    count, pool = evaluation.manifold_samples, evaluation.pool * evaluation.manifold_samples
    drawn = prior_samples(subject.model, pool, generator=subject.generator("manifold_lp"))
    log_q = subject.aggregate.log_prob(drawn.z)
    null = mean_and_error(_distances(subject, drawn.z[lowest(drawn.log_p, count)]))
    details = {"pool": pool, "null": null._asdict()}
    distances = _distances(subject, drawn.z[lowest(log_q, count)])
    return [_result(subject, "manifold_lp", distances, details)]


def _distances(subject: Subject, z: Codes) -> PerExample:
    distance = subject.dataset.distance_to_manifold
    if distance is None:
        raise DpvaeError(
            f"data {subject.dataset.name} has no known manifold to measure distances to",
            hint="manifold and manifold_lp are for data.kind=moons.",
        )
    return distance(decode(subject.model, z))


def _result(subject: Subject, metric: str, distances: Tensor, details: dict[str, Any]) -> Result:
    mean = mean_and_error(distances)
    return Result(
        metric=metric,
        value=mean.value,
        standard_error=mean.standard_error,
        unit="units of x",
        samples=len(distances),
        seed=subject.seed,
        split=None,
        details=details,
    )

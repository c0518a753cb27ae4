"""How far decoded low-posterior samples are from the data, beside random ones."""

from collections.abc import Sequence
from typing import Literal

from dpvae_cli.diagnosis.record import LowPosterior
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.fid import fid, fid_lp
from dpvae_cli.evaluation.manifold import manifold, manifold_lp
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.results import Result

SampleMetric = Literal["manifold", "fid"]
METRICS = {"manifold": (manifold, manifold_lp), "fid": (fid, fid_lp)}
LOWEST = "_lp"
"""What the name of a metric of low-posterior samples ends in."""
ASK = "dpvae diagnose CKPT --inception-weights FILE measures it, in minutes to hours."
NO_IMAGES = "It is of images by FID, and of moons by the distance to them unless --quick."


def low_posterior(
    context: EvaluationContext, compare: SampleMetric | None, earlier: Sequence[Result]
) -> LowPosterior:
    """Measure random and low-posterior samples, or take what was measured of them before.

    A metric that fails is told, and costs nothing but itself.
    """
    known = _known(earlier)
    if compare is None:
        return known or _unmeasured(context)
    try:
        [random], [lowest] = (metric(context) for metric in METRICS[compare])
    except DpvaeError as error:
        return LowPosterior(reason=f"not measured: {error}", hint=error.hint or "")
    return LowPosterior(random, lowest)


def _unmeasured(context: EvaluationContext) -> LowPosterior:
    if is_image(context.model.example_shape):
        return LowPosterior(reason="not measured", hint=ASK)
    return LowPosterior(reason="not measured", hint=NO_IMAGES)


def _known(earlier: Sequence[Result]) -> LowPosterior | None:
    """Return a pair of results of FID that were measured of this very checkpoint."""
    by_name = {result.metric: result for result in earlier if result.value is not None}
    for name, random in by_name.items():
        lowest = by_name.get(f"{name}{LOWEST}")
        if name.startswith("fid") and lowest is not None:
            return LowPosterior(random, lowest)
    return None

"""How far decoded low-posterior samples are from the data, compared with random ones."""

from collections.abc import Sequence
from typing import Literal

from dpvae_cli.diagnosis.record import LowPosterior
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.metrics import METRICS
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.results import Result

SampleMetric = Literal["manifold", "fid"]
IMAGE_HINT = "dpvae diagnose CKPT --inception-weights FILE measures it, in minutes to hours."
OTHER_HINT = "It is measured on images by FID, and on moons by the distance to them unless --quick."


def measure_low_posterior(
    context: EvaluationContext, metric: SampleMetric | None, earlier: Sequence[Result]
) -> LowPosterior:
    """Measure random and low-posterior samples; without a metric take an earlier pair of results.

    A metric that fails gives the reason in place of results.
    """
    if metric is None:
        by_name = {result.metric: result for result in earlier if result.value is not None}
        for name, random in by_name.items():
            lowest = by_name.get(f"{name}_lp")
            if name.startswith("fid") and lowest is not None:
                return LowPosterior(random, lowest)
        hint = IMAGE_HINT if is_image(context.model.example_shape) else OTHER_HINT
        return LowPosterior(reason="not measured", hint=hint)
    try:
        [random], [lowest] = (METRICS[name].measure(context) for name in (metric, f"{metric}_lp"))
    except DpvaeError as error:
        return LowPosterior(reason=f"not measured: {error}", hint=error.hint or "")
    return LowPosterior(random, lowest)

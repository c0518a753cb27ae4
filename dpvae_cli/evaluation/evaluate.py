"""Measure several metrics of one model; one that fails does not lose the others."""

import difflib
from collections.abc import Callable, Sequence

from dpvae_cli.data import Dataset
from dpvae_cli.evaluation.active_units import measure_active_units
from dpvae_cli.evaluation.elbo import elbo
from dpvae_cli.evaluation.leakage import leak
from dpvae_cli.evaluation.manifold import manifold, manifold_lp
from dpvae_cli.evaluation.nll import nll
from dpvae_cli.evaluation.skl import skl, skl_knn
from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.results import Result
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.encodings import EncodedTraining

METRICS: dict[str, Callable[[Subject], list[Result]]] = {
    "skl": skl,
    "skl_knn": skl_knn,
    "nll": nll,
    "leak": leak,
    "elbo": elbo,
    "active_units": measure_active_units,
    "manifold": manifold,
    "manifold_lp": manifold_lp,
}
NEED_MANIFOLD = ("manifold", "manifold_lp")


def metric_names(asked: str, *, has_manifold: bool) -> list[str]:
    """Return the metrics of a comma-separated list; `all` is every one the data allows.

    Raises:
        UsageError: a name is unknown; lists the valid ones.
    """
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if names == ["all"]:
        return [name for name in METRICS if has_manifold or name not in NEED_MANIFOLD]
    for name in names:
        if name not in METRICS:
            close = difflib.get_close_matches(name, METRICS, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise UsageError(
                f"--metrics: {name!r} is no metric.{meant}",
                hint=f"Valid: all, {', '.join(METRICS)}.",
            )
    if not names:
        raise UsageError("--metrics is empty", hint=f"Valid: all, {', '.join(METRICS)}.")
    return names


def measure(subject: Subject, names: Sequence[str]) -> tuple[list[Result], dict[str, DpvaeError]]:
    """Return the results in order, and the metrics that failed with their errors."""
    results: list[Result] = []
    failed: dict[str, DpvaeError] = {}
    for name in names:
        try:
            results += METRICS[name](subject)
        except DpvaeError as error:
            failed[name] = error
    return results, failed


def evaluate(
    model: VAE,
    data: Dataset,
    metrics: Sequence[str],
    *,
    evaluation: Evaluation | None = None,
    seed: int = 0,
) -> list[Result]:
    """Measure metrics of a model on a data set.

    Args:
        model: a trained model.
        data: what it was trained on; q(z) is over its training split.
        metrics: names as `dpvae eval --metrics` takes them.
        evaluation: sizes; the paper's by default.
        seed: of every draw.

    Returns:
        One record or more for each metric, in order.

    Raises:
        UsageError: a metric's name is unknown.
        DpvaeError: a metric cannot be measured on this data.

    Example:
        >>> import dpvae_cli as dpvae
        >>> recipe = dpvae.Recipe.load("vae_moons", ["data.train=500", "evaluation.samples=100"])
        >>> data, model = recipe.data.load(), dpvae.build(recipe)
        >>> [r.metric for r in dpvae.evaluate(model, data, ["skl"], evaluation=recipe.evaluation)]
        ['skl']
    """
    names = metric_names(",".join(metrics), has_manifold=data.distance_to_manifold is not None)
    encoded = EncodedTraining(model, lambda: data)
    subject = Subject(model, lambda: data, encoded, evaluation or Evaluation(), seed)
    return [result for name in names for result in METRICS[name](subject)]

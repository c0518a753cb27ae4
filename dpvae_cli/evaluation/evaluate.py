"""Measure several metrics of one model; one that fails does not lose the others."""

import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpvae_cli.data import Dataset
from dpvae_cli.evaluation.active_units import measure_active_units
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.cost import cost
from dpvae_cli.evaluation.disentanglement import beta_score, dci, factor_score, mig, sap
from dpvae_cli.evaluation.elbo import elbo
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.evaluation.fid import fid, fid_lp, kid
from dpvae_cli.evaluation.leakage import leak
from dpvae_cli.evaluation.manifold import manifold, manifold_lp
from dpvae_cli.evaluation.nll import nll
from dpvae_cli.evaluation.path_density import path
from dpvae_cli.evaluation.probe import probe
from dpvae_cli.evaluation.skl import skl, skl_knn
from dpvae_cli.foundation.distributed import ProcessGroup, process_group
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.formatting import did_you_mean
from dpvae_cli.foundation.memory import oom_context
from dpvae_cli.foundation.modes import eval_mode
from dpvae_cli.foundation.results import Result
from dpvae_cli.model import PROBE_BATCH_SIZE, VAE
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.encodings import TrainingEncodings
from dpvae_cli.version import __version__

METRICS: dict[str, Callable[[EvaluationContext], list[Result]]] = {
    "skl": skl,
    "skl_knn": skl_knn,
    "nll": nll,
    "leak": leak,
    "elbo": elbo,
    "active_units": measure_active_units,
    "path": path,
    "fid": fid,
    "fid_lp": fid_lp,
    "kid": kid,
    "manifold": manifold,
    "manifold_lp": manifold_lp,
    "mig": mig,
    "dci": dci,
    "sap": sap,
    "factor_score": factor_score,
    "beta_score": beta_score,
    "probe": probe,
    "cost": cost,
}
NEED_IMAGES = ("fid", "fid_lp", "kid")
NEED_MANIFOLD = ("manifold", "manifold_lp")
NEED_FACTORS = ("mig", "dci", "sap", "factor_score", "beta_score")
NEED_LABELS = ("probe",)
NEED_GENERATION = ("path",)
"""Metrics of a generation space, which not every prior has."""
EXPLICIT_ONLY = ("cost",)
"""Metrics of the machine as much as of the model: no two measurements are alike."""
COUNTS = {
    "nll": "nll_samples",
    "fid": "fid_samples",
    "kid": "fid_samples",
    "manifold": "manifold_samples",
    "probe": "probe_samples",
} | dict.fromkeys(NEED_FACTORS, "factor_samples")
"""What says how much a metric draws, where it is not evaluation.samples."""


def unavailable_metrics(
    *,
    has_manifold: bool,
    has_images: bool,
    has_generation: bool,
    has_factors: bool,
    has_labels: bool,
) -> set[str]:
    """Return the metrics that need what data or prior have not."""
    needs = (
        (has_manifold, NEED_MANIFOLD),
        (has_images, NEED_IMAGES),
        (has_generation, NEED_GENERATION),
        (has_factors, NEED_FACTORS),
        (has_labels, NEED_LABELS),
    )
    return {name for has, names in needs if not has for name in names}


def metric_names(asked: str, **has: bool) -> list[str]:
    """Return the metrics of a comma-separated list; `all` is what data and prior allow, but `cost`.

    Args:
        asked: the list.
        **has: what data and prior have, as `unavailable_metrics` takes it.

    Raises:
        UsageError: a name is unknown; lists the valid ones.
    """
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if names == ["all"]:
        left_out = unavailable_metrics(**has) | set(EXPLICIT_ONLY)
        return [name for name in METRICS if name not in left_out]
    for name in names:
        if name not in METRICS:
            raise UsageError(
                f"--metrics: {name!r} is not a metric{did_you_mean(name, METRICS)}",
                hint=f"Valid: all, {', '.join(METRICS)}.",
            )
    if not names:
        raise UsageError("--metrics is empty", hint=f"Valid: all, {', '.join(METRICS)}.")
    return names


def measure(
    context: EvaluationContext, names: Sequence[str], *, log: Path | None = None
) -> tuple[list[Result], dict[str, DpvaeError]]:
    """Return the results in order, and the metrics that failed with their errors.

    An exception of any kind fails one metric alone. Of several processes it ends all, since the
    others may wait for this one.

    Args:
        context: what is measured.
        names: metrics, as `METRICS` has them.
        log: file that tracebacks are added to.
    """
    results: list[Result] = []
    failed: dict[str, DpvaeError] = {}
    for name in names:
        try:
            results += _noted(context, name)
        except DpvaeError as error:
            failed[name] = error
        except Exception as error:
            if context.group.world_size > 1:
                raise
            failed[name] = _unexpected(name, error, log)
    return results, failed


def _unexpected(name: str, error: Exception, log: Path | None) -> DpvaeError:
    """Return what to say of an exception that no metric should raise; log its traceback."""
    trace = "".join(traceback.format_exception(error))
    hint = trace
    if log is not None:
        with suppress(OSError), log.open("a", encoding="utf-8") as file:
            when = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
            file.write(f"{when}, dpvae {__version__}, {name}\n{trace}\n")
            hint = f"The traceback is in {log}."
    reason = " ".join(str(error).split()) or "no message"
    return DpvaeError(f"{type(error).__name__}: {reason}", hint=hint)


def _noted(context: EvaluationContext, name: str) -> list[Result]:
    """Measure one metric; every result says what is to be said of the data and of the density."""
    with oom_context(f"in {name}", hint=_less(name)):
        results = METRICS[name](context)
    note: dict[str, Any] = {"data_note": context.data_note}
    if (estimated := context.model.prior.log_normaliser) is not None:
        note["log_normaliser"] = estimated._asdict()
    return [replace(result, details=result.details | note) for result in results]


def _less(name: str) -> str:
    """Return what to lower where memory runs out although parts are as small as can be."""
    key = COUNTS.get(name.removesuffix("_lp"), "samples")
    return f"Lower evaluation.{key}, or choose another --device."


def evaluate(
    model: VAE,
    data: Dataset,
    metrics: Sequence[str],
    *,
    evaluation: Evaluation | None = None,
    seed: int = 0,
    features: FeatureOptions | None = None,
) -> list[Result]:
    """Measure metrics of a model on a data set.

    Args:
        model: a trained model; put into evaluation mode meanwhile.
        data: what it was trained on; q(z) is over its training split.
        metrics: names as `dpvae eval --metrics` takes them.
        evaluation: sizes; the paper's by default.
        seed: of every draw. Processes started together, by torchrun for one, share the work.
        features: which network looks at images for fid, fid_lp and kid; Inception by default.

    Returns:
        One record or more for each metric, in order.

    Raises:
        UsageError: a metric's name is unknown, or the model does not fit the data.
        DpvaeError: a metric cannot be measured on this data.

    Example:
        >>> import dpvae_cli as dpvae
        >>> recipe = dpvae.load_recipe("vae_moons", ["data.train=500", "evaluation.samples=100"])
        >>> data, model = recipe.data.load(), dpvae.build(recipe)
        >>> [r.metric for r in dpvae.evaluate(model, data, ["skl"], evaluation=recipe.evaluation)]
        ['skl']
    """
    with process_group() as group, eval_mode(model):
        return _evaluated(model, data, ",".join(metrics), evaluation, seed, features, group)


def _evaluated(
    model: VAE,
    data: Dataset,
    metrics: str,
    evaluation: Evaluation | None,
    seed: int,
    features: FeatureOptions | None,
    group: ProcessGroup,
) -> list[Result]:
    model.check(data.train.examples(slice(0, PROBE_BATCH_SIZE)).to(model.device, model.dtype))
    names = metric_names(
        metrics,
        has_manifold=data.distance_to_manifold is not None,
        has_images=is_image(model.example_shape),
        has_generation=model.prior.generation is not None,
        has_factors=data.train.factors is not None,
        has_labels=data.train.labels is not None,
    )
    context = EvaluationContext(
        model,
        lambda: data,
        TrainingEncodings(model, lambda: data, group=group),
        evaluation or Evaluation(),
        seed,
        features=features or FeatureOptions(),
        training_note=data.note,
        group=group,
    )
    return [result for name in names for result in _noted(context, name)]

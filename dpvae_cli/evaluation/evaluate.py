"""Measure several metrics of one model; one that fails does not lose the others."""

import traceback
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpvae_cli.data import Dataset
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.evaluation.metrics import METRICS, Need, default_metrics, unavailable_metrics
from dpvae_cli.foundation.devices import eval_mode
from dpvae_cli.foundation.distributed import process_group
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.memory import oom_context
from dpvae_cli.foundation.results import Result, ResultList
from dpvae_cli.foundation.text import did_you_mean
from dpvae_cli.model import PROBE_BATCH_SIZE, VAE
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings
from dpvae_cli.version import __version__


def metric_names(given: str | None, available: Collection[Need]) -> list[str]:
    """Return the metrics of a comma-separated list.

    Args:
        given: the list; `all` is everything that data and prior allow, but metrics that are only
            measured on request; None takes the default ones.
        available: what data and prior have.

    Raises:
        UsageError: a name is unknown; lists the valid ones.
    """
    if given is None:
        return default_metrics(available)
    names = [name.strip() for name in given.split(",") if name.strip()]
    if names == ["all"]:
        left_out = unavailable_metrics(available)
        return [n for n, m in METRICS.items() if n not in left_out and not m.is_on_request]
    hint = f"Valid: all, {', '.join(METRICS)}."
    for name in names:
        if name not in METRICS:
            raise UsageError(
                f"--metrics: {name!r} is not a metric{did_you_mean(name, METRICS)}", hint=hint
            )
    if not names:
        raise UsageError("--metrics is empty", hint=hint)
    return names


def measure(
    context: EvaluationContext, names: Sequence[str], *, log: Path | None = None
) -> tuple[list[Result], dict[str, DpvaeError]]:
    """Return the results in order, and the metrics that failed with their errors.

    An exception of any kind fails that metric only. With several processes it ends all of them, for
    the others may wait for this one. Tracebacks are added to the file `log`.
    """
    results: list[Result] = []
    failed: dict[str, DpvaeError] = {}
    for name in names:
        try:
            results += _measure_one(context, name)
        except DpvaeError as error:
            failed[name] = error
        except Exception as error:
            if context.group.world_size > 1:
                raise
            hint = trace = "".join(traceback.format_exception(error))
            if log is not None:
                with suppress(OSError), log.open("a", encoding="utf-8") as file:
                    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
                    file.write(f"{when}, dpvae {__version__}, {name}\n{trace}\n")
                    hint = f"The traceback is in {log}."
            reason = " ".join(str(error).split()) or "no message"
            failed[name] = DpvaeError(f"{type(error).__name__}: {reason}", hint=hint)
    return results, failed


def _measure_one(context: EvaluationContext, name: str) -> list[Result]:
    """Measure one metric; its results carry the notes of the data and of an estimated density."""
    metric = METRICS[name]
    lower = f"Lower evaluation.{metric.sample_size}, or choose" if metric.sample_size else "Choose"
    with oom_context(f"in {name}", hint=f"{lower} another --device."):
        results = metric.measure(context)
    note: dict[str, Any] = {"data_note": context.data_note}
    if (estimated := context.model.prior.log_normaliser) is not None:
        note["log_normaliser"] = estimated._asdict()
    if (error := context.model.prior.log_det_estimate) is not None:
        note["log_det_estimate"] = error._asdict()
    return [replace(result, details=result.details | note) for result in results]


def evaluate(
    model: VAE,
    data: Dataset,
    metrics: Sequence[str],
    *,
    evaluation: Evaluation | None = None,
    seed: int = 0,
    features: FeatureOptions | None = None,
) -> ResultList:
    """Measure metrics of a model on a data set.

    Args:
        model: a trained model; put into evaluation mode meanwhile.
        data: what it was trained on; q(z) is over its training split.
        metrics: names as `dpvae eval --metrics` takes them.
        evaluation: sizes; the paper's by default.
        seed: of every draw. Processes started together, by torchrun for one, share the work.
        features: which network looks at images for fid, fid_lp and kid; Inception by default.

    Returns:
        One record or more for each metric, in order; a list that a notebook shows as a table.

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
        model.check(data.train.examples(slice(0, PROBE_BATCH_SIZE)).to(model.device, model.dtype))
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
        has: dict[Need, bool] = {
            "manifold": data.distance_to_manifold is not None,
            "images": is_image(model.example_shape),
            "generation space": model.prior.generation is not None,
            "factors": data.train.factors is not None,
            "labels": data.train.labels is not None,
            "a prior given labels": bool(model.prior.labels),
        }
        names = metric_names(",".join(metrics), [need for need, holds in has.items() if holds])
        return ResultList(result for name in names for result in _measure_one(context, name))

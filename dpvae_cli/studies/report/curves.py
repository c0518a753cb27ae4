"""Figures that a report draws itself: leakage over seeds, training."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.pages.pictures import Picture, from_bytes
from dpvae_cli.plotting import style, training
from dpvae_cli.plotting.leakage import LeakageCurve, Numbers, figure4
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.grouping import Experiment

MOST_SETTINGS = 6
"""Settings in one figure: the colours of the house style."""
Curve = tuple[list[float], Numbers, Numbers]


def leakage(experiments: Sequence[Experiment]) -> list[Picture]:
    """Return Figure 4 of these experiments, a figure for each kind of data."""
    pictures = []
    by_data: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        by_data.setdefault(experiment.recipe.data.kind, []).append(experiment)
    for data, group in by_data.items():
        for start in range(0, len(group), MOST_SETTINGS):
            some = group[start : start + MOST_SETTINGS]
            curves = []
            for experiment in some:
                for prior, results in experiment.comparable.get("leak", {}).items():
                    seeds = []
                    for result in results.values():
                        with suppress(KeyError, TypeError, ValueError):
                            seeds.append(_seed_curves(result.details))
                    if seeds:
                        fixed, at_quantiles = map(mean_curve, zip(*seeds, strict=True))
                        curves.append(LeakageCurve(experiment.label, prior, *fixed, *at_quantiles))
            alt = f"Leakage score against its threshold on {data}, a line a recipe and prior."
            caption = (
                "Leakage score, mean over seeds with its standard error (of one seed: the metric's "
                "own). Left against fixed thresholds, right at quantiles of each model's own "
                "log p(z), which is where priors compare. A seed without a sample below counts as "
                "0; a cross: no seed has one."
            )
            pictures += _picture(figure4(curves), alt, caption) if curves else []
    return pictures


def _seed_curves(details: Mapping[str, Any]) -> list[Curve]:
    """Return the curves of a record: at thresholds, at quantiles.

    Raises:
        TypeError, ValueError, KeyError: they are not what they should be.
    """
    curves: list[Curve] = []
    for levels, kind in (("thresholds", ""), ("quantiles", "quantile_")):
        values, errors = (
            [None if value is None else float(value) for value in details[f"{kind}{name}"]]
            for name in ("values", "standard_errors")
        )
        at = [float(x) for x, _, _ in zip(details[levels], values, errors, strict=True)]
        curves.append((at, values, errors))
    return curves


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean curve of several seeds with its standard error.

    Where no sample lies below in some seed, it counts as 0; in all seeds, the mean is None.
    """
    x = curves[0][0]
    same = [curve for curve in curves if curve[0] == x]
    if len(same) == 1:
        return same[0]
    columns = list(zip(*(curve[1] for curve in same), strict=True))
    whole = [
        [value or 0.0 for value in column] if any(v is not None for v in column) else []
        for column in columns
    ]
    means: Numbers = [math.fsum(values) / len(values) if values else None for values in whole]
    errors: Numbers = [
        float(np.std(values, ddof=1)) / math.sqrt(len(values)) if values else None
        for values in whole
    ]
    return x, means, errors


def training_curves(experiment: Experiment) -> list[Picture]:
    """Return the training curves of an experiment's first seed, a line a prior."""
    seed = experiment.seeds[0]
    curves = []
    for prior in experiment.priors:
        with suppress(DpvaeError, TypeError, ValueError, AttributeError, KeyError):
            log = RunFolder(experiment.runs[prior][seed].path).metrics_log
            records = MetricsLog.read(log, strict=True)
            made = training.TrainingCurves.from_records(records, experiment.label, prior=prior)
            curves += [made] if made.series else []
    if not curves:
        return []
    alt = f"Training curves of {experiment.label}, seed {seed}: ELBO, sKL and terms of the loss."
    return _picture(training.training_figure(curves), alt, f"{experiment.label}, seed {seed}.")


def _picture(figure: Figure, alt: str, caption: str) -> list[Picture]:
    found = from_bytes(style.png(figure), alt=alt, caption=caption)
    return [] if found is None else [found]

"""Runs in order: experiments (a recipe but for prior and seed), their priors, and their seeds."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch

from dpvae_cli.evaluation.metrics import SHORT_UNITS, find_metric
from dpvae_cli.foundation.results import Result
from dpvae_cli.mathematics.estimates import error_of_difference
from dpvae_cli.recipe import Recipe, to_dict
from dpvae_cli.recipe.validation import kinds
from dpvae_cli.runs.results_file import read_error_terms
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.records import BASELINE, RunRecord
from dpvae_cli.studies.statistics import Comparison, Summary, compare_pairs, summarize_seeds

LOGGING_KEYS = ("log_every", "validate_every", "checkpoint_every", "tensorboard", "trackers")
"""Keys of `training` that change no weight."""


@final
@dataclass(frozen=True)
class Experiment:
    """A recipe but for its priors and seed; `runs` by the priors' name, then by seed."""

    label: str
    recipe: Recipe
    runs: Mapping[str, Mapping[int, RunRecord]]

    @property
    def priors(self) -> list[str]:
        """Return its priors' names, the baseline first."""
        return sorted(self.runs, key=lambda prior: (prior != BASELINE, prior))

    @property
    def seeds(self) -> list[int]:
        """Return all its seeds."""
        return sorted({seed for runs in self.runs.values() for seed in runs})

    @cached_property
    def _measured_and_left_out(self) -> tuple[dict[str, dict[str, dict[int, Result]]], list[str]]:
        everything: dict[str, list[tuple[str, int, Result]]] = {}
        for prior in self.priors:
            for seed, run in sorted(self.runs[prior].items()):
                for result in run.results:
                    everything.setdefault(result.metric, []).append((prior, seed, result))
        measured: dict[str, dict[str, dict[int, Result]]] = {}
        notes = []
        for metric, results in everything.items():
            keys = Counter(_measurement_key(result) for _, _, result in results)
            [(commonest, kept)] = keys.most_common(1)
            by_prior = measured[metric] = {prior: {} for prior, _, _ in results}
            for prior, seed, result in results:
                if _measurement_key(result) == commonest:
                    by_prior[prior][seed] = result
            if left_out := len(results) - kept:
                notes.append(
                    f"{metric} was not measured alike in all runs (samples, split, weights or "
                    f"sizes differ): {left_out} of {len(results)} results are left out"
                )
        return measured, notes

    @property
    def comparable(self) -> dict[str, dict[str, dict[int, Result]]]:
        """Return results by metric, prior and seed; of each metric those measured alike.

        Where it was measured in several ways (samples, split, weights, sizes), the commonest stays.
        """
        return self._measured_and_left_out[0]

    @property
    def warnings(self) -> list[str]:
        """Return which metrics were not measured alike, and how many results that costs."""
        return self._measured_and_left_out[1]

    def results(self, metric: str, prior: str) -> dict[int, Result]:
        """Return the results of a metric by seed."""
        return self.comparable.get(metric, {}).get(prior, {})

    def values(self, metric: str, prior: str) -> dict[int, float]:
        """Return a metric's values by seed, those that are defined; 0 where no draw leaks."""
        values = {
            seed: 0.0 if has_no_leak(result) else result.value
            for seed, result in self.results(metric, prior).items()
        }
        return {seed: value for seed, value in values.items() if value is not None}

    def without_leak(self, metric: str, prior: str) -> int:
        """Return in how many seeds no draw lies below a leakage score's threshold."""
        return sum(map(has_no_leak, self.results(metric, prior).values()))

    def own_error(self, metric: str, prior: str) -> float | None:
        """Return the standard error that the metric reported, where it is of one seed alone."""
        results = list(self.results(metric, prior).values())
        return results[0].standard_error if len(results) == 1 else None

    def unit(self, metric: str) -> str:
        """Return a metric's unit, empty where it has none."""
        by_prior = self.comparable.get(metric, {}).values()
        unit = next((result.unit for results in by_prior for result in results.values()), "")
        return SHORT_UNITS.get(unit, unit)

    def summary(self, metric: str, prior: str) -> Summary | None:
        """Return a metric over the seeds of a prior."""
        return summarize_seeds(list(self.values(metric, prior).values()))

    def compare(self, metric: str, prior: str, *, baseline: str) -> Comparison | None:
        """Return a prior's metric minus the baseline's, seed by seed; with its error if of one.

        The error is paired by draws and examples where both results have the same seed and as many
        error terms.
        """
        found = self._compare(metric, prior, baseline)
        if found is None or found.n > 1:
            return found
        [seed] = found.differences
        results = [self.results(metric, each)[seed] for each in (prior, baseline)]
        terms = [
            read_error_terms(RunFolder(self.runs[each][seed].path), result)
            for each, result in zip((prior, baseline), results, strict=True)
        ]
        error: float | None = None
        if results[0].seed == results[1].seed and all(each is not None for each in terms):
            error = error_of_difference(*(torch.from_numpy(each).double() for each in terms))
        elif all(each.standard_error is not None for each in results):
            error = math.hypot(*(each.standard_error or 0.0 for each in results))
        return replace(found, own_error=error)

    def _compare(self, metric: str, prior: str, baseline: str) -> Comparison | None:
        return compare_pairs(
            self.values(metric, prior),
            self.values(metric, baseline),
            better=find_metric(metric).better,
            unit=self.unit(metric),
        )

    def is_best(self, metric: str, prior: str) -> bool:
        """Return whether the intervals say that a prior is better than each of the others."""
        others = [other for other in self.priors if other != prior]
        found = [self._compare(metric, prior, other) for other in others]
        return bool(found) and all(each is not None and each.is_better for each in found)


def has_no_leak(result: Result) -> bool:
    """Return whether a leakage score is null since no draw lies below its threshold."""
    return result.value is None and result.details.get("value_at_quantile") is not None


def _measurement_key(result: Result) -> str:
    """Return how a result was measured, but for its draws."""
    details = {key: result.details.get(key) for key in find_metric(result.metric).settings}
    return json.dumps([result.samples, result.split, result.weights, details], default=str)


def group_runs(records: Sequence[RunRecord]) -> tuple[list[Experiment], list[str]]:
    """Return the experiments of all runs with a recipe, and warnings on runs left out.

    A second run of the same recipe, prior and seed is left out, one with results being preferred.
    Experiments come in the paper's order; where names repeat, labels have what differs.
    """
    warnings: list[str] = []
    groups: dict[str, dict[str, dict[int, RunRecord]]] = {}
    recipes = [record.recipe for record in records if record.recipe]
    names = {section: _section_names(recipes, section) for section in ("prior", "fit_prior")}
    for record in sorted(records, key=lambda record: not record.counts):
        if record.recipe is None:
            continue
        plain = to_dict(record.recipe)
        prior = ", then ".join(
            by_prior[_key(plain[section])] for section, by_prior in names.items() if plain[section]
        )
        for section in ("prior", "fit_prior", "seed", "evaluation"):
            del plain[section]
        for key in LOGGING_KEYS:
            plain["training"].pop(key, None)
        by_seed = groups.setdefault(_key(plain), {}).setdefault(prior, {})
        first = by_seed.setdefault(record.recipe.seed, record)
        if first is not record:
            warnings.append(f"{record.label} repeats {first.label} and is left out")
    typical = [_typical_recipe(priors) for priors in groups.values()]
    experiments = []
    for recipe, priors in zip(typical, groups.values(), strict=True):
        same = [other for other in typical if other.name == recipe.name]
        what_differs = f" ({_distinguishing_keys(recipe, same)})" if len(same) > 1 else ""
        experiments.append(Experiment(f"{recipe.name}{what_differs}", recipe, priors))
    data, regularizers = list(kinds("data")), list(kinds("regularizer"))
    experiments.sort(
        key=lambda e: (
            data.index(e.recipe.data.kind),
            regularizers.index(e.recipe.regularizer.kind),
            e.label,
        )
    )
    return experiments, warnings


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _section_names(recipes: Sequence[Recipe], section: str) -> dict[str, str]:
    """Return the names of priors: the kind, with its options where a kind has several."""
    plain = [to_dict(recipe)[section] for recipe in recipes]
    priors = {_key(prior): prior for prior in plain if prior is not None}
    names = {}
    for key, prior in priors.items():
        same = [other for other in priors.values() if other["kind"] == prior["kind"]]
        options = [f"{k}={prior[k]}" for k in prior if any(o[k] != prior[k] for o in same)]
        names[key] = f"{prior['kind']} ({', '.join(options)})" if options else prior["kind"]
    return names


def _typical_recipe(priors: Mapping[str, Mapping[int, RunRecord]]) -> Recipe:
    """Return the recipe of a measured run that is not the baseline, as far as there is one."""
    runs = [
        (not run.counts, prior == BASELINE, seed, run.recipe)
        for prior, by_seed in priors.items()
        for seed, run in by_seed.items()
    ]
    recipe = min(runs, key=lambda run: run[:3])[3]
    assert recipe is not None
    return recipe


def _distinguishing_keys(recipe: Recipe, same: Sequence[Recipe]) -> str:
    mine, others = flatten_recipe(recipe), [flatten_recipe(other) for other in same]
    logging = (f"training.{key}" for key in LOGGING_KEYS)
    ignored = ("seed", "prior.", "fit_prior", "evaluation.", *logging)
    keys = [key for key in mine if any(other.get(key) != mine[key] for other in others)]
    return ", ".join(f"{key}={mine[key]}" for key in keys if not key.startswith(ignored))


def flatten_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as `section.key` and value."""
    return {
        f"{section}.{key}" if key else section: value
        for section, values in to_dict(recipe).items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }

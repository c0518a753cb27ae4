"""What was shortened or subsampled: runs against the packaged recipe of their name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, final

from dpvae_cli.evaluation.metrics import find_metric
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.results import Result
from dpvae_cli.recipe import Recipe, document, load_recipe
from dpvae_cli.studies.grouping import LOGGING_KEYS, Experiment, flatten_recipe

MISSING = "(none)"


@final
@dataclass(frozen=True)
class Deviation:
    """A key whose value is not the packaged recipe's."""

    key: str
    packaged: Any
    here: Any

    def __str__(self) -> str:
        """Return in words what is different; fewer iterations, examples or samples as such."""
        counted = self.key.startswith(("data.", "evaluation.")) or self.key == "training.iterations"
        is_reduction = (counted and _is_count(self.here)) and (
            self.packaged is None or (_is_count(self.packaged) and self.packaged > self.here)
        )
        if not is_reduction:
            return f"{self.key} is {self.here}, in the packaged recipe {self.packaged}"
        if self.key == "training.iterations":
            return f"{self.here:,} training iterations instead of {self.packaged:,}"
        packaged = "all" if self.packaged is None else f"{self.packaged:,}"
        return f"{self.key} is {self.here:,} instead of {packaged}"


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def deviations(recipe: Recipe) -> list[Deviation] | None:
    """Return where a recipe differs from the packaged one of its name and prior, None without one.

    What follows from the length of training (`stop_step`) is not a departure of its own.
    """
    packaged = packaged_recipe(recipe)
    if packaged is None:
        return None
    as_long = packaged_recipe(recipe, f"training.iterations={recipe.training.iterations}")
    theirs, ours = flatten_recipe(as_long or packaged), flatten_recipe(recipe)
    theirs["training.iterations"] = packaged.training.iterations
    ignored = ("seed", *(f"training.{key}" for key in LOGGING_KEYS))
    return [
        Deviation(key, theirs.get(key, MISSING), ours.get(key, MISSING))
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key, MISSING) != theirs.get(key, MISSING)
        and key not in ignored
        and not key.startswith("fit_prior")  # a column of the tables, as the prior is
    ]


def packaged_recipe(recipe: Recipe, *overrides: str) -> Recipe | None:
    """Return the packaged recipe of this name with this kind of prior, None without one."""
    if recipe.name not in document.recipe_names():
        return None
    for prior in ([f"prior={recipe.prior.kind}"], []):
        try:
            return load_recipe(recipe.name, [*prior, *overrides])
        except DpvaeError:  # a prior that a word alone does not say
            continue
    return None


def matches_published_settings(experiment: Experiment, metric: str, prior: str) -> bool:
    """Return whether a metric is of the paper's packaged recipe unchanged, with all its samples."""
    results = experiment.results(metric, prior)
    for seed, result in results.items():
        recipe = experiment.runs[prior][seed].recipe
        if recipe is None or recipe.fit_prior is not None:
            return False
        name = f"{recipe.regularizer.kind}_{recipe.data.kind}"
        packaged = packaged_recipe(recipe) if recipe.name.split("/")[-1] == name else None
        changed = deviations(recipe)
        if packaged is None or changed is None:
            return False
        if any(not each.key.startswith("evaluation.") for each in changed):
            return False
        if experiment.runs[prior][seed].note or any(_smaller_sizes(metric, result, packaged)):
            return False
    return bool(results)


def deviation_notes(experiments: Sequence[Experiment]) -> list[str]:
    """Return in words what was shortened, subsampled or changed, the same words only once."""
    notes: dict[str, list[str]] = {}
    for experiment in experiments:
        for words in dict.fromkeys(_notes_of(experiment)):
            notes.setdefault(words, []).append(experiment.label)
    everything = len(experiments)
    return [
        f"All {everything} recipes: {words}"
        if len(labels) == everything > 1
        else f"{', '.join(labels)}: {words}"
        for words, labels in notes.items()
    ]


def _notes_of(experiment: Experiment) -> Iterable[str]:
    for runs in experiment.runs.values():
        recipe = runs[min(runs)].recipe
        changed = (deviations(recipe) or []) if recipe else []
        yield from (str(each) for each in changed if not each.key.startswith("evaluation."))
        yield from (run.note for run in runs.values() if run.note)
        yield from (f"{r.label}: {r.reason}" for r in runs.values() if r.counts and r.reason)
    reference = packaged_recipe(experiment.recipe) or experiment.recipe
    for metric, by_prior in experiment.comparable.items():
        if some := next((r for results in by_prior.values() for r in results.values()), None):
            yield from _smaller_sizes(metric, some, reference)
    yield from experiment.warnings


def _smaller_sizes(metric: str, result: Result, reference: Recipe) -> Iterable[str]:
    """Yield how a result was measured on less than the recipe or the split has."""
    known = find_metric(metric)
    is_fixed = known.sample_size is not None and not known.is_limited_by_data
    wanted = getattr(reference.evaluation, known.sample_size or "") if is_fixed else 0
    if 0 < result.samples < wanted:
        yield f"{metric} from {result.samples:,} samples instead of {wanted:,}"
    used, whole = (result.details.get(key) for key in ("images", "images_in_split"))
    if _is_count(used) and _is_count(whole) and used < whole:
        yield f"{metric} on {used:,} of {whole:,} {result.split or 'training'} images"
    for key in ("note", "data_note"):
        if isinstance(note := result.details.get(key), str):
            yield f"{metric}: {note}" if key == "note" else note

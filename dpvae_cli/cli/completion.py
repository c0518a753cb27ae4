"""Shell completion, and hints for recipe keys that were typed as options; imports no torch."""

from collections.abc import Sequence


def recipe_key_hint(option: str, words: Sequence[str]) -> str:
    """Return how to set a recipe key that was typed as an option, or nothing.

    Args:
        option: as it was typed, `--iterations`.
        words: all that was typed after the command's name.
    """
    from dpvae_cli.recipe.validation import paths_of_key

    paths = paths_of_key(option.lstrip("-").replace("-", "_"))
    if not paths:
        return ""
    given = "=".join(words).partition(f"{option}=")[2]
    value = given.partition("=")[0] or "..."
    typed = " or ".join(f"{path}={value}" for path in paths)
    return f"\nRecipe keys are set without dashes: {typed}"


def complete_recipe(incomplete: str) -> list[str]:
    """Return the packaged recipes with this prefix."""
    from dpvae_cli.recipe import document

    return [name for name in document.recipe_names() if name.startswith(incomplete)]


def complete_study(incomplete: str) -> list[str]:
    """Return the packaged studies with this prefix."""
    from dpvae_cli.studies import catalogue

    return [name for name in catalogue.study_names() if name.startswith(incomplete)]


def complete_prior(incomplete: str) -> list[str]:
    """Return the kinds of priors that can be fitted, with this prefix."""
    from dpvae_cli.foundation.kinds import kinds_in_source

    kinds = [kind for kind in kinds_in_source("priors") if kind != "standard_normal"]
    return [kind for kind in kinds if kind.startswith(incomplete)]


def complete_metrics(incomplete: str) -> list[str]:
    """Return the lists of metrics that go on so: `skl,n` becomes `skl,nll`."""
    from dpvae_cli.evaluation.metrics import METRICS

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in METRICS if name.startswith(last)]

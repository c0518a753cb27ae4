"""From a name, a file or a mapping, and overrides, to a frozen recipe, or to all that is wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, final

from pydantic import BaseModel, ValidationError

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.spec import Spec
from dpvae_cli.priors import LearnedPrior
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.recipe.catalogue import locate, run_name
from dpvae_cli.recipe.dump import to_dict
from dpvae_cli.recipe.issues import ConfigIssue, RecipeError, SourceLocation
from dpvae_cli.recipe.overrides import Override, apply_overrides, parse_overrides
from dpvae_cli.recipe.reading import ConfigDocument, read_file
from dpvae_cli.recipe.schema import Fitting, Recipe, expand_shorthand
from dpvae_cli.recipe.validation_messages import issues_from

M = TypeVar("M", bound=BaseModel)


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a packaged recipe or one from a file, with overrides applied in order.

    Args:
        name_or_path: `beta_h_moons` (see `dpvae recipes ls`) or `path/to/mine.yaml`.
        overrides: such as `training.iterations=2000`, `prior=standard_normal` or
            `prior={kind: decoupled, blocks: 4}`; a word replaces its whole section.

    Raises:
        RecipeError: with every mistake of the file and the overrides.

    Example:
        >>> from dpvae_cli.recipe import load_recipe
        >>> load_recipe("beta_h_moons", ["prior=standard_normal"]).prior.kind
        'standard_normal'
    """
    return load_with_overrides(locate(str(name_or_path)), *parse_overrides(overrides))


def load_with_overrides(
    path: Path, overrides: Sequence[Override], issues: Sequence[ConfigIssue] = ()
) -> Recipe:
    """Return the recipe of a file with overrides that are parsed already.

    Args:
        path: the recipe file.
        overrides: applied in order, so that the last one wins.
        issues: what is wrong with the overrides so far.

    Raises:
        RecipeError: with every mistake of the file and the overrides.
    """
    try:
        document = read_file(path)
    except RecipeError as error:
        raise RecipeError([*error.issues, *issues], hint=error.hint) from error
    document.issues.extend(issues)
    apply_overrides(document, overrides)
    return validate_document(document, Recipe).named(run_name(path))


def from_dict(values: Mapping[str, Any], *, name: str = "recipe") -> Recipe:
    """Return the recipe that `to_dict` wrote, as checkpoints hold it, under `name`.

    Raises:
        RecipeError: the values are not a recipe of this version.
    """
    return validate_document(_document(values, name), Recipe).named(name)


def with_overrides(
    recipe: Recipe, overrides: Sequence[str], *, section: str | None = None
) -> Recipe:
    """Return the recipe with overrides; defaults that it resolved once stay as they were resolved.

    Args:
        recipe: a resolved recipe.
        overrides: `key=value` as on the command line.
        section: where given, the only section that may change.

    Raises:
        RecipeError: with every mistake of the overrides.
        UsageError: an override is outside the section.
    """
    if section is not None:
        _check_section(overrides, section, type(getattr(recipe, section)))
    document = _document(to_dict(recipe), recipe.name)
    parsed, document.issues = parse_overrides(overrides)
    apply_overrides(document, parsed)
    return validate_document(document, Recipe).named(recipe.name)


@final
class _FitOptions(Spec):
    """The two sections that fitting a prior to codes needs."""

    fit_prior: LearnedPrior
    fitting: Fitting = Fitting()


def fit_options(
    prior: str, overrides: Sequence[str], *, latent_dim: int
) -> tuple[PriorSpec, Fitting]:
    """Return which prior to fit to codes, and how.

    Args:
        prior: a kind or a section, as `fit_prior=` takes it in a recipe.
        overrides: `fitting.KEY=VALUE`.
        latent_dim: L of the codes.

    Raises:
        RecipeError: with every mistake.
        UsageError: an override is of another section.
    """
    _check_section(overrides, "fitting", Fitting)
    document = _document({}, "codes")
    parsed, document.issues = parse_overrides([f"fit_prior={prior}", *overrides])
    apply_overrides(document, parsed)
    document.values = expand_shorthand(document.values)
    options = validate_document(document, _FitOptions)
    if (problem := options.fit_prior.validation_error(latent_dim)) is not None:
        location = document.location(("fit_prior",))
        raise RecipeError([ConfigIssue(location, "fit_prior", problem)])
    return options.fit_prior, options.fitting


def validate_document(document: ConfigDocument, schema: type[M]) -> M:
    """Return the document as a recipe, or as a part of one.

    Raises:
        RecipeError: with every mistake, by line.
    """
    issues = list(document.issues)
    try:
        model = schema.model_validate(document.values)
    except ValidationError as error:
        issues += issues_from(error, document)
    if issues:
        raise RecipeError(sorted(issues))
    return model


def _document(values: Mapping[str, Any], name: str) -> ConfigDocument:
    return ConfigDocument(dict(values), {(): SourceLocation((0, 0), name)})


def _check_section(overrides: Sequence[str], section: str, spec: type[BaseModel]) -> None:
    for override in overrides:
        if not override.startswith(f"{section}."):
            raise UsageError(
                f"{override}: only {section}.KEY=VALUE may change here",
                hint=f"Keys: {', '.join(spec.model_fields)}.",
            )

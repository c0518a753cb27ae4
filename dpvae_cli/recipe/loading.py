"""From a name, a file or a mapping, and overrides, to a frozen recipe or all mistakes; and back."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, final

import yaml
from pydantic import BaseModel, ValidationError

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.spec import Spec
from dpvae_cli.priors import LearnedPrior
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.recipe.document import (
    ConfigDocument,
    ConfigIssue,
    KeyPath,
    RecipeError,
    SourceLocation,
    YamlError,
    format_value,
    locate_recipe,
    plain_scalar,
    read_file,
    read_value,
    run_name,
    truncate,
)
from dpvae_cli.recipe.schema import (
    SECTIONS_WITH_KIND,
    Evaluation,
    Fitting,
    Recipe,
    expand_shorthand,
)
from dpvae_cli.recipe.validation import issues_from

M = TypeVar("M", bound=BaseModel)

LINE_LENGTH = 88
SAFE_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
YAML_1_1_WORDS = ("on", "off", "yes", "no", "y", "n")


@final
@dataclass(frozen=True)
class Override:
    """One value for a section, or for a field of one."""

    path: KeyPath
    value: Any
    location: SourceLocation


def parse_overrides(overrides: Sequence[str]) -> tuple[list[Override], list[ConfigIssue]]:
    """Return the overrides that can be read, and what is wrong with the others."""
    parsed: list[Override] = []
    issues: list[ConfigIssue] = []
    for index, text in enumerate(overrides):
        key, equals, value = text.partition("=")
        key = key.strip()
        location = SourceLocation((1, index), f"override {truncate(text, length=100)}", key)
        if not equals or not all(key.split(".")):
            problem = "an override is key=value, such as seed=1 or training.iterations=2000"
        else:
            problem = key_error(key) or ("" if value.strip() else "there is no value after =")
        try:
            if not problem:
                parsed.append(Override(tuple(key.split(".")), read_value(value), location))
        except YamlError as error:
            problem = f"{error.problem} (character {error.column} of the value)"
        if problem:
            issues.append(ConfigIssue(location, key, problem))
    return parsed, issues


def key_error(key: str) -> str | None:
    """Return why a key cannot be part of a recipe, or None where it may."""
    parts = key.split(".")
    if len(parts) > 2 or not all(parts):
        return "a key is `section` or `section.field`; nothing lies deeper"
    return None


def apply_overrides(document: ConfigDocument, overrides: Sequence[Override]) -> None:
    """Set the overrides in order, so that the last one wins; sections are created as needed."""
    for override in overrides:
        section, *field = (str(part) for part in override.path)
        if not field:
            document.set(override.path, override.value, override.location)
            continue
        if field == ["kind"] and section in SECTIONS_WITH_KIND:
            document.set((section,), {"kind": override.value}, override.location)
            continue
        default = Recipe.model_fields[section].default if section in Recipe.model_fields else None
        kind = getattr(default, "kind", None)
        fields = document.values.get(section, {} if kind is None else {"kind": kind})
        if isinstance(fields, str) and section in SECTIONS_WITH_KIND:
            fields = {"kind": fields}
        if not isinstance(fields, dict):
            problem = f"{section} is {format_value(fields)}, which has no fields"
            issue = ConfigIssue(override.location, override.location.key, problem)
            document.issues.append(issue)
            continue
        document.values[section] = fields
        document.locations.setdefault((section,), override.location)
        document.set(override.path, override.value, override.location)


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
    return load_with_overrides(locate_recipe(str(name_or_path)), *parse_overrides(overrides))


def load_with_overrides(
    path: Path, overrides: Sequence[Override], issues: Sequence[ConfigIssue] = ()
) -> Recipe:
    """Return the recipe of a file with overrides that are parsed already.

    Raises:
        RecipeError: with every mistake of the file and the overrides.
    """
    try:
        document = read_file(path)
    except RecipeError as error:
        raise RecipeError([*error.issues, *issues], hint=error.hint) from error
    document.issues.extend(issues)
    apply_overrides(document, overrides)
    return validate_document(document, Recipe).with_name(run_name(path))


def from_dict(values: Mapping[str, Any], *, name: str = "recipe") -> Recipe:
    """Return the recipe that `to_dict` wrote, as checkpoints hold it, under `name`.

    Raises:
        RecipeError: the values are not a recipe of this version.
    """
    return validate_document(_document(values, name), Recipe).with_name(name)


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
    document = _document(to_dict(recipe), recipe.name, overrides)
    return validate_document(document, Recipe).with_name(recipe.name)


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
    document = _document({}, "codes", [f"fit_prior={prior}", *overrides])
    if place := document.locations.get(("fit_prior",)):
        document.locations["fit_prior",] = replace(place, label=f"--prior {truncate(prior)}")
    document.values = expand_shorthand(document.values)
    options = validate_document(document, _FitOptions)
    if (problem := options.fit_prior.validation_error(latent_dim)) is not None:
        location = document.location(("fit_prior",))
        raise RecipeError([ConfigIssue(location, "fit_prior", problem)])
    return options.fit_prior, options.fitting


@final
class _EvaluationOptions(Spec):
    """The section that metrics of codes need."""

    evaluation: Evaluation = Evaluation()


def evaluation_options(overrides: Sequence[str]) -> Evaluation:
    """Return the sizes of metrics where there is no recipe.

    Raises:
        RecipeError: with every mistake.
        UsageError: an override is of another section.
    """
    _check_section(overrides, "evaluation", Evaluation)
    return validate_document(_document({}, "codes", overrides), _EvaluationOptions).evaluation


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


def _document(
    values: Mapping[str, Any], name: str, overrides: Sequence[str] = ()
) -> ConfigDocument:
    parsed, issues = parse_overrides(overrides)
    document = ConfigDocument(dict(values), {(): SourceLocation((0, 0), name)}, issues)
    apply_overrides(document, parsed)
    return document


def _check_section(overrides: Sequence[str], section: str, spec: type[BaseModel]) -> None:
    for override in overrides:
        if not override.startswith(f"{section}."):
            raise UsageError(
                f"{override}: only {section}.KEY=VALUE may change here",
                hint=f"Keys: {', '.join(spec.model_fields)}.",
            )


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe in plain JSON types: sections in the schema's order, `kind` first."""
    plain = recipe.model_dump(mode="json", by_alias=True)
    for key, value in plain.items():
        if isinstance(value, dict) and "kind" in value:
            plain[key] = {"kind": value["kind"], **value}
    return plain


def digest(recipe: Recipe) -> str:
    """Return 8 hexadecimal digits of what the recipe says, whatever its name."""
    canonical = json.dumps(to_dict(recipe), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=4).hexdigest()


def to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML that reads back as an equal one.

    Example:
        >>> from dpvae_cli.recipe import load_recipe, to_yaml
        >>> to_yaml(load_recipe("beta_h_moons")).splitlines()[:2]
        ['data:', '  kind: moons']
    """
    return "".join(f"{line}\n" for line in _mapping(to_dict(recipe), indent=""))


def _mapping(values: dict[str, Any], *, indent: str) -> list[str]:
    lines: list[str] = []
    for key, value in values.items():
        start = f"{indent}{key}:"
        if isinstance(value, dict):
            lines += [start, *_mapping(value, indent=indent + "  ")]
        elif isinstance(value, list) and len(start) + len(_flow(value)) >= LINE_LENGTH:
            lines += [start, *(f"{indent}  - {_flow(item)}" for item in value)]
        else:
            lines.append(f"{start} {_flow(value)}")
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if isinstance(value, str):  # plain where every YAML reader takes it for a string
        is_word = SAFE_WORD.fullmatch(value) and value.lower() not in YAML_1_1_WORDS
        if is_word and plain_scalar(value) == value:
            return value
        quoted = yaml.safe_dump(value, default_style='"', width=10**9, allow_unicode=True)
        return str(quoted).strip()
    if isinstance(value, float):  # the shortest exact spelling, with the point of YAML 1.1
        mantissa, e, exponent = repr(value).partition("e")
        return mantissa + (".0" if e and "." not in mantissa else "") + e + exponent
    return json.dumps(value)

"""From a name or a file and overrides to a study, or to all that is wrong with them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dpvae_cli.foundation.text import did_you_mean
from dpvae_cli.recipe.document import (
    ConfigDocument,
    ConfigIssue,
    KeyPath,
    RecipeError,
    SourceLocation,
    format_path,
    format_value,
    read_file,
)
from dpvae_cli.recipe.loading import key_error, parse_overrides
from dpvae_cli.recipe.validation import PROBLEMS, keys
from dpvae_cli.studies.catalogue import locate_study, study_error
from dpvae_cli.studies.figures import KINDS
from dpvae_cli.studies.schema import Study, default_axes

RECORD = "study.yaml"
NOT_THAT = {"dict_type": "is not a mapping", "model_attributes_type": "is not a figure"}
BOUNDS = {"min_length": "at least", "ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
LISTS = ("recipes", "metrics", "figures", "notes")


@final
@dataclass(frozen=True)
class LoadedStudy:
    """A study, its name, and where each part of it was written."""

    name: str
    study: Study
    tree: ConfigDocument

    def place(self, *path: str | int) -> SourceLocation:
        """Return where a part was written."""
        return self.tree.location(path)


def load_study(name_or_path: str, overrides: Sequence[str] = ()) -> LoadedStudy:
    """Return a packaged study or one from a file, with overrides from the command line.

    Args:
        name_or_path: `table1` (see `dpvae reproduce`) or `path/to/mine.yaml`.
        overrides: `key=value`: an axis of the study takes these values, a key of the study
            itself (`metrics=[skl]`) this value, any other is a recipe's key for all cells;
            `pattern:key=value` for the recipes whose name fits the pattern.

    Raises:
        RecipeError: with every mistake of the file and the overrides.

    Example:
        >>> from dpvae_cli.studies.loading import load_study
        >>> load_study("moons_quick", ["seed=[7, 8]"]).study.axes["seed"]
        (7, 8)
    """
    path = locate_study(name_or_path)
    try:
        tree = read_file(path)
    except RecipeError as error:
        raise study_error(error.issues) from error
    _apply(tree, overrides)
    # A study's own record, studies/x/study.yaml, is the study x.
    name = path.resolve().parent.name if path.name == RECORD else path.stem
    if name in ("", ".", ".."):
        problem = "a study is kept in studies/NAME, and this file gives it no name"
        raise study_error([ConfigIssue(SourceLocation((0, 0), str(path)), "", problem)])
    mistakes = list(tree.issues)
    try:
        study = Study.model_validate(tree.values)
        mistakes += _key_mistakes(study, tree)
    except ValidationError as error:
        mistakes += _issues_from(error, tree)
    if mistakes:
        raise study_error(sorted(mistakes))
    return LoadedStudy(name, study, tree)


def study_to_yaml(study: Study) -> str:
    """Return the study as YAML that reads back as an equal one."""
    plain = study.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=96)
    return str(text)


def _key_mistakes(study: Study, tree: ConfigDocument) -> list[ConfigIssue]:
    """Return keys that no recipe can have, and axes that are overridden as well."""
    written: list[KeyPath] = [("axes", key) for key in study.axes]
    written += [("overrides", key) for key in study.overrides]
    written += [
        ("overrides_for", p, key) for p, keys in study.overrides_for.items() for key in keys
    ]
    found = []
    for path in written:
        key = str(path[-1])
        problem = key_error(key)
        if problem is None and path[0] != "axes" and key in study.axes:
            problem = "is an axis already; one of the two"
        if problem is not None:
            found.append(ConfigIssue(tree.location(path), key, problem))
    return found


def _apply(tree: ConfigDocument, texts: Sequence[str]) -> None:
    """Write overrides over the tree: an axis, a key of the study, or a key of its recipes."""
    for index, text in enumerate(texts):
        before, _, _ = text.partition("=")
        pattern, colon, name = before.rpartition(":")
        place = SourceLocation((1, index), f"override {text}", name.strip())
        parsed, mistakes = parse_overrides([text.removeprefix(pattern + colon)])
        tree.issues.extend(replace(issue, location=place) for issue in mistakes)
        for override in parsed:
            key, value = ".".join(map(str, override.path)), override.value
            axes = tree.values.setdefault("axes", {k: list(v) for k, v in default_axes().items()})
            patterns = tree.values.get("overrides_for", {})
            if not pattern and isinstance(axes, dict) and key in axes:
                axes[key] = value if isinstance(value, list) else [value]
                _mark(tree, ("axes", key), place)
            elif not pattern and key in Study.model_fields:
                wrap = key in LISTS and not isinstance(value, list)
                tree.set((key,), [value] if wrap else value, place)
            elif isinstance(patterns, dict):  # else a mistake of the file, reported as such
                keys = patterns.pop(pattern or "*", {})
                if isinstance(keys, dict):
                    keys.pop(key, None)
                    keys[key] = value
                patterns[pattern or "*"] = keys  # behind all others, so that it wins
                tree.values["overrides_for"] = patterns
                _mark(tree, ("overrides_for", pattern or "*", key), place)


def _mark(tree: ConfigDocument, path: KeyPath, place: SourceLocation) -> None:
    for stale in [known for known in tree.locations if known[: len(path)] == path]:
        del tree.locations[stale]
    tree.locations[path] = place


def _issues_from(error: ValidationError, tree: ConfigDocument) -> list[ConfigIssue]:
    """Return one mistake for each place that pydantic complains about."""
    found: dict[KeyPath, ConfigIssue] = {}
    for detail in error.errors(include_url=False):
        path: KeyPath = detail["loc"]
        kind = None
        if path[:1] == ("figures",) and len(path) > 2 and path[2] in KINDS:
            kind, path = str(path[2]), (*path[:2], *path[3:])  # without the union's tag
        found.setdefault(
            path, ConfigIssue(tree.location(path), format_path(path), _problem(detail, kind))
        )
    return list(found.values())


def _problem(detail: ErrorDetails, kind: str | None) -> str:
    error_type, given = detail["type"], detail["input"]
    if error_type == "extra_forbidden":
        allowed = keys(KINDS[kind] if kind else Study)
        return f"unknown key (given {format_value(given)})" + _among(
            str(detail["loc"][-1]), allowed
        )
    if error_type in ("union_tag_invalid", "union_tag_not_found"):
        word = str(given.get("kind", "")) if isinstance(given, dict) else ""
        return f"{format_value(given)} has no kind there is" + _among(word, KINDS)
    if error_type == "missing" and isinstance(given, dict):
        field = Study.model_fields.get(str(detail["loc"][-1]))
        return f"is missing; {(field.description if field else None) or 'it is needed'}"
    if error_type == "value_error":
        return f"{format_value(given)} {detail['msg'].removeprefix('Value error, ')}"
    problem = NOT_THAT.get(error_type) or PROBLEMS.get(error_type) or f": {detail['msg']}"
    context: dict[str, Any] = detail.get("ctx", {})
    bounds = ", ".join(
        f"{word} {context[name]}" for name, word in BOUNDS.items() if name in context
    )
    expected = str(context.get("expected", bounds)).replace("'", "")
    right = f"; allowed: {expected}" if expected else ""
    right = "; write [a, b]" if error_type == "tuple_type" else right
    return f"{format_value(given)} {problem}{right}"


def _among(word: str, allowed: Iterable[str]) -> str:
    candidates = list(allowed)
    return f"{did_you_mean(word, candidates)}; allowed: {', '.join(candidates)}"

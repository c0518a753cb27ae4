"""Recipes as they are written: where they are, YAML with the line of every key, and mistakes.

Packaged recipes lie beside the package once installed, in `recipes/` of a checkout. One in a folder
of `recipes/` is named with it: `as_published/beta_tc_mnist`.

The file is read from PyYAML's event stream. No object is built from a tag and no alias is ever
followed, so the cost of a file is bounded by its length. Unquoted scalars mean what YAML 1.2 says:
`1e-4` is a number, `on` is a word.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

import yaml

from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.text import did_you_mean, expand_user, path_exists

KeyPath = tuple[str | int, ...]
Scalar = bool | int | float | str | None
MAX_VALUE_LENGTH = 60
MAX_LISTED = 40
SIZE_LIMIT = 1_000_000
DEPTH_LIMIT = 20
VALUE_LIMIT = 10_000
HINT = "A whole recipe with every key: dpvae recipes show beta_h_moons"

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (PACKAGE / "recipes", PACKAGE.parent / "recipes")
SUFFIXES = (".yaml", ".yml")
STUDIES = "studies"
"""A folder beside the recipes that holds no recipes."""
LIST_HINT = "All names: dpvae recipes ls"


@final
@dataclass(frozen=True, order=True)
class SourceLocation:
    """Where something was written: a line of a file, or an override on the command line.

    `rank` sorts files by line, then overrides in order; `key` is what the label itself names.
    """

    rank: tuple[int, int]
    label: str
    key: str = ""


@final
@dataclass(frozen=True, order=True)
class ConfigIssue:
    """One thing that is wrong, with the key and where it was written."""

    location: SourceLocation
    key: str
    problem: str

    def __str__(self) -> str:
        """Return `file.yaml:7: training.iteratons: problem` or `override key=value: problem`."""
        named = self.key and self.key != self.location.key
        return ": ".join([self.location.label, *([self.key] if named else []), self.problem])


@final
class RecipeError(UsageError):
    """A recipe, or a study of recipes, cannot be used; `issues` holds all that is wrong."""

    def __init__(
        self, issues: Sequence[ConfigIssue], *, hint: str | None = HINT, what: str = "recipe"
    ) -> None:
        self.issues = tuple(issues)
        self.what = what
        lines = [str(issue) for issue in issues[:MAX_LISTED]]
        if len(issues) > MAX_LISTED:
            lines.append(f"... and {len(issues) - MAX_LISTED} more")
        if len(issues) != 1:
            lines.insert(0, f"{len(issues)} mistakes in the {what}:")
        super().__init__("\n  ".join(lines), hint=hint)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error travel between processes."""
        made = partial(type(self), hint=self.hint, what=self.what)
        return made, (self.issues,)


def format_path(path: KeyPath) -> str:
    """Return `prior.masks[0]` for `("prior", "masks", 0)`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    text = text.removeprefix(".")
    return truncate(text if text.isprintable() else ascii(text))


def format_value(value: Any) -> str:
    """Return a value as it is written in a recipe, truncated."""
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return truncate(json.dumps(value, ensure_ascii=False, default=str))


def truncate(text: str, *, length: int = MAX_VALUE_LENGTH) -> str:
    """Return the text, or its beginning with three dots."""
    return text if len(text) <= length else text[: length - 3] + "..."


@final
@dataclass
class ConfigDocument:
    """What was written, where each part of it was written, and what is wrong with it so far."""

    values: dict[str, Any]
    locations: dict[KeyPath, SourceLocation]
    issues: list[ConfigIssue] = field(default_factory=list)

    def location(self, path: KeyPath) -> SourceLocation:
        """Return where `path` was written, or the nearest thing around it."""
        while path not in self.locations and path:
            path = path[:-1]
        return self.locations[path]

    def set(self, path: KeyPath, value: Any, location: SourceLocation) -> None:
        """Set a section, or a field of one."""
        for stale in [known for known in self.locations if known[: len(path)] == path]:
            del self.locations[stale]
        self.locations[path] = location
        target = self.values if len(path) == 1 else self.values[str(path[0])]
        target[str(path[-1])] = value


@final
class YamlError(Exception):
    """The text is not YAML, or YAML that recipes do not use; lines and columns count from 1."""

    def __init__(self, problem: str, *, line: int = 1, column: int = 1) -> None:
        super().__init__(problem)
        self.problem, self.line, self.column = problem, line, column


def read_file(path: Path) -> ConfigDocument:
    """Return the recipe file as written, not yet checked against the schema.

    Raises:
        RecipeError: the file cannot be opened, or is not the YAML that recipes use.
    """
    try:
        return parse_document(text_of(path), str(path))
    except YamlError as error:
        raise _file_error(path, error.problem, error.line, error.column) from None


def text_of(path: Path) -> str:
    """Return the text of a recipe file, comments and all.

    Raises:
        RecipeError: the file cannot be opened, is too large or is not UTF-8.
    """
    try:
        with expand_user(path).open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except IsADirectoryError:
        run = path / "recipe.yaml"
        known = f"; did you mean {run}?" if run.is_file() else ""
        raise _file_error(path, f"this is a folder, not a recipe file{known}") from None
    except (OSError, ValueError) as error:
        raise _file_error(path, f"cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(content) > SIZE_LIMIT:
        raise _file_error(path, "is larger than 1 MB, which no recipe is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8 text"
        place = _line_and_column(content[: error.start].decode("latin-1"))
        raise _file_error(path, problem, *place) from None


def _file_error(path: Path, problem: str, line: int = 0, column: int = 0) -> RecipeError:
    label = f"{path}:{line}:{column}" if line else str(path)
    return RecipeError([ConfigIssue(SourceLocation((0, line), label), "", problem)])


def _line_and_column(before: str) -> tuple[int, int]:
    """Return where the character after this text is, both counted from 1."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def parse_document(text: str, source: str) -> ConfigDocument:
    """Return the recipe in `text`, whose lines are named after `source`."""
    parser = _Parser(text)
    values = parser.document()
    if not isinstance(values, dict):
        raise YamlError("a recipe is a mapping of sections, such as `data: moons`")
    places = {
        path: SourceLocation((0, line), f"{source}:{line}") for path, line in parser.lines.items()
    }
    repeated = [
        ConfigIssue(
            SourceLocation((0, line), f"{source}:{line}"),
            format_path(path),
            f"is given twice, first in line {parser.lines[path]}; keep one",
        )
        for path, line in parser.repeated
    ]
    return ConfigDocument(values, {(): SourceLocation((0, 1), f"{source}:1")} | places, repeated)


def read_value(text: str) -> Any:
    """Return the value of an override.

    Raises:
        YamlError: the text is not a single YAML value.
    """
    parser = _Parser(text)
    value = parser.document()
    if parser.repeated:
        raise YamlError(f"{format_path(parser.repeated[0][0])} is given twice")
    return value


@final
class _Parser:
    """Builds plain values from one document; `lines` holds the line of every key and item."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.repeated: list[tuple[KeyPath, int]] = []
        self._text = text
        self._count = 0
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)

    def document(self) -> Any:
        """Return the value of the one document."""
        try:
            next(self._events)
            if isinstance(next(self._events), yaml.StreamEndEvent):
                raise YamlError("the text is empty; a recipe has sections, such as `data: moons`")
            value = self._value(next(self._events), ())
            next(self._events)
            if not isinstance(event := next(self._events), yaml.StreamEndEvent):
                raise _at(event, "a second document (---) begins here; a recipe is one document")
        except yaml.reader.ReaderError as error:
            problem = (
                f"character U+{ord(self._text[error.position]):04X} is not allowed in a recipe"
            )
            line, column = _line_and_column(self._text[: error.position])
            raise YamlError(problem, line=line, column=column) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            context = f" ({error.context})" if error.context else ""
            raise YamlError(
                f"this is not readable as YAML: {error.problem}{context}; compare its indentation "
                "with the lines before",
                line=mark.line + 1 if mark else 1,
                column=mark.column + 1 if mark else 1,
            ) from None
        return value

    def _value(self, event: yaml.Event, path: KeyPath) -> Any:
        _check_event(event)
        if len(path) > DEPTH_LIMIT:
            raise _at(event, f"this is nested deeper than {DEPTH_LIMIT} levels")
        self._count += 1
        if self._count > VALUE_LIMIT:
            raise _at(event, f"there are more than {VALUE_LIMIT:,} values; this is not a recipe")
        if isinstance(event, yaml.ScalarEvent):
            return plain_scalar(event.value) if event.implicit[0] else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                self.lines[*path, len(items)] = _line(item)
                items.append(self._value(item, (*path, len(items))))
            return items
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            _check_event(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _at(event, "a key is a word, not a list or mapping")
            if event.value == "<<" and event.implicit[0]:
                raise _at(event, "merge keys (<<) are not used in recipes; write the fields out")
            key, line = str(event.value), _line(event)
            value = self._value(next(self._events), (*path, key))
            if key in values:
                self.repeated.append(((*path, key), line))
            else:
                values[key] = value
                self.lines[*path, key] = line
        return values


def _check_event(event: yaml.Event) -> None:
    """Raise on aliases, anchors and tags, before anything is built from them."""
    anchor: str | None = getattr(event, "anchor", None)
    tag: str | None = getattr(event, "tag", None)
    if isinstance(event, yaml.AliasEvent):
        raise _at(event, f"*{truncate(str(anchor))} is an alias; write its value out, or quote it")
    if anchor is not None:
        raise _at(event, f"&{truncate(anchor)} is an anchor; write values out, or quote this one")
    if tag is not None:
        raise _at(
            event, f"the tag {truncate(tag)} is not used in recipes; leave it out, or quote it"
        )


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _at(event: yaml.Event, problem: str) -> YamlError:
    column = event.start_mark.column + 1 if event.start_mark else 1
    return YamlError(problem, line=_line(event), column=column)


# Numbers longer than any sensible one stay text, so that no digit string costs time.
INTEGER = re.compile(r"[-+]?[0-9]{1,300}")

HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,64}")

OCTAL = re.compile(r"0o[0-7]{1,64}")

FLOAT = re.compile(r"[-+]?(\.[0-9]{1,300}|[0-9]{1,300}(\.[0-9]{0,300})?)([eE][-+]?[0-9]{1,9})?")

WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")

NOT_A_NUMBER = (".nan", ".NaN", ".NAN")


def plain_scalar(text: str) -> Scalar:
    """Return what an unquoted scalar stands for.

    One rule is ours: a whole number in scientific notation without a point, `1e5`, is an
    integer, since counts are written so.
    """
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    if HEXADECIMAL.fullmatch(text) or OCTAL.fullmatch(text):
        return int(text, base=0)
    if FLOAT.fullmatch(text):
        value = float(text)
        return int(value) if "." not in text and value.is_integer() else value
    if match := INFINITY.fullmatch(text):
        return float(f"{match[1]}inf")
    return float("nan") if text in NOT_A_NUMBER else text


def recipe_folder() -> Path:
    """Return the folder that holds the packaged recipes.

    Raises:
        MissingError: the installation has none.
    """
    for candidate in FOLDERS:
        if (candidate / "beta_h_moons.yaml").is_file():
            return candidate
    raise MissingError(
        "the packaged recipes are missing from " + " and ".join(map(str, FOLDERS)),
        hint="Reinstall dpvae-cli.",
    )


def recipe_names() -> list[str]:
    """Return the names of the packaged recipes, sorted, those in folders last."""
    base = recipe_folder()
    files = [path.relative_to(base) for path in base.rglob("*.yaml")]
    found = [path.with_suffix("").as_posix() for path in files if path.parts[0] != STUDIES]
    return sorted(found, key=lambda name: (name.count("/"), name))


def run_name(path: Path) -> str:
    """Return what a recipe's runs are called: `as_published/vae_svhn` is `as_published_vae_svhn`.

    Other files give their stem alone.
    """
    for base in FOLDERS:
        if path.resolve().is_relative_to(base.resolve()):
            return "_".join(path.resolve().with_suffix("").relative_to(base.resolve()).parts)
    return path.stem


def recipe_title(name: str) -> str:
    """Return the first line of a packaged recipe's header."""
    return first_line(recipe_folder() / f"{name}.yaml")


def first_line(path: Path) -> str:
    """Return the first line of a file's header, without its mark."""
    first, _, _ = path.read_text(encoding="utf-8").partition("\n")
    return first.lstrip("# ").rstrip()


def locate_recipe(name_or_path: str) -> Path:
    """Return the file of a packaged recipe, or the path itself.

    Raises:
        RecipeError: there is neither a packaged recipe nor a file of that name.
    """
    if name_or_path in recipe_names():
        return recipe_folder() / f"{name_or_path}.yaml"
    path = expand_user(name_or_path)
    if path_exists(path):
        return path
    if path.suffix in SUFFIXES or os.sep in name_or_path:
        bare = name_or_path.removesuffix(path.suffix if path.suffix in SUFFIXES else "")
        near = did_you_mean(bare, recipe_names())
        near = near or did_you_mean(path.stem, recipe_names())
        raise _unknown_recipe(name_or_path, "there is no such file" + near)
    own = [file.name for file in Path().glob(f"*{SUFFIXES[0]}")]
    raise _unknown_recipe(
        name_or_path,
        "there is no packaged recipe of that name"
        + did_you_mean(name_or_path, [*recipe_names(), *own]),
    )


def _unknown_recipe(name: str, problem: str) -> RecipeError:
    return RecipeError(
        [ConfigIssue(SourceLocation((0, 0), truncate(name, length=200)), "", problem)],
        hint=LIST_HINT,
    )

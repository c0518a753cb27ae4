"""YAML as recipes use it: mappings, lists and scalars, every key with its line, nothing else.

The file is read from PyYAML's event stream. No object is built from a tag and no alias is ever
followed, so the cost of a file is bounded by its length.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import yaml

from dpvae_cli.foundation.text_files import expand_user
from dpvae_cli.recipe.issues import (
    ConfigIssue,
    KeyPath,
    RecipeError,
    SourceLocation,
    format_path,
    truncate,
)
from dpvae_cli.recipe.scalars import plain_scalar

SIZE_LIMIT = 1_000_000
DEPTH_LIMIT = 20
VALUE_LIMIT = 10_000


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
    text = text_of(path)
    try:
        return parse_document(text, str(path))
    except YamlError as error:
        raise _recipe_error(path, error) from None


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
        raise _unreadable(path, f"this is a folder, not a recipe file{known}") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, f"cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(content) > SIZE_LIMIT:
        raise _unreadable(path, "is larger than 1 MB, which no recipe is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        problem = YamlError(
            f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8 text",
            line=before.count(b"\n") + 1,
            column=error.start - before.rfind(b"\n"),
        )
        raise _recipe_error(path, problem) from None


def _recipe_error(path: Path, error: YamlError) -> RecipeError:
    label = f"{path}:{error.line}:{error.column}"
    return RecipeError([ConfigIssue(SourceLocation((0, error.line), label), "", error.problem)])


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


def _unreadable(path: Path, problem: str) -> RecipeError:
    return RecipeError([ConfigIssue(SourceLocation((0, 0), str(path)), "", problem)])


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
            before = self._text[: error.position]
            raise YamlError(
                f"character U+{ord(self._text[error.position]):04X} is not allowed in a recipe",
                line=before.count("\n") + 1,
                column=error.position - before.rfind("\n"),
            ) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            context = f" ({error.context})" if error.context else ""
            raise YamlError(
                f"this is not readable as YAML: {error.problem}{context}",
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
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                self.lines[*path, len(items)] = _line(item)
                items.append(self._value(item, (*path, len(items))))
            return items
        assert isinstance(event, yaml.ScalarEvent)
        return plain_scalar(event.value) if event.implicit[0] else event.value

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
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

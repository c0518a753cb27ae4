"""The pages of the documentation and how their code blocks are run.

- `python` blocks of a page share a namespace.
- `console` blocks: every line beginning with `dpvae` (or `$ dpvae`) is run. The lines under it,
  if any, must occur in its output in this order; `...` stands for omitted lines, and `Error:` means
  that the command fails.
- `yaml` blocks that begin with `# NAME.yaml` are written to that file; all others that hold a whole
  recipe must be valid.
- Other blocks, such as `sh`, are not run.

Blocks run in order in an empty folder.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.recipe import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CLI_PAGE = ROOT / "docs" / "cli.md"
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WHOLE_RECIPE = ("data:", "architecture:", "likelihood:", "regularizer:")


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line of the page it begins in."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)))
        for found in FENCED.finditer(text)
    ]


def play(page: Path) -> None:
    """Run a page's blocks in the current folder."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            code = compile("\n" * block.line + block.text, str(page), "exec")
            exec(code, namespace)
        elif block.language == "console":
            play_console(block.text)
        elif block.language == "yaml":
            play_yaml(block.text)


def play_console(text: str) -> None:
    """Run the commands of a block and look for the lines shown under each of them."""
    found = list(commands(text))
    assert found, f"a console block without a command:\n{text}"
    for words, shown in found:
        assert not {"|", ">", "&&", ";"} & set(words), f"no shell here: {words}"
        done = CliRunner().invoke(app, words)
        fails = any(line.startswith("Error:") for line in shown)
        assert (done.exit_code != 0) == fails, f"{words}\n{done.output}\n{done.exception!r}"
        look_for(shown, done.output)


def commands(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the arguments of each command with the output lines shown under it."""
    parts = re.split(r"^(?:\$ )?dpvae ", text.replace("\\\n", " "), flags=re.MULTILINE)
    assert not parts[0].strip(), f"output without a command: {parts[0]}"
    for part in parts[1:]:
        command, *shown = part.splitlines()
        yield shlex.split(command, comments=True), [plain(line) for line in shown if line.strip()]


def look_for(shown: list[str], output: str) -> None:
    """Assert that the shown lines stand in the output in their order."""
    printed = iter([plain(line) for line in output.splitlines()])
    for line in shown:
        assert line == "..." or line in printed, f"{line!r} is not there or not in place:\n{output}"


def plain(line: str) -> str:
    """Return a line with single spaces."""
    return " ".join(line.split())


def play_yaml(text: str) -> None:
    """Write a named block to its file; check a nameless whole recipe."""
    named = re.match(r"# (\S+\.yaml)\n", text)
    name = named[1] if named else "block.yaml"
    lines = text.splitlines()
    whole = all(any(line.startswith(part) for line in lines) for part in WHOLE_RECIPE)
    if named or whole:
        Path(name).write_text(text, encoding="utf-8")
    if whole and not named:
        load_recipe(name)

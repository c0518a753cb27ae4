"""docs/cli.md names every option of every command, no other, and every exit code."""

import re

import pytest
import typer

from dpvae_cli.cli.app import app
from dpvae_cli.foundation import errors
from dpvae_cli.training.events import OTHERS, URGENT
from tests.docs.pages import CLI_PAGE

HEADING = re.compile(r"^#+ `(dpvae[\w -]*)`$", re.MULTILINE)
OPTION = re.compile(r"`(--?[a-z][a-z-]*)")


def walk(command, path="dpvae"):
    """Yield every command with the words that call it."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, f"{path} {name}")


COMMANDS = dict(walk(typer.main.get_command(app)))


def sections():
    """Return the text under the heading of each command, up to the next heading."""
    parts = re.split(r"^(?=#+ )", CLI_PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {found[1]: part for part in parts if (found := HEADING.match(part))}


def options(command):
    return {
        spelling
        for parameter in command.params
        if parameter.param_type_name == "option"
        for spelling in [*parameter.opts, *parameter.secondary_opts]
    }


def test_every_command_has_a_section():
    groups_and_commands = set(COMMANDS)
    assert set(sections()) == groups_and_commands


@pytest.mark.parametrize("path", COMMANDS)
def test_a_section_names_the_options_of_its_command(path):
    named = set(OPTION.findall(sections()[path])) - {"--help"}
    assert named == options(COMMANDS[path])


def test_every_exit_code_is_listed():
    page = CLI_PAGE.read_text(encoding="utf-8")
    classes = [errors.DpvaeError, *errors.DpvaeError.__subclasses__()]
    codes = (
        {0} | {128 + number for number in (*URGENT, *OTHERS)} | {each.exit_code for each in classes}
    )
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.M)} == codes

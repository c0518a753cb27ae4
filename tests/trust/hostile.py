"""Input that nobody sane writes: hypothesis strategies for recipes, overrides, studies, arguments.

Most cases begin from something valid and change one place of it, since what is wrong everywhere is
refused at the door.
"""

import json
from pathlib import Path
from typing import NamedTuple

import typer
from hypothesis import strategies as st

from dpvae_cli.cli.app import app
from dpvae_cli.recipe import Recipe, load_recipe, to_yaml
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND
from dpvae_cli.recipe.validation import keys, kinds, spec_class
from tests.small import SMALL

CHEAP = ("vae_moons", "beta_b_moons", "beta_tc_moons", "factor_moons", "info_moons")
"""Packaged recipes whose dry run takes a moment."""
KINDS = tuple(kind for section in SECTIONS_WITH_KIND for kind in kinds(section))
NUMBERS = (
    *("0", "-0", "-0.0", "-1", "1", "2", "0.5", "1e400", "-1e400", "1e-400", "1e30", "1e18", "1e9"),
    *(".nan", ".inf", "-.inf", "nan", "inf", str(2**63), str(-(2**64)), "9" * 400, "0x" + "f" * 70),
    *("1_000", "1,5", "١٢", "1e5", "100000000", "1.7976931348623157e308", "5e-324"),
)
OTHERS = (
    *("", "~", "null", "true", "on", "[]", "{}", "[1, 2]", "[-1]", "[[[[1]]]]", "{kind: moons}"),
    *("{a: 1, a: 2}", "'8000'", r'"\ud800"', r'"\0"', r'"\e[31m"', r'"\u202e"', "\x1b[31m", "\x00"),
    *("*x", "&x 1", "!!python/object/apply:os.system [id]", "!!binary aGk=", "!x", "<<: {a: 1}"),
    *("|\n  text", "? a", "- a", "a: b: c", "@", "%", "`", "[1", "{", "é漢字", "\u200b", "🙂" * 30),
    *(
        "x" * 5_000,
        "[" * 30,
        "[" * 19 + "]" * 19,
        "{a: " * 30,
        "[" + "1, " * 200 + "1]",
        "[[0, 1]]",
    ),
    *("..", "/", "a/b", "~nobody/x", "$(id)", "%s", "{0}", "\\", "'", '"', "#", ": ", "=", "a=b"),
)
WORDS = st.sampled_from(KINDS + CHEAP + ("halves", "batch", "bf16", "float64", "threshold", "red"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
VALUES = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(OTHERS),
    WORDS,
    PLAIN.map(json.dumps),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(max_size=40),
)
"""What may stand where a value does, as text."""


class Case(NamedTuple):
    """A file's content, overrides, and what an error about it must name one of."""

    content: bytes
    overrides: tuple[str, ...]
    named: tuple[str, ...]


def fields() -> list[str]:
    """Return every `section` and `section.key` that a recipe can have."""
    found = list(Recipe.model_fields)
    for section in Recipe.model_fields:
        for spec in [*kinds(section).values(), spec_class(section, None)]:
            found += [f"{section}.{key}" for key in keys(spec)] if spec else []
    return sorted(set(found))


FIELDS = fields()
BASES = {name: to_yaml(load_recipe(name, SMALL)) for name in ("vae_moons", "beta_tc_moons")} | {
    name: to_yaml(load_recipe(name)) for name in ("beta_h_digits", "factor_moons", "vae_mnist")
}
STUDY = """\
title: Tiny
question: Does it help?
recipes: [vae_moons]
axes:
  prior: [standard_normal, decoupled]
  seed: [0, 1]
overrides:
  training.iterations: 20
overrides_for:
  vae_*:
    training.batch_size: 16
metrics: [skl, leak]
figures:
- kind: leakage
  cells: ['*']
- {kind: traversal, between: [[0, 1]], steps: 5}
published: table1
notes: [Short.]
"""


@st.composite
def changed(draw, base: str) -> tuple[str, tuple[str, ...]]:
    """Return a YAML text with one line changed, and the words an error may name it by."""
    lines = base.splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    line = lines[at]
    key, _, _ = line.partition(":")
    section = next(each for each in reversed(lines[: at + 1]) if not each.startswith((" ", "-")))
    word, indent = key.strip(" -{"), line[: len(line) - len(line.lstrip())]
    match draw(st.integers(0, 7)):
        case 0 | 1 | 2:
            lines[at] = f"{key}: {draw(VALUES)}"
        case 3:
            lines.insert(at, line)
        case 4:
            lines.insert(at, f"{indent}{draw(st.sampled_from(OTHERS) | st.text(max_size=9))}: 1")
        case 5:
            del lines[at]
        case 6:
            lines[at] = f" {line}"
        case _:
            lines[at] = draw(VALUES)
    return "\n".join(lines) + "\n", (word, section.partition(":")[0], "mine.yaml")


@st.composite
def spoilt(draw, base: str) -> bytes:
    """Return bytes: some of them exchanged, cut off, repeated or put in front."""
    content = base.encode()
    at = draw(st.integers(0, len(content)))
    some = draw(
        st.binary(max_size=8) | st.sampled_from([b"\xff", b"\xc3\x28", b"\x00", b"\xef\xbb"])
    )
    match draw(st.integers(0, 4)):
        case 0:
            return content[:at] + some + content[at:]
        case 1:
            return content[:at] + some + content[at + len(some) :]
        case 2:
            return content[:at]
        case 3:
            return content * draw(st.integers(2, 40))
        case _:
            return draw(st.sampled_from([b"", b"\xff\xfe", b"\n", b"---\n", b"- a\n", some]))


@st.composite
def recipes(draw) -> Case:
    """Return a recipe file with something wrong in it, or nearly."""
    base = BASES[draw(st.sampled_from(sorted(BASES)))]
    if draw(st.integers(0, 3)) == 0:
        return Case(draw(spoilt(base)), (), ("mine.yaml",))
    text, named = draw(changed(base))
    return Case(text.encode("utf-8", "surrogatepass"), (), named)


@st.composite
def overridden(draw) -> Case:
    """Return a good recipe with overrides of which any may be bad."""
    texts, named = [], ["override"]
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(FIELDS) | st.sampled_from(FIELDS) | st.text(max_size=12))
        texts.append(f"{key}={draw(VALUES)}")
        named += key.split(".")
    named += ["mine.yaml", "No such option"]
    return Case(BASES["vae_moons"].encode(), tuple(texts), tuple(filter(None, named)))


@st.composite
def studies(draw) -> Case:
    """Return a study file with something wrong in it, or overrides of a good one."""
    if draw(st.booleans()):
        if draw(st.integers(0, 4)) == 0:
            return Case(draw(spoilt(STUDY)), (), ("mine.yaml",))
        text, named = draw(changed(STUDY))
        return Case(text.encode("utf-8", "surrogatepass"), (), (*named, "study", "recipe"))
    pattern = draw(st.sampled_from(["", "", "*:", "vae_*:", "[:", "nothing:"]))
    own = ("metrics", "figures", "recipes", "title", "axes", "seed", "prior", "published", "notes")
    key = draw(st.sampled_from(own) | st.sampled_from(FIELDS))
    return Case(STUDY.encode(), (f"{pattern}{key}={draw(VALUES)}",), (*key.split("."), "override"))


def commands() -> dict[tuple[str, ...], list[typer.core.TyperOption]]:
    """Return every command that is none of commands, with its options."""
    found = {}

    def walk(command, words):
        inner = getattr(command, "commands", None)
        for name, child in (inner or {}).items():
            walk(child, (*words, name))
        if inner is None:
            found[words] = [p for p in command.params if p.param_type_name == "option"]

    walk(typer.main.get_command(app), ())
    return found


COMMANDS = commands()
POSITIONAL = st.one_of(
    st.sampled_from(
        ["run", "run/checkpoint.pt", "vae_moons", "mine.yaml", "moons_quick", "nowhere"]
    ),
    st.sampled_from(
        [".", "..", "", "-", "--", "a=b", "seed=1", "evaluation.samples=20", "x" * 300]
    ),
    VALUES,
)
SMALL_VALUES = st.sampled_from(
    (
        *(
            "-1",
            "0",
            "1",
            "3",
            "1e3",
            "nan",
            "-inf",
            "9" * 30,
            "9" * 5_000,
            "x",
            "",
            "z",
            "both",
            "cpu",
        ),
        *("generation", "png", "test", "skl", "fid", "leak,nll", "all", "picture.png", "x" * 300),
    )
)
HOW = {"train": ["--dry-run"], "reproduce": ["--dry-run"]}
"""What keeps a command from working for minutes where the arguments happen to be good."""


@st.composite
def arguments(draw) -> list[str]:
    """Return a command with options and values that may fit each other or not."""
    words = draw(st.sampled_from(sorted(COMMANDS)))
    found = [*words, *HOW.get(words[0], [])]
    options = COMMANDS[words]
    for option in draw(st.lists(st.sampled_from(options), max_size=4)) if options else []:
        found.append(draw(st.sampled_from([*option.opts, *option.secondary_opts])))
        if not option.is_flag:
            found += [_inside(draw(SMALL_VALUES | VALUES)) for _ in range(option.nargs)]
    found += [_inside(draw(POSITIONAL)) for _ in range(draw(st.integers(0, 2)))]
    return found


def _inside(text: str) -> str:
    """Return a word that names no place outside of the current folder, and no completion."""
    return "x" if Path(text).is_absolute() or "completion" in text else text

"""YAML as recipes use it, and everything that is refused."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpvae_cli.recipe.document import (
    DEPTH_LIMIT,
    YamlError,
    parse_document,
    plain_scalar,
    read_value,
)
from tests.recipe.writing import MINIMAL, mistakes, written


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("1e5", 100_000),
        ("1E3", 1000),
        ("1.0e3", 1000.0),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("null", None),
        ("~", None),
        ("'1'", "1"),
        ('"true"', "true"),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("1e999", math.inf),
        ("[1, [a, .5]]", [1, ["a", 0.5]]),
        ("{kind: x, on: 1}", {"kind": "x", "on": 1}),
    ],
)
def test_values_are_read_as_yaml_1_2_reads_them(text, value):
    read = read_value(text)
    assert read == value
    assert type(read) is type(value)


def test_not_a_number_is_read():
    assert math.isnan(read_value(".nan"))


@settings(deadline=None)
@given(st.text("0123456789+-.eExo_infaINF~ntrulfs", max_size=12))
def test_any_plain_scalar_is_read_without_failing(text):
    assert isinstance(plain_scalar(text), (bool, int, float, str, type(None)))


@settings(deadline=None)
@given(st.floats(allow_nan=False), st.integers())
def test_numbers_as_python_writes_them_keep_their_value(number, whole):
    assert plain_scalar(repr(number).replace("inf", ".inf")) == number
    assert plain_scalar(str(whole)) == whole


def test_every_key_and_item_knows_its_line():
    tree = parse_document("# comment\ndata:\n  kind: moons\n\n  noise: [1,\n    2]\n", "x.yaml")
    lines = {path: place.label for path, place in tree.locations.items()}
    assert lines == {
        (): "x.yaml:1",
        ("data",): "x.yaml:2",
        ("data", "kind"): "x.yaml:3",
        ("data", "noise"): "x.yaml:5",
        ("data", "noise", 0): "x.yaml:5",
        ("data", "noise", 1): "x.yaml:6",
    }


DEEP = "[" * (DEPTH_LIMIT + 2) + "]" * (DEPTH_LIMIT + 2)
BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("text", "line_and_column", "what"),
    [
        ("", "1:1", "the text is empty"),
        ("# only\n# comments\n", "1:1", "the text is empty"),
        ("- a\n", "1:1", "a recipe is a mapping"),
        ("moons\n", "1:1", "a recipe is a mapping"),
        (MINIMAL + "seed: &a 1\n", "5:7", "&a is an anchor"),
        (MINIMAL + "seed: *a\n", "5:7", "*a is an alias"),
        (MINIMAL + "training:\n  <<: {iterations: 3}\n", "6:3", "merge keys"),
        (MINIMAL + "seed: !!int '3'\n", "5:7", "the tag tag:yaml.org,2002:int"),
        (MINIMAL + "seed: !!python/object/apply:os.getcwd []\n", "5:7", "the tag"),
        (MINIMAL + "---\n" + MINIMAL, "5:1", "a second document"),
        (MINIMAL + "? [a]\n: 1\n", "5:3", "a key is a word"),
        (MINIMAL + f"x: {DEEP}\n", "5:24", "nested deeper than 20 levels"),
        (MINIMAL + "x: a: b\n", "5:5", "not readable as YAML: mapping values are not allowed"),
        (MINIMAL + "x: [1,\n", "6:1", "not readable as YAML"),
        (MINIMAL + "x:\n\ty: 1\n", "6:1", "not readable as YAML"),
        (MINIMAL + "x: \0\n", "5:4", "character U+0000"),
        (MINIMAL.encode() + b"x: caf\xe9\n", "5:7", "byte 0xe9 is not UTF-8"),
        (MINIMAL.encode("utf-16"), "1:1", "is not UTF-8"),
        (BOMB, "1:4", "&a is an anchor"),
        ("a: [" + "1, " * 20_000 + "]", "1:29999", "more than 10,000 values"),
        ("[" * 400_000, "1:22", "nested deeper"),
        ("{a: " * 200_000, "1:85", "nested deeper"),
        ("x: " + "!" * 900_000, "1:4", "the tag"),
    ],
)
def test_other_yaml_is_refused_with_its_place(tmp_path, text, line_and_column, what):
    began = time.perf_counter()
    found = mistakes(written(tmp_path, text))
    assert len(found) == 1
    assert found[0].startswith(f"mine.yaml:{line_and_column}: ")
    assert what in found[0]
    assert len(found[0]) < 200
    assert time.perf_counter() - began < 10


def test_a_file_over_one_megabyte_is_refused(tmp_path):
    path = written(tmp_path, MINIMAL + "#" * 1_000_000)
    assert mistakes(path) == ["mine.yaml: is larger than 1 MB, which no recipe is"]


@pytest.mark.parametrize("text", ["\ufeff" + MINIMAL, MINIMAL.replace("\n", "\r\n")])
def test_byte_order_marks_and_windows_lines_are_read(tmp_path, text):
    path = written(tmp_path, text + "sed: 1")
    assert mistakes(path)[0].startswith("mine.yaml:5: sed: unknown key")


def test_a_key_given_twice_is_one_mistake_among_others(tmp_path):
    found = mistakes(written(tmp_path, MINIMAL + "seed: 1\nsede: 2\nseed: 3\n"))
    assert found == [
        "mine.yaml:6: sede: unknown key (given 2); did you mean seed?; allowed: data, "
        "architecture, likelihood, prior, regularizer, training, fit_prior, fitting, evaluation, "
        "seed",
        "mine.yaml:7: seed: is given twice, first in line 5; keep one",
    ]


@pytest.mark.parametrize("text", ["*.npy", "&a 1", "!x 1", "[1", "{a: 1, a: 2}", "--- 1\n--- 2"])
def test_values_of_overrides_are_refused_alike(text):
    with pytest.raises(YamlError):
        read_value(text)

"""What is written reads back as the same recipe, whatever the kinds and values."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpvae_cli.foundation.spec import MAX_FLOAT
from dpvae_cli.recipe import (
    Recipe,
    RecipeError,
    digest,
    document,
    from_dict,
    load_recipe,
    to_dict,
    to_yaml,
)
from dpvae_cli.recipe.document import parse_document
from dpvae_cli.recipe.loading import validate_document
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND
from dpvae_cli.recipe.validation import field_schema, keys, kinds, spec_class

PAIRS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2, unique=True).map(sorted)
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "latent_dim": st.integers(2, 5),
    "blocks": st.integers(2, 9),
    "masks": st.sampled_from(["halves", "alternating"]),
    "log_variance_range": PAIRS,
    "range": st.none() | PAIRS,
    "floor": st.floats(1e-9, 1e-3),
    "probabilities": st.sampled_from([None, False]),  # true is for networks of one's own
    "scale": st.floats(1e-2, 1e30),
    "alpha": st.floats(0, 1),  # with lambda, at least 1 in sum
    "lambda": st.floats(1, 1e6),
}

KINDS = {section: sorted(kinds(section)) for section in SECTIONS_WITH_KIND}
SCHEMAS = {
    (section, kind): {
        key: field_schema((section, key), kind)
        for key in sorted(set(keys(spec_class(section, kind))) - {"kind"})
    }
    for section, section_kinds in (KINDS | {"training": [None], "evaluation": [None]}).items()
    for kind in section_kinds
}
SEED = field_schema(("seed",), None)


def strategy(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that a field's JSON Schema allows."""
    if "anyOf" in schema:
        return st.one_of(*(strategy(branch) for branch in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "string": st.text(),
        "integer": st.integers(
            -(10**12) if low is None else int(low) + 1, 10**12 if high is None else int(high)
        ),
        "number": st.floats(
            -MAX_FLOAT if low is None else low,
            MAX_FLOAT if high is None else high,
            exclude_min="exclusiveMinimum" in schema,
            exclude_max="exclusiveMaximum" in schema,
            allow_nan=False,
            allow_infinity=False,
        ),
        "array": st.lists(st.deferred(lambda: strategy(schema["items"])), max_size=9),
    }[schema["type"]]


@st.composite
def written_recipes(draw: st.DrawFn) -> dict[str, Any]:
    values: dict[str, Any] = {"seed": draw(strategy(SEED))}
    chosen = [(section, draw(st.sampled_from(KINDS[section]))) for section in SECTIONS_WITH_KIND]
    for section, kind in [*chosen, ("training", None), ("evaluation", None)]:
        values[section] = {} if kind is None else {"kind": kind}
        for key, schema in SCHEMAS[section, kind].items():
            special = SPECIAL.get(key) if key != "scale" or section == "likelihood" else None
            values[section][key] = draw(strategy(schema) if special is None else special)
    return values


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(written_recipes())
def test_yaml_and_dict_read_back_as_an_equal_recipe(values):
    recipe = from_dict(values)
    text = to_yaml(recipe)
    assert validate_document(parse_document(text, "dump"), Recipe) == recipe
    assert from_dict(to_dict(recipe)) == recipe
    assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(written_recipes())
def test_any_yaml_reader_reads_the_same_values(values):
    recipe = from_dict(values)
    assert yaml.safe_load(to_yaml(recipe)) == to_dict(recipe)


@pytest.mark.parametrize(
    "text", ["on", "1e5", "null", "a b", "x: y", "# x", "*a", "é", "", "\u2028"]
)
def test_words_that_look_like_something_else_are_quoted(text):
    recipe = load_recipe("vae_moons", ["data={kind: arrays, path: x}"])
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": text})})
    assert f"path: {text}\n" not in to_yaml(recipe) or text == "é"
    assert validate_document(parse_document(to_yaml(recipe), "dump"), Recipe).data.path == text


def test_masks_are_read_back_and_long_ones_stand_in_rows():
    masks = [[1, 0], [0, 1]] * 10
    override = f"prior={{kind: decoupled, blocks: 20, masks: {masks}}}"
    recipe = load_recipe("vae_moons", [override])
    assert "  masks:\n    - [1, 0]\n    - [0, 1]\n" in to_yaml(recipe)
    assert from_dict(to_dict(recipe), name="vae_moons") == recipe


def test_the_dump_spells_every_default_out_in_the_order_of_the_schema():
    recipe = load_recipe("info_moons")
    values = yaml.safe_load(to_yaml(recipe))
    assert list(values) == list(Recipe.model_fields)
    for section in SECTIONS_WITH_KIND:
        if values[section] is None:
            continue
        spec = spec_class(section, values[section]["kind"])
        assert next(iter(values[section])) == "kind"
        assert set(values[section]) == set(keys(spec))
    assert "lambda" in values["regularizer"]
    assert "  hidden: [100, 50]\n" in to_yaml(recipe)


def test_the_dump_shows_what_was_resolved():
    assert "  stop_step: 5\n" in to_yaml(load_recipe("beta_b_moons", ["training.iterations=5"]))


def test_small_numbers_are_readable():
    text = to_yaml(load_recipe("vae_moons", ["training.learning_rate=1e-5"]))
    assert "  learning_rate: 1.0e-05\n" in text


def test_the_digest_follows_what_the_recipe_says_and_nothing_else(tmp_path):
    recipe = load_recipe("beta_h_moons")
    copy = tmp_path / "other.yaml"
    copy.write_text(to_yaml(recipe))
    digests = {digest(load_recipe(name)) for name in document.recipe_names()}
    assert len(digests) == len(document.recipe_names())
    assert len(digest(recipe)) == 8
    assert digest(recipe) == digest(recipe.with_name("x")) == digest(load_recipe(copy))
    assert digest(recipe) == digest(load_recipe("beta_h_moons", ["regularizer.beta=4.0"]))
    assert digest(recipe) != digest(load_recipe("beta_h_moons", ["seed=1"]))


def test_the_name_is_kept_apart_from_what_the_recipe_says():
    recipe = load_recipe("beta_h_moons")
    assert from_dict(to_dict(recipe), name="beta_h_moons") == recipe
    assert to_dict(recipe.with_name("x")) == to_dict(recipe)


def test_a_dict_that_is_no_recipe_is_refused():
    with pytest.raises(RecipeError):
        from_dict({})

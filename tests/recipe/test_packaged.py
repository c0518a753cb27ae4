"""The recipes that come along: complete, twins of each other, valid in editors."""

import math
import re

import jsonschema
import pytest

from dpvae_cli.recipe import document, json_schema, load_recipe, to_dict
from dpvae_cli.recipe.document import RecipeError, read_file, text_of
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND
from dpvae_cli.recipe.validation import kinds
from tests.recipe.writing import MINIMAL, written

REGULARIZERS = sorted(kinds("regularizer"))
NAMES = document.recipe_names()
PUBLISHED = [name for name in NAMES if name.startswith("as_published/")]


def test_there_is_one_for_each_regularizer_on_the_papers_data():
    sets = ("moons", "mnist", "svhn", "celeba")
    expected = {f"{kind}_{data}" for kind in REGULARIZERS for data in sets}
    others = {"beta_h_digits", "beta_h_folder", "vae_mnist_binary"}
    others |= {f"{kind}_sprites" for kind in REGULARIZERS}
    assert set(NAMES) == expected | others | set(PUBLISHED)


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_differs_in_nothing_but_the_prior(name):
    recipe, twin = load_recipe(name), load_recipe(name, ["prior=standard_normal"])
    assert (recipe.prior.kind, twin.prior.kind) == ("decoupled", "standard_normal")
    ours, theirs = to_dict(recipe), to_dict(twin)
    assert {key for key in ours if ours[key] != theirs[key]} == {"prior"}


@pytest.mark.parametrize("name", NAMES)
def test_the_header_has_a_title_the_paper_and_the_commands(name):
    lines = text_of(document.locate_recipe(name)).splitlines()
    assert lines[0] == f"# {document.recipe_title(name)}"
    assert lines[2].startswith("# Paper: ")
    assert f"#   dpvae train {name}" in lines
    assert any(line.startswith(f"#   dpvae train {name} prior=standard_normal") for line in lines)
    assert "prior: decoupled" in lines


def commands(name: str) -> list[list[str]]:
    """Return the words after `dpvae train` in a header, its broken lines joined."""
    header = text_of(document.locate_recipe(name)).partition("\n\n")[0]
    joined = re.sub(r" \\\n# +", " ", header)
    found = re.findall(r"^#   dpvae train (.*)$", joined, flags=re.MULTILINE)
    return [line.partition("    #")[0].split() for line in found]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_the_header_is_a_recipe(name):
    recipes = [load_recipe(word, overrides) for word, *overrides in commands(name)]
    assert len(recipes) >= 2
    assert {word for word, *_ in commands(name)} == {name}
    assert {recipe.prior.kind for recipe in recipes} == {"decoupled", "standard_normal"}


def test_the_binary_recipe_is_for_likelihoods():
    recipe = load_recipe("vae_mnist_binary")
    assert (recipe.data.kind, recipe.data.binarize, recipe.data.validation) == (
        "mnist",
        "static",
        10_000,
    )
    assert (recipe.likelihood.kind, recipe.architecture.latent_dim) == ("bernoulli", 40)
    recipe.architecture.build(recipe.data.example_shape())
    theirs = load_recipe("vae_mnist_binary", ["data=binarized_mnist"])
    assert theirs.data.example_shape() == recipe.data.example_shape()


@pytest.mark.parametrize("kind", REGULARIZERS)
def test_the_sprites_recipes_differ_in_their_regularizer_alone(kind):
    recipe, plain = load_recipe(f"{kind}_sprites"), load_recipe("vae_sprites")
    ours, theirs = to_dict(recipe), to_dict(plain)
    assert {key for key in ours if ours[key] != theirs[key]} <= {"regularizer"}
    assert (recipe.regularizer.kind, recipe.likelihood.kind) == (kind, "bernoulli")
    recipe.architecture.build(recipe.data.example_shape())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_is_one_of_ours_with_other_settings(name):
    own = name.removeprefix("as_published/")
    theirs, ours = load_recipe(name), load_recipe(own)
    kinds_of = [
        [getattr(recipe, section).kind for section in SECTIONS_WITH_KIND if section != "fit_prior"]
        for recipe in (theirs, ours)
    ]
    assert kinds_of[0] == kinds_of[1]
    assert (theirs.name, ours.name) == (f"as_published_{own}", own)
    assert to_dict(theirs) != to_dict(ours)
    header = " ".join(text_of(document.locate_recipe(name)).replace("# ", "").split())
    for words in ("with the released code's settings", "93d06f5", "Not reproduced: "):
        assert words in header


@pytest.mark.parametrize(
    ("kind", "prior", "weight", "batch_size", "learning_rate", "iterations"),
    [
        ("beta_h", "decoupled", 10, 100, 1e-3, 100_000),
        ("beta_h", "standard_normal", 1, 24, 1e-4, 100_000),
        ("beta_b", "decoupled", 100, 24, 1e-3, 100_000),
        ("beta_b", "standard_normal", 100, 24, 1e-3, 100_000),
        ("beta_tc", "decoupled", 1, 100, 1e-4, 200_000),
        ("beta_tc", "standard_normal", 10, 100, 1e-4, 100_000),
        ("factor", "decoupled", 1, 24, 1e-4, 100_000),
        ("factor", "standard_normal", 1, 24, 1e-4, 100_000),
        ("info", "decoupled", 10, 24, 1e-3, 100_000),
        ("info", "standard_normal", 10, 24, 1e-4, 100_000),
    ],
)
def test_published_mnist_has_the_released_settings_for_both_twins(
    kind, prior, weight, batch_size, learning_rate, iterations
):
    named = [
        load_recipe(word, overrides) for word, *overrides in commands(f"as_published/{kind}_mnist")
    ]
    [recipe] = [recipe for recipe in named if recipe.prior.kind == prior]
    training = recipe.training
    assert (training.batch_size, training.learning_rate, training.iterations) == (
        batch_size,
        learning_rate,
        iterations,
    )
    assert recipe.likelihood.scale == pytest.approx(1 / math.sqrt(2 * weight), rel=1e-6)
    released = {
        "beta_h": {"beta": 5},
        "beta_b": {"gamma": 15, "max_capacity": 25 / 24},
        "beta_tc": {"beta": 4, "gamma": 150 if prior == "decoupled" else 15, "form": "printed"},
        "factor": {"gamma": 1000, "weights_per": "batch", "discriminator_learning_rate": 1e-4},
        "info": {"alpha": 0, "lambda_": 1000, "bandwidth": 4, "weights_per": "batch"},
    }[kind]
    assert {key: getattr(recipe.regularizer, key) for key in released} == released


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_nets_and_weights_are_the_released_ones(name):
    recipe = load_recipe(name)
    nets = {"moons": {"activation": "identity"}, "celeba": {"negative_slope": 1.0}}
    expected = nets.get(recipe.data.kind, {})
    assert {key: getattr(recipe.architecture, key) for key in expected} == expected
    regularizer = recipe.regularizer
    if regularizer.kind in ("beta_tc", "factor", "info"):
        assert regularizer.weights_per == "batch"
    if regularizer.kind == "info":
        assert regularizer.bandwidth == recipe.architecture.latent_dim**2
    if regularizer.kind == "beta_b":
        assert regularizer.max_capacity * recipe.training.batch_size == pytest.approx(25)


IMAGES = {"mnist": (100, 2), "svhn": (50, 32), "celeba": (50, 64)}
"""Batch size (appendix C) and latent size (MNIST: released code; others: ours)."""


@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if name.rpartition("_")[2] in IMAGES and name not in PUBLISHED],
)
def test_the_image_recipes_have_the_papers_numbers(name):
    recipe = load_recipe(name)
    training, regularizer = recipe.training, recipe.regularizer
    batch_size, latent_dim = IMAGES[recipe.data.kind]
    assert (training.iterations, training.batch_size, training.learning_rate) == (
        100_000,
        batch_size,
        1e-4,
    )
    architecture = f"{recipe.data.kind}_conv"
    assert (recipe.architecture.kind, recipe.architecture.latent_dim) == (architecture, latent_dim)
    recipe.architecture.build(recipe.data.example_shape())
    assert recipe.likelihood.scale == 0.5**0.5
    table_2 = {
        "vae": {},
        "beta_h": {"beta": 4},
        "beta_b": {"gamma": 15, "max_capacity": 25, "stop_step": 100_000},
        "beta_tc": {"alpha": 1, "beta": 4, "gamma": 15, "weights_per": "batch"},
        "factor": {"gamma": 1000, "width": 1000, "depth": 5, "weights_per": "batch"},
        "info": {"alpha": 0, "lambda_": 1000, "weights_per": "batch"},
    }[regularizer.kind]
    assert {key: getattr(regularizer, key) for key in table_2} == table_2


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", NAMES)
def test_packaged_and_resolved_recipes_are_valid_in_editors(validator, name):
    validator.validate(read_file(document.locate_recipe(name)).values)
    validator.validate(to_dict(load_recipe(name)))


def with_value(path: tuple[str, ...], value: object) -> dict:
    recipe = to_dict(load_recipe("beta_h_moons"))
    *section, key = path
    (recipe[section[0]] if section else recipe)[key] = value
    return recipe


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("prior",), "decoupld"),
        (("data",), "arrays"),
        (("prior",), {"blocks": 6}),
        (("training", "iteratons"), 5),
        (("training", "iterations"), 0),
        (("training", "iterations"), "5"),
        (("architecture", "hidden"), [0]),
        (("regularizer", "gamma"), 1),
        (("sede",), 1),
    ],
)
def test_editors_refuse_what_loading_refuses(tmp_path, validator, path, value):
    values = with_value(path, value)
    assert not validator.is_valid(values)
    with pytest.raises(RecipeError):
        load_recipe(written(tmp_path, __import__("json").dumps(values)))


@pytest.mark.parametrize("section", SECTIONS_WITH_KIND)
def test_editors_accept_the_bare_words_that_loading_accepts(tmp_path, validator, section):
    for kind in kinds(section):
        if kind in ("arrays", "folder"):  # they need a path
            continue
        path = written(tmp_path, MINIMAL)
        recipe = load_recipe(path, [f"{section}={kind}"])
        assert getattr(recipe, section).kind == kind
        assert validator.is_valid({**read_file(path).values, section: kind})


def test_every_field_is_described_for_editors():
    bare = [
        f"{name}.{key}"
        for name, definition in json_schema()["$defs"].items()
        for key, field in definition["properties"].items()
        if key != "kind" and not field.get("description")
    ]
    assert bare == []

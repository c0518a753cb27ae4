"""The recipes that come along: complete, twins of each other, valid in editors."""

import jsonschema
import pytest

from dpvae_cli.recipe import Recipe, catalogue, json_schema, to_dict
from dpvae_cli.recipe.mistakes import RecipeError
from dpvae_cli.recipe.reading import read_file, text_of
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND
from dpvae_cli.recipe.sections import kinds
from tests.recipe.writing import MINIMAL, written

REGULARIZERS = sorted(kinds("regularizer"))
NAMES = catalogue.names()


def test_there_is_one_for_each_regularizer_on_the_papers_data():
    sets = ("moons", "mnist", "svhn", "celeba")
    expected = {f"{kind}_{data}" for kind in REGULARIZERS for data in sets}
    assert expected | {"beta_h_digits", "beta_h_folder"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_differs_in_nothing_but_the_prior(name):
    recipe, twin = Recipe.load(name), Recipe.load(name, ["prior=standard_normal"])
    assert (recipe.prior.kind, twin.prior.kind) == ("decoupled", "standard_normal")
    ours, theirs = to_dict(recipe), to_dict(twin)
    assert {key for key in ours if ours[key] != theirs[key]} == {"prior"}


@pytest.mark.parametrize("name", NAMES)
def test_the_header_has_a_title_the_paper_and_the_commands(name):
    lines = text_of(catalogue.locate(name)).splitlines()
    assert lines[0] == f"# {catalogue.title(name)}"
    assert lines[2].startswith("# Paper: ")
    assert f"#   dpvae train {name}" in lines
    assert any(line.startswith(f"#   dpvae train {name} prior=standard_normal") for line in lines)
    assert "prior: decoupled" in lines


IMAGES = {"mnist": (100, 2), "svhn": (50, 32), "celeba": (50, 64)}
"""Batch size (appendix C) and latent size (MNIST: released code; others: ours)."""


@pytest.mark.parametrize("name", [name for name in NAMES if name.rpartition("_")[2] in IMAGES])
def test_the_image_recipes_have_the_papers_numbers(name):
    recipe = Recipe.load(name)
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
    validator.validate(read_file(catalogue.locate(name)).values)
    validator.validate(to_dict(Recipe.load(name)))


def with_value(path: tuple[str, ...], value: object) -> dict:
    recipe = to_dict(Recipe.load("beta_h_moons"))
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
        Recipe.load(written(tmp_path, __import__("json").dumps(values)))


@pytest.mark.parametrize("section", SECTIONS_WITH_KIND)
def test_editors_accept_the_bare_words_that_loading_accepts(tmp_path, validator, section):
    for kind in kinds(section):
        if kind in ("arrays", "folder"):  # they need a path
            continue
        path = written(tmp_path, MINIMAL)
        recipe = Recipe.load(path, [f"{section}={kind}"])
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

"""Names, files, overrides and their precedence."""

from pathlib import Path

import pytest

from dpvae_cli.recipe import RecipeError, document, load_recipe
from tests.recipe.writing import MINIMAL, mistakes, written


def test_a_packaged_recipe_is_loaded_by_name():
    recipe = load_recipe("beta_h_moons")
    assert recipe.name == "beta_h_moons"
    assert (recipe.regularizer.kind, recipe.prior.kind) == ("beta_h", "decoupled")


def test_a_file_is_loaded_by_path_and_named_after_its_stem(tmp_path):
    recipe = load_recipe(written(tmp_path, MINIMAL))
    assert recipe.name == "mine"
    assert recipe == load_recipe(str(tmp_path / "mine.yaml"))


def test_what_a_file_leaves_out_has_its_default(tmp_path):
    recipe = load_recipe(written(tmp_path, MINIMAL))
    assert recipe.prior.kind == "decoupled"
    assert (recipe.training.iterations, recipe.evaluation.samples, recipe.seed) == (
        100_000,
        5_000,
        0,
    )


def test_later_overrides_win_over_earlier_ones_and_over_the_file(tmp_path):
    path = written(tmp_path, MINIMAL + "seed: 1\ntraining: {iterations: 10, batch_size: 7}\n")
    recipe = load_recipe(path, ["seed=2", "training.iterations=20", "seed=3"])
    assert (recipe.seed, recipe.training.iterations, recipe.training.batch_size) == (3, 20, 7)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("architecture.hidden=[7, 8]", ("architecture", "hidden", (7, 8))),
        ("prior={kind: decoupled, blocks: 4}", ("prior", "blocks", 4)),
        ("prior.blocks=4", ("prior", "blocks", 4)),
        ("prior.scale_bound=null", ("prior", "scale_bound", None)),
        ("regularizer.beta=.5", ("regularizer", "beta", 0.5)),
        ("training.learning_rate=1e-4", ("training", "learning_rate", 1e-4)),
        ("training.iterations=1e5", ("training", "iterations", 100_000)),
        ("training.tensorboard=true", ("training", "tensorboard", True)),
        ("evaluation.quantiles=[0.5]", ("evaluation", "quantiles", (0.5,))),
        ("evaluation.split=validation", ("evaluation", "split", "validation")),
    ],
)
def test_an_override_sets_one_field(tmp_path, override, expected):
    section, field, value = expected
    recipe = load_recipe(written(tmp_path, MINIMAL), [override])
    assert getattr(getattr(recipe, section), field) == value


@pytest.mark.parametrize(
    "override", ["regularizer=factor", "regularizer.kind=factor", "regularizer={kind: factor}"]
)
def test_a_kind_replaces_its_section_whole(tmp_path, override):
    text = MINIMAL.replace("regularizer: beta_h", "regularizer: {kind: info, weights_per: batch}")
    recipe = load_recipe(written(tmp_path, text), [override])
    assert recipe.regularizer.kind == "factor"
    assert recipe.regularizer.weights_per == "example"


def test_a_mapping_replaces_its_section_whole(tmp_path):
    path = written(tmp_path, MINIMAL + "training: {iterations: 10, batch_size: 7}\n")
    training = load_recipe(path, ["training={iterations: 20}"]).training
    assert (training.iterations, training.batch_size) == (20, 100)


def test_a_field_can_follow_the_kind_it_belongs_to(tmp_path):
    overrides = ["regularizer=factor", "regularizer.width=3"]
    assert load_recipe(written(tmp_path, MINIMAL), overrides).regularizer.width == 3
    assert "beta_h has no width" in mistakes(tmp_path / "mine.yaml", *reversed(overrides[1:]))[0]


def test_an_override_may_add_a_missing_section(tmp_path):
    path = written(tmp_path, MINIMAL.replace("likelihood: gaussian\n", ""))
    assert load_recipe(path, ["likelihood=bernoulli"]).likelihood.kind == "bernoulli"


def test_a_default_from_another_section_follows_the_override(tmp_path):
    path = written(tmp_path, MINIMAL.replace("beta_h", "beta_b"))
    assert load_recipe(path, ["training.iterations=77"]).regularizer.stop_step == 77
    kept = load_recipe(path, ["training.iterations=77", "regularizer.stop_step=5"])
    assert kept.regularizer.stop_step == 5


@pytest.mark.parametrize(
    ("name", "suggested"),
    [("beta_h_moon", "beta_h_moons"), ("factor_mnits", "factor_mnist"), ("mine", "mine.yaml")],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(
    tmp_path, monkeypatch, name, suggested
):
    written(tmp_path, MINIMAL)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert f"did you mean {suggested}?" in str(caught.value)
    assert "dpvae recipes ls" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["nowhere/mine.yaml", "mine.yml", "x" * 5000])
def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert str(caught.value).startswith(name[:50])
    assert len(str(caught.value)) < 300


def test_a_folder_is_no_recipe_but_a_run_folder_has_one(tmp_path):
    assert "this is a folder" in mistakes(tmp_path)[0]
    written(tmp_path, MINIMAL, "recipe.yaml")
    assert f"did you mean {tmp_path.name}/recipe.yaml?" in mistakes(tmp_path)[0]


def test_an_unreadable_file_says_why(tmp_path, monkeypatch):
    path = written(tmp_path, MINIMAL)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert mistakes(path) == ["mine.yaml: cannot be read: Permission denied"]


def test_an_installed_package_brings_its_recipes_along(tmp_path, monkeypatch):
    installed = tmp_path / "dpvae_cli" / "recipes"
    installed.mkdir(parents=True)
    written(installed, MINIMAL, "beta_h_moons.yaml")
    monkeypatch.setattr(document, "FOLDERS", (installed, tmp_path / "recipes"))
    assert document.recipe_names() == ["beta_h_moons"]
    assert load_recipe("beta_h_moons").data.kind == "moons"

"""`dpvae recipes`: results on stdout, remarks and errors on stderr, exit code 2 for mistakes."""

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from dpvae_cli.cli.recipes import recipes
from dpvae_cli.recipe import document, load_recipe, to_yaml
from tests.recipe.writing import MINIMAL, written


def run(*words: str):
    return CliRunner().invoke(recipes, list(words))


def test_importing_the_commands_imports_nothing_heavy():
    code = (
        "import sys, dpvae_cli.cli.recipes; "
        "print({'torch', 'pydantic', 'yaml', 'numpy', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_listing_needs_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; "
        "from dpvae_cli.cli.recipes import recipes; "
        "done = CliRunner().invoke(recipes, ['ls']); "
        "print(done.exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]


def test_ls_shows_every_name_with_its_title():
    done = run("ls")
    assert done.exit_code == 0
    for name in document.recipe_names():
        assert name in done.stdout
        assert document.recipe_title(name) in done.stdout


def test_show_prints_the_resolved_recipe_with_overrides():
    done = run("show", "beta_h_moons", "prior=standard_normal", "seed=3")
    recipe = load_recipe("beta_h_moons", ["prior=standard_normal", "seed=3"])
    assert (done.exit_code, done.stdout) == (0, to_yaml(recipe))


def test_show_reports_mistakes_on_stderr():
    done = run("show", "beta_h_moons", "sede=3", "prior=nrmal")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "override sede=3: unknown key" in done.stderr
    assert "override prior=nrmal: unknown kind" in done.stderr


def test_an_unknown_name_is_answered_with_the_list():
    done = run("show", "beta_h_moon")
    assert done.exit_code == 2
    assert "did you mean beta_h_moons?" in done.stderr
    assert "dpvae recipes ls" in done.stderr


def test_cp_copies_comments_and_all_and_prints_where(tmp_path):
    target = tmp_path / "mine.yaml"
    done = run("cp", "beta_h_moons", str(target))
    assert (done.exit_code, done.stdout) == (0, f"{target}\n")
    assert target.read_bytes() == document.locate_recipe("beta_h_moons").read_bytes()
    assert f"dpvae train {target}" in done.stderr


@pytest.mark.parametrize("folder", ["", "new"])
def test_cp_into_a_folder_keeps_the_name(tmp_path, folder):
    done = run("cp", "vae_moons", str(tmp_path / folder))
    assert done.exit_code == 0
    assert (tmp_path / folder / "vae_moons.yaml").is_file()


def test_cp_overwrites_only_by_force(tmp_path):
    target = written(tmp_path, "mine")
    done = run("cp", "vae_moons", str(target))
    assert done.exit_code == 2
    assert "--force" in done.stderr
    assert target.read_text() == "mine"
    assert run("cp", "vae_moons", str(target), "--force").exit_code == 0
    assert target.read_text() != "mine"


def test_validate_says_ok_for_each_good_file(tmp_path):
    path = written(tmp_path, MINIMAL)
    done = run("validate", str(path), "vae_moons", "seed=3")
    assert (done.exit_code, done.stdout) == (0, f"{path}: ok\nvae_moons: ok\n")


def test_validate_reports_all_mistakes_of_all_files(tmp_path):
    first = written(tmp_path, MINIMAL + "sede: 1\n", "first.yaml")
    second = written(tmp_path, MINIMAL + "prior: nrmal\nx: [\n", "second.yaml")
    third = written(tmp_path, MINIMAL, "third.yaml")
    done = run("validate", str(first), str(second), str(third), str(tmp_path / "no.yaml"))
    assert (done.exit_code, done.stdout) == (2, f"{third}: ok\n")
    for text in ("first.yaml:5: sede", "second.yaml:7:", "no.yaml: there is no such file"):
        assert text in done.stderr


def test_validate_reports_a_wrong_override_once(tmp_path):
    done = run("validate", "vae_moons", "vae_mnist", "sede=3")
    assert done.exit_code == 2
    assert done.stderr.count("override sede=3") == 1


def test_validate_needs_a_file():
    done = run("validate", "seed=3")
    assert done.exit_code == 2
    assert "which recipe?" in done.stderr


def test_schema_prints_json():
    done = run("schema")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("command", ["ls", "show", "cp", "validate", "schema"])
def test_help_ends_with_examples_one_a_line(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    help_text = run(command, "--help").stdout
    _, _, after = help_text.partition("Examples:")
    lines = [line.strip() for line in after.splitlines() if line.strip()]
    assert lines
    assert all(line.startswith(f"dpvae recipes {command}") for line in lines)


def test_shown_recipes_are_yaml_for_other_tools():
    assert yaml.safe_load(run("show", "factor_mnist").stdout)["regularizer"]["gamma"] == 1000.0

"""The tables of docs/recipes.md come from the schema, and the page knows every packaged recipe."""

import shutil
import subprocess
import sys

import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe import Recipe, document
from dpvae_cli.recipe.reference import field_tables, update_page
from dpvae_cli.recipe.validation import keys, kinds, spec_class
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "recipes.md"


def test_tables_are_current():
    page = PAGE.read_text(encoding="utf-8")
    refresh = "python -m dpvae_cli.recipe.reference docs/recipes.md"
    assert update_page(page) == page, f"refresh them: {refresh}"
    assert refresh in page


def test_every_section_kind_and_key_is_there():
    tables = field_tables()
    for section in Recipe.model_fields:
        assert f"### `{section}`" in tables
        specs = kinds(section) or {None: spec_class(section, None)}
        for kind, spec in specs.items():
            assert kind is None or f"#### `{section}: {kind}`" in tables
            rows = [f"| `{key}` |" for key in keys(spec) if key != "kind"] if spec else []
            assert all(row in tables for row in rows)


def test_pipes_in_cells_are_escaped():
    for line in field_tables().splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 5


def test_the_module_refreshes_a_page(tmp_path):
    copy = tmp_path / "page.md"
    shutil.copy(PAGE, copy)
    copy.write_text(copy.read_text().replace("| `beta` |", "| `bata` |"))
    subprocess.run([sys.executable, "-m", "dpvae_cli.recipe.reference", str(copy)], check=True)
    assert copy.read_text() == PAGE.read_text()


def test_a_page_without_markers_is_an_error():
    with pytest.raises(UsageError, match="tables: begin"):
        update_page("# A page\n")


def test_packaged_recipes_are_listed():
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in document.recipe_names())

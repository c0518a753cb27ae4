"""Cells: names, digests, axes, and which of them a figure shows."""

import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe import load_recipe
from dpvae_cli.recipe.loading import digest
from dpvae_cli.studies.loading import load_study
from dpvae_cli.studies.plan import make_plan
from tests.small import SMALL
from tests.studies.tiny import planned, written


def base_name(cell):
    """Return a cell's name without the digest of its recipe."""
    return cell.name.rpartition("-")[0]


def names(found):
    return [base_name(cell) for cell in found.cells]


def test_a_cell_is_named_after_its_resolved_recipe(tmp_path):
    found = planned(tmp_path)
    recipe = load_recipe("vae_moons", [*SMALL, "prior=standard_normal"])
    first = found.cells[0]
    assert first.name == f"vae_moons-standard_normal-seed0-{digest(recipe)}"
    assert first.folder == tmp_path / "studies" / "tiny" / first.name
    assert planned(tmp_path).cells == found.cells


def test_what_is_measured_does_not_move_a_cell_but_the_recipe_does(tmp_path):
    before = {cell.name for cell in planned(tmp_path).cells}
    assert {cell.name for cell in planned(tmp_path, "metrics=[leak]").cells} == before
    assert {cell.name for cell in planned(tmp_path, title="Other").cells} == before
    assert not {cell.name for cell in planned(tmp_path, "evaluation.samples=51").cells} & before


def test_axes_multiply_and_overrides_replace_them(tmp_path):
    assert names(planned(tmp_path, "seed=[3, 1]")) == [
        "vae_moons-standard_normal-seed3",
        "vae_moons-standard_normal-seed1",
        "vae_moons-decoupled-seed3",
        "vae_moons-decoupled-seed1",
    ]
    assert names(planned(tmp_path, "seed=2", "prior=decoupled")) == ["vae_moons-decoupled-seed2"]
    more = planned(
        tmp_path, "prior=decoupled", axes={"prior": ["x"], "training.learning_rate": [0.5, 0.25]}
    )
    assert [cell.recipe.training.learning_rate for cell in more.cells] == [0.5, 0.25]


def test_axes_have_defaults(tmp_path):
    assert names(planned(tmp_path, axes=None)) == [
        "vae_moons-standard_normal-seed0",
        "vae_moons-decoupled-seed0",
    ]
    assert len(planned(tmp_path, "seed=[1, 2]", axes=None).cells) == 4


def test_a_recipe_file_and_a_repeated_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = load_recipe("vae_moons")
    (tmp_path / "mine.yaml").write_text(
        "data: moons\narchitecture: {kind: mlp, latent_dim: 2}\n"
        "likelihood: gaussian\nregularizer: vae\n"
    )
    found = planned(tmp_path, recipes=["mine.yaml", "mine.yaml"])
    assert names(found) == ["mine-standard_normal-seed0", "mine-decoupled-seed0"]
    assert text.name == "vae_moons"


def test_only(tmp_path):
    loaded = load_study(str(written(tmp_path, recipes=["vae_moons", "info_moons"])))
    assert names(make_plan(loaded, only="*-decoupled-*")) == [
        "vae_moons-decoupled-seed0",
        "info_moons-decoupled-seed0",
    ]
    assert not make_plan(loaded).left_out
    told = "Only *-decoupled-*: 2 of the 4 runs of the study"
    assert make_plan(loaded, only="*-decoupled-*").left_out == told
    [whole] = make_plan(loaded, only="vae_moons-decoupled-seed0").cells
    assert make_plan(loaded, only=whole.name).cells == (whole,)
    with pytest.raises(UsageError, match=r"fits no cell .* vae_moons-standard_normal-seed0, vae"):
        make_plan(loaded, only="mnist")


def test_a_figure_shows_the_first_seed_of_each(tmp_path):
    found = planned(
        tmp_path,
        "seed=[2, 1]",
        recipes=["vae_moons", "info_moons"],
        figures=["leakage", {"kind": "training", "seeds": "all", "cells": ["info_*"]}],
    )
    first, every = found.study.figures
    assert [base_name(cell) for cell in found.cells_of(first)] == [
        f"{recipe}-{prior}-seed1"
        for recipe in ("vae_moons", "info_moons")
        for prior in ("standard_normal", "decoupled")
    ]
    assert len(found.cells_of(every)) == 4
    kinds = {base_name(cell): [figure.kind for figure in cell.figures] for cell in found.cells}
    assert kinds["vae_moons-decoupled-seed2"] == []
    assert kinds["info_moons-decoupled-seed1"] == ["leakage", "training"]

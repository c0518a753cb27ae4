"""docs/metrics.md names every metric and everything a result holds."""

import json

import pytest

import dpvae_cli as dpvae
from dpvae_cli.evaluation.metrics import METRICS, metrics_needing
from dpvae_cli.foundation.results import RunResults, results_document
from dpvae_cli.recipe import Evaluation, load_recipe
from tests.cases import ESTIMATED
from tests.docs.pages import ROOT, blocks
from tests.quick import quick  # noqa: F401
from tests.small import SMALL, small_recipe

PAGE = ROOT / "docs" / "metrics.md"


@pytest.fixture(scope="module")
def results():
    sprites = "data={kind: sprites, shape: 3, scale: 2, orientation: 3, x: 3, y: 3}"
    without = [part for part in SMALL if not part.startswith("data.")]
    found = []
    for recipe, names in (
        (small_recipe(), ["all"]),
        (small_recipe(), ["cost"]),
        *((small_recipe("vae", f"prior={kind}"), ["cost"]) for kind in ESTIMATED),
        (load_recipe("vae_moons", [sprites, *without]), metrics_needing("factors")),
    ):
        model, data = dpvae.build(recipe), recipe.data.load()
        found += dpvae.evaluate(model, data, names, evaluation=recipe.evaluation)
    return found


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


def test_every_metric_has_a_section(page, results):
    headings = [line for line in page.splitlines() if line.startswith("#")]
    names = {*METRICS, *(result.metric for result in results), "active_units"}
    assert all(any(f"`{name}`" in line for line in headings) for name in names)


def test_the_table_has_every_metric(page):
    for name, metric in METRICS.items():
        needs = " and ".join(metric.needs) or "-"
        row = f"| `{name}` | {metric.description} | {metric.unit} | {metric.better} | {needs} |"
        assert row in page.splitlines()


def test_every_detail_is_named(page, results):
    details = {key for result in results for key in result.details}
    assert not {key for key in details if f"`{key}`" not in page}


def test_every_size_is_named(page):
    assert not {key for key in Evaluation.model_fields if f"`evaluation.{key}`" not in page}


def test_the_example_has_the_form_of_the_real_thing(results):
    [example] = [json.loads(block.text) for block in blocks(PAGE) if block.language == "json"]
    run = RunResults("run", "checkpoint.pt", "recipe", tuple(results), "digest", 1)
    real = json.loads(json.dumps(results_document([run])))
    assert example.keys() == real.keys()
    assert example["schema"] == real["schema"]
    assert example["runs"][0].keys() == real["runs"][0].keys()
    by_metric = {result["metric"]: result for result in real["runs"][0]["results"]}
    for result in example["runs"][0]["results"]:
        assert result.keys() == by_metric[result["metric"]].keys()
        assert result["details"].keys() == by_metric[result["metric"]]["details"].keys()
        assert result["unit"] == by_metric[result["metric"]]["unit"]

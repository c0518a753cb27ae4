"""The records of metrics, and a toy metric that is added through them."""

import importlib
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dpvae_cli.cli import evaluate
from dpvae_cli.evaluation import metrics
from dpvae_cli.evaluation.metrics import (
    METRICS,
    Direction,
    Metric,
    find_metric,
    is_known,
    is_requested,
    sort_metrics,
)
from dpvae_cli.recipe import Evaluation
from tests.cli.test_commands import ok


def toy(context):
    samples = context.evaluation.samples
    return [context.result("toy", 0.5, 0.1, split="train", pairs=samples // 2)]


TOY = Metric(
    "toy",
    "toy score",
    "half of everything",
    "halves",
    Direction.HIGHER,
    function=f"{__name__}:toy",
    sample_size="samples",
    is_headline=True,
)


def test_a_metric_is_a_function_and_a_record(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(METRICS, "toy", TOY)
    tiny = ("training.iterations=2", "data.train=400", "evaluation.samples=20")
    ok("train", "vae_moons", *tiny, "--run-dir", "run")
    done = ok("eval", "run", "--metrics", "toy,skl", "--json")
    result = json.loads(done.stdout)["runs"][0]["results"][0]
    assert (result["metric"], result["value"], result["unit"]) == ("toy", 0.5, "halves")
    assert (result["samples"], result["details"]["pairs"]) == (20, 10)
    ok("report", "run", "--out", "report")
    page = Path("report/report.html").read_text(encoding="utf-8")
    assert "toy score" in page
    assert "half of everything" in page


def test_help_lists_a_metric_that_was_added(monkeypatch):
    monkeypatch.setitem(METRICS, "toy", TOY)
    app = typer.Typer()
    try:
        app.command()(importlib.reload(evaluate).evaluate)
        shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    finally:
        monkeypatch.undo()
        importlib.reload(evaluate)
    assert "toy" in shown


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_described(name):
    metric = METRICS[name]
    assert metric.name == name
    assert metric.unit
    assert is_known(name)
    assert metric.sample_size is None or metric.sample_size in Evaluation.model_fields
    assert metric.function


def test_names_with_other_features():
    assert find_metric("fid").better is Direction.LOWER
    assert (find_metric("fid768_lp").title, find_metric("fid768_lp").better) == (
        "FID (LP), 768 dimensions",
        Direction.LOWER,
    )
    assert find_metric("frechet_dino_lp").title == "Fréchet distance (LP), dino"
    assert find_metric("frechet_dino").title == "Fréchet distance, dino"
    assert find_metric("elbo").better is Direction.HIGHER
    assert find_metric("active_units").better is Direction.NEITHER
    assert find_metric("a metric of tomorrow").better is Direction.NEITHER
    assert sort_metrics({"zzz", "leak", "fid"}) == ["fid", "leak", "zzz"]
    names = [record.name for metric in METRICS.values() for record in metric.records]
    assert len(set(names)) == len(names)


def test_results_belong_to_the_metrics_that_were_requested():
    assert is_requested("fid768", ["fid"])
    assert is_requested("kl", ["elbo"])
    assert not is_requested("skl_knn", ["skl"])


def test_records_need_no_torch():
    assert "torch" not in vars(metrics)

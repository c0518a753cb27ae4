"""A cell: trained once, resumed, measured without retraining, never two at a time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from dpvae_cli.recipe import load_recipe
from dpvae_cli.studies import run_cell as module
from dpvae_cli.studies.messages import CellOptions
from dpvae_cli.studies.outputs import write_outputs, write_study_record
from dpvae_cli.studies.run_cell import run_cell
from dpvae_cli.studies.state import cell_state, result_names
from dpvae_cli.training.train import train
from tests.studies.tiny import planned
from tests.training.test_resume import CutAt, PowerCut, assert_same_run

OPTIONS = CellOptions()
FIGURES = [
    "moons",
    "regularizers",
    "leakage",
    "training",
    {"kind": "traversal", "name": "walk", "dimensions": 2, "steps": 3},
    {"kind": "traversal", "name": "walks", "between": [[0, 1], [1, 2]], "steps": 3},
]


@pytest.fixture(autouse=True)
def _fresh_data():
    module.load_dataset.cache_clear()


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*_args, **_more):
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "train", refuse)


def run(cell, options=OPTIONS):
    return run_cell(cell, options=options, device="cpu")


def words(plan, options=OPTIONS):
    return [cell_state(cell, options).status for cell in plan.cells]


def results(cell):
    found = json.loads((Path(cell.folder) / "metrics.json").read_text())
    return {result["metric"] for result in found["results"]}


def test_a_cell_is_a_run_folder_with_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = planned(tmp_path, figures=FIGURES)
    assert words(found) == ["new", "new"]
    for cell in found.cells:
        outcome = run(cell)
        assert (outcome.status, outcome.message) == ("done", "")
    assert words(found) == ["done", "done"]
    first = found.cells[0]
    assert results(first) == {"skl", "manifold", "leak", "leak_printed"}
    there = {path.name for path in Path(first.folder).iterdir()}
    assert {"recipe.yaml", "checkpoint.pt", "metrics.jsonl", "portrait.npz", "samples.png"} <= there
    assert not (tmp_path / "runs").exists()
    train(first.recipe, tmp_path / "alone")
    assert_same_run(tmp_path / "alone", Path(first.folder))
    write_study_record(found)
    finished = write_outputs(found, OPTIONS)
    assert finished.problems == ()
    drawn = sorted(path.name for path in finished.figures)
    ours = ("standard_normal", "decoupled")
    assert drawn == sorted(
        [
            *("moons.png", "regularizers.png", "leakage.png", "training.png"),
            *(f"walk-vae_moons-{prior}-seed0.png" for prior in ours),
            *(f"walks-vae_moons-{prior}-seed0-{i}.png" for prior in ours for i in (0, 1)),
        ]
    )
    assert [path.name for path in finished.report] == [
        f"report{suffix}" for suffix in (".html", ".md", ".tex", ".csv", ".json")
    ]
    for path in finished.figures:
        assert path.is_file()
        assert path.with_suffix(".txt").read_text().strip()


def test_a_finished_cell_is_left_alone_and_a_missing_metric_is_measured(tmp_path, monkeypatch):
    plain = planned(tmp_path, "prior=decoupled", metrics=["skl"])
    [cell] = plain.cells
    run(cell)
    before = (Path(cell.folder) / "checkpoint.pt").read_bytes()
    monkeypatch.setattr(module, "train", lambda *_a, **_k: pytest.fail("trained again"))
    outcome = run(cell)
    assert outcome.status == "done"
    [more] = planned(tmp_path, "prior=decoupled", metrics=["skl", "leak", "fid"]).cells
    assert cell_state(more, OPTIONS).missing == ("leak",)  # moons are no images
    outcome = run(more)
    assert outcome.status == "done"
    assert results(more) == {"skl", "leak", "leak_printed"}
    (Path(cell.folder) / "metrics.json").unlink()
    assert cell_state(cell, OPTIONS).missing == ("skl",)
    run(cell)
    assert results(cell) == {"skl"}
    assert (Path(cell.folder) / "checkpoint.pt").read_bytes() == before


def test_features_of_another_size_are_another_result():
    assert result_names("fid_lp", 768) == {"fid768_lp"}
    assert result_names("fid", 2048) == result_names("fid", None) == {"fid"}
    assert result_names("skl", 768) == {"skl"}
    assert result_names("recall", 768) == {"recall", "recall768"}  # of points, of images


def test_a_cut_cell_goes_on_to_the_bit(tmp_path):
    [cell] = planned(tmp_path, "prior=decoupled").cells
    recipe = cell.recipe
    with pytest.raises(PowerCut):
        train(recipe, cell.folder, callback=CutAt(13))
    assert cell_state(cell, OPTIONS).status == "stopped"
    assert cell_state(cell, OPTIONS).iteration == 10
    outcome = run(cell)
    assert outcome.status == "done"
    train(recipe, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", Path(cell.folder))


def test_a_cell_killed_before_anything_was_kept_starts(tmp_path):
    [cell] = planned(tmp_path, "prior=decoupled", metrics=[]).cells
    folder = Path(cell.folder)
    folder.mkdir(parents=True)
    (folder / ".recipe.yaml.torn").write_text("da")
    assert run(cell).status == "done"


def test_samples_png_is_drawn_where_it_is_missing(tmp_path):
    [cell] = planned(tmp_path, "prior=decoupled").cells
    run(cell)
    (Path(cell.folder) / "samples.png").unlink()
    assert cell_state(cell, OPTIONS).status == "stopped"
    assert run(cell).status == "done"
    assert (Path(cell.folder) / "samples.png").is_file()


def test_a_folder_with_another_recipe_is_not_touched(tmp_path):
    [cell] = planned(tmp_path, "prior=decoupled").cells
    run(cell)
    path = Path(cell.folder) / "recipe.yaml"
    path.write_text(path.read_text().replace("seed: 0\n", "seed: 9\n"))
    assert load_recipe(path).seed == 9
    assert cell_state(cell, OPTIONS).status == "another recipe"
    outcome = run(cell)
    assert outcome.status == "failed"
    assert "is not the recipe that the folder is named after" in outcome.message


def test_a_cell_that_another_process_has_is_busy(tmp_path):
    [cell] = planned(tmp_path, "prior=decoupled").cells
    folder = Path(cell.folder)
    folder.parent.mkdir(parents=True)
    with FileLock(folder.with_name(f".{folder.name}.cell.lock")):
        assert run(cell).status == "busy"
    assert run(cell).status == "done"


def test_failures_are_outcomes_with_what_to_do(tmp_path, monkeypatch):
    [cell] = planned(tmp_path, "training.learning_rate=1e30", "prior=decoupled").cells
    outcome = run(cell)
    assert outcome.status == "failed"
    assert "diverged at iteration" in outcome.message
    assert outcome.hint
    [cell] = planned(tmp_path, "prior=decoupled").cells
    monkeypatch.setattr(module, "evaluate_run", lambda *_a, **_k: 1 / 0)
    outcome = run(cell)
    assert outcome.message == "ZeroDivisionError: division by zero"
    assert "Traceback" in (Path(cell.folder) / "error.txt").read_text()
    monkeypatch.undo()
    assert run(cell).status == "done"


def test_a_metric_that_fails_keeps_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("DPVAE_INCEPTION_WEIGHTS", raising=False)
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (60, 1, 6, 6), dtype=np.uint8))
    changes = {
        "overrides": {
            "data": {"kind": "arrays", "path": "x.npy"},
            "architecture.hidden": [8],
            "training.batch_size": 16,
            "training.iterations": 4,
            "evaluation.samples": 50,
        },
        "metrics": ["fid", "skl"],
        "figures": ["samples", {"kind": "traversal", "between": [[0, 1], [1, 2]], "steps": 3}],
    }
    found = planned(tmp_path, "prior=decoupled", **changes)
    [cell] = found.cells
    outcome = run(cell, CellOptions(download=False))
    assert outcome.status == "failed"
    assert outcome.message.startswith("fid: ")
    assert results(cell) == {"skl"}
    assert cell_state(cell, OPTIONS).missing == ("fid",)
    finished = write_outputs(found, OPTIONS)
    assert [path.name for path in finished.figures] == [
        "samples.png",
        "traversal-vae_moons-decoupled-seed0.png",
    ]


def test_a_figure_that_cannot_be_drawn_does_not_lose_the_others(tmp_path):
    found = planned(tmp_path, "prior=decoupled", figures=["trade_off", "training"])
    [cell] = found.cells
    assert run(cell).status == "done"
    finished = write_outputs(found, OPTIONS)
    assert [path.name for path in finished.figures] == ["training.png"]
    assert len(finished.problems) == 1
    assert finished.problems[0].startswith("figure trade_off: ")


def test_the_report_says_what_was_left_out(tmp_path):
    found = planned(tmp_path, "prior=decoupled")
    assert run(found.cells[0]).status == "done"
    write_outputs(replace(found, left_out="Only these: 1 of the 4 runs of the study"), OPTIONS)
    assert "Only these: 1 of the 4 runs" in (found.folder / "report.md").read_text()
    write_outputs(found, OPTIONS)
    assert "Only these" not in (found.folder / "report.md").read_text()


def test_nothing_is_drawn_of_cells_that_are_not_there(tmp_path):
    found = planned(tmp_path, figures=["training"])
    finished = write_outputs(found, OPTIONS)
    assert (finished.figures, finished.report, finished.problems) == ((), (), ())


def test_the_data_is_read_once_for_cells_in_a_row(tmp_path, monkeypatch):
    loads = []
    spec = type(load_recipe("vae_moons").data)
    load = spec.load
    monkeypatch.setattr(spec, "load", lambda *a, **k: loads.append(1) or load(*a, **k))
    found = planned(tmp_path, "seed=[0, 1]")
    for cell in found.cells:
        run(cell)
    assert len(loads) == 1
    shutil.rmtree(tmp_path / "studies")

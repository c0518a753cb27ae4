"""The trade-off as a figure of a study: from the results of its cells."""

import pytest

from dpvae_cli.recipe import RecipeError
from dpvae_cli.studies import figures
from dpvae_cli.studies.loading import load_study
from dpvae_cli.studies.messages import CellOptions
from dpvae_cli.studies.outputs import write_outputs
from dpvae_cli.studies.run_cell import run_cell
from tests.studies.tiny import planned, written

FIGURE = {"kind": "trade_off", "representation": ["probe", "probe_knn"], "sampling": "skl"}


def test_it_is_drawn_from_the_means_over_all_seeds(tmp_path, monkeypatch):
    drawn = []
    original = figures.trade_off
    monkeypatch.setattr(
        figures, "trade_off", lambda *a, **k: drawn.append((a, k)) or original(*a, **k)
    )
    found = planned(tmp_path, "seed=[0, 1]", metrics=["probe", "skl"], figures=[FIGURE])
    for cell in found.cells:
        assert run_cell(cell, options=CellOptions(), device="cpu").status == "done"
    done = write_outputs(found, CellOptions())
    assert [path.name for path in done.figures] == ["trade_off.png"]
    assert not done.problems
    [((methods,), options)] = drawn
    assert [(method.label, method.prior) for method in methods] == [
        ("vae", "standard_normal"),
        ("vae", "decoupled"),
    ]
    assert all(len(method.values["probe_knn"]) == 2 for method in methods)
    assert [q.label for q in options["representation"]] == [
        "linear probe",
        "neighbours probe",
    ]
    assert options["sampling"].label == "sKL, nats"
    assert options["sampling"].lower_is_better


@pytest.mark.parametrize("metric", ["sampling: skll", "sampling: kl", "representation: [mgi]"])
def test_results_must_be_known_and_have_a_direction(tmp_path, metric):
    key, _, value = metric.partition(": ")
    path = written(
        tmp_path, figures=[{**FIGURE, key: [value.strip("[]")] if "[" in value else value}]
    )
    with pytest.raises(RecipeError, match="not a metric with a preferred direction"):
        load_study(str(path))


def test_cells_without_the_results_are_a_problem_and_no_crash(tmp_path):
    found = planned(tmp_path, "prior=decoupled", metrics=["skl"], figures=["trade_off"])
    for cell in found.cells:
        run_cell(cell, options=CellOptions(), device="cpu")
    done = write_outputs(found, CellOptions())
    assert done.figures == ()
    assert "figure trade_off: nothing to draw" in done.problems[0]

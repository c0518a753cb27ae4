"""Estimates: from the pace of cells that are alike, else from timed steps."""

import json
import time
from pathlib import Path

import pytest
import torch

from dpvae_cli.studies.estimate import GUESSED_PACE, estimate_duration
from dpvae_cli.studies.messages import CellOptions
from dpvae_cli.studies.state import CellState, cell_state
from dpvae_cli.training.train import train
from tests.studies.tiny import planned

OPTIONS = CellOptions()


def test_without_any_pace_it_is_a_guess(tmp_path):
    cells = planned(tmp_path).cells
    found = estimate_duration(
        cells, [CellState("new"), CellState("done", 20)], OPTIONS, on_gpu=True
    )
    assert found.seconds == {cells[0].name: pytest.approx(20 / GUESSED_PACE["gpu"]["mlp"])}
    assert found.source == "a rough estimate"


def test_steps_and_fits_are_timed_where_no_cell_ran(tmp_path, monkeypatch):
    """A real study takes what was estimated, to a factor of two; in CPU time."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    size = ("training.iterations=400", "training.validate_every=100", "training.batch_size=64")
    fit = ("fitting.iterations=200", "fitting.validate_every=25", "fitting.patience=400")
    axes = {"prior": ["standard_normal", "spline"], "fit_prior": [None, "decoupled"], "seed": [0]}
    plan = planned(tmp_path, *size, *fit, axes=axes, metrics=["active_units"])
    new = [CellState("new")] * len(plan.cells)
    found = estimate_duration(plan.cells, new, OPTIONS, on_gpu=False, threads=1)
    assert (found.timed, found.guessed) == (len(new), 0)
    assert found.source == "from a few timed steps, without what metrics take"
    torch.set_num_threads(1)
    for cell in plan.cells:
        start = time.perf_counter()
        train(cell.recipe, Path(cell.folder))
        taken = time.perf_counter() - start
        expected = found.seconds[cell.name]
        assert expected / 2 < taken < 2 * expected + 1.5, cell.name  # pictures take a second


def test_the_pace_of_the_most_alike_counts(tmp_path):
    cells = planned(tmp_path, "seed=[0, 1]").cells
    for cell, pace in zip(cells[::2], (5.0, 2.0), strict=True):
        folder = Path(cell.folder)
        folder.mkdir(parents=True)
        lines = [{"iteration": 1, "steps_per_second": p} for p in (pace, pace, 1000.0)] + [
            {"iteration": 1, "elbo": 1}
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines) + '{"torn'
        (folder / "metrics.jsonl").write_text(text)
    states = [
        CellState("done", 20),
        CellState("stopped", 10),
        CellState("done", 20),
        CellState("new"),
    ]
    found = estimate_duration(cells, states, OPTIONS, on_gpu=False)
    assert list(found.seconds.values()) == [pytest.approx(2.0), pytest.approx(10.0)]
    assert found.total(1) == pytest.approx(12.0)
    assert found.total(4) == pytest.approx(10.0)  # no faster than the longest cell
    assert found.source == "from the pace of 2 cells so far"


def test_a_damaged_checkpoint_is_said_to_be(tmp_path):
    [cell] = planned(tmp_path, "prior=decoupled").cells
    folder = Path(cell.folder)
    folder.mkdir(parents=True)
    from dpvae_cli.foundation.files import write_text
    from dpvae_cli.recipe.loading import to_yaml

    write_text(folder / "recipe.yaml", to_yaml(cell.recipe))
    assert cell_state(cell, CellOptions()).status == "started"
    (folder / "checkpoint.pt").write_bytes(b"no")
    assert cell_state(cell, CellOptions()).status == "damaged"

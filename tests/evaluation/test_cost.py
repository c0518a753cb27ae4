"""The cost of sampling and density: a clock of our own, and what the record says."""

from itertools import count

import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.evaluation import cost as module
from tests.small import small_recipe


@pytest.fixture(scope="module")
def setting():
    recipe = small_recipe("vae", "prior=mixture")
    return dpvae.build(recipe), recipe.data.load()


def test_times_are_those_of_the_clock_a_row(setting, monkeypatch):
    """Reading k of the clock is k^2 seconds, so call i of a density takes 4 i + 1 seconds."""
    ticks = count()
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks) ** 2)
    sampled, density = dpvae.evaluate(*setting, ["cost"])
    assert (sampled.metric, density.metric) == ("cost", "cost_density")
    first = torch.tensor([4.0 * i + 1 for i in range(module.REPEATS)], dtype=torch.float64)
    second = torch.tensor(
        [4.0 * i + 1 for i in range(module.REPEATS, 2 * module.REPEATS)], dtype=torch.float64
    )
    for result, seconds in ((sampled, first), (density, second)):
        times = 1e6 * seconds / module.ROWS
        assert result.value == pytest.approx(float(times.mean()))
        error = float(times.std()) / module.REPEATS**0.5
        assert result.standard_error == pytest.approx(error)
        assert result.details["fastest"] == pytest.approx(float(times.min()))
        assert result.details["slowest"] == pytest.approx(float(times.max()))


def test_it_times_the_prior_and_not_the_decoder(setting, monkeypatch):
    model, data = setting
    called = []
    for name in ("sample", "log_prob"):
        original = getattr(model.prior, name)

        def noting(rows, name=name, original=original, **options):
            called.append((name, rows if isinstance(rows, int) else len(rows)))
            return original(rows, **options)

        monkeypatch.setattr(model.prior, name, noting)
    monkeypatch.setattr(model, "decode", None)
    sampled, density = dpvae.evaluate(model, data, ["cost"])
    assert set(called) == {("sample", module.ROWS), ("log_prob", module.ROWS)}
    assert [name for name, _ in called].count("log_prob") == module.REPEATS + 1
    assert sampled.unit == density.unit == "microseconds"
    assert sampled.samples == module.ROWS
    assert sampled.details["repeats"] == module.REPEATS
    assert sampled.details["device"] == "cpu"

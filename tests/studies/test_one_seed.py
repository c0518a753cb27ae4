"""The error of a difference of two runs of one seed: as far as it spreads over other draws."""

import math

import numpy as np
import pytest
import torch

from dpvae_cli.foundation.results import Result, RunResults
from dpvae_cli.mathematics.estimates import error_terms_of_mean, standard_error
from dpvae_cli.runs.results_file import merge_error_terms
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.grouping import group_runs
from dpvae_cli.studies.records import read_run
from dpvae_cli.studies.statistics import describe_comparison
from tests.studies.runs import write_run

DRAWS, REPEATS = 200, 30
PRIORS = ("decoupled", "standard_normal")


def write_measured(place, values, *, seed=0, metric="elbo", draws_seed=0):
    """Write a pair of runs whose metric is the mean of these values of each draw."""
    for prior, each in zip(PRIORS, values, strict=True):
        terms = error_terms_of_mean(torch.from_numpy(each))
        result = Result(
            metric,
            float(each.mean()),
            standard_error(terms),
            "nats",
            samples=len(each),
            seed=draws_seed if prior == PRIORS[0] else 0,
            split="test",
            error_terms={"value": terms},
        )
        folder = write_run(place, prior=prior, seed=seed, results=[result.to_json()], pictures=())
        record = RunResults(folder.name, "checkpoint.pt", "vae_moons", (result,), "0", 20)
        merge_error_terms(RunFolder(folder), record)


def compare(place, metric="elbo"):
    [experiment] = group_runs([read_run(folder) for folder in sorted(place.iterdir())])[0]
    return experiment.compare(metric, PRIORS[0], baseline=PRIORS[1])


def paired_values(random):
    """Return values of both runs, which share their examples."""
    shared = random.normal(size=DRAWS)
    return [shared + 0.3 * random.normal(size=DRAWS) + shift for shift in (1.0, 0.0)]


def test_the_error_is_the_spread_over_draws(tmp_path):
    random = np.random.default_rng(0)
    found = []
    for repeat in range(REPEATS):
        write_measured(tmp_path / str(repeat), paired_values(random))
        found.append(compare(tmp_path / str(repeat)))
    spread = np.std([each.mean for each in found], ddof=1)
    reported = np.sqrt(np.mean([each.own_error**2 for each in found]))
    assert spread / reported == pytest.approx(1, abs=0.3)  # 30 repeats know it within 13 %
    assert reported < 0.4 * math.sqrt(2 / DRAWS)  # unpaired it is larger by 1 / 0.3
    first = found[0]
    words = f"higher in the one seed, +{first.mean:.3f} ± {first.own_error:.3f}"
    assert describe_comparison(first).startswith(words)


def test_other_draws_and_stale_terms_are_not_paired(tmp_path):
    values = paired_values(np.random.default_rng(1))
    apart = math.hypot(*(each.std(ddof=1) / math.sqrt(DRAWS) for each in values))
    write_measured(tmp_path / "seeds", values, draws_seed=1)
    assert compare(tmp_path / "seeds").own_error == pytest.approx(apart, rel=1e-5)
    write_measured(tmp_path / "stale", values)
    for folder in (tmp_path / "stale").iterdir():
        np.savez(folder / "metrics_terms.npz", elbo=np.ones(DRAWS, np.float32))
    assert compare(tmp_path / "stale").own_error == pytest.approx(apart, rel=1e-5)
    for folder in (tmp_path / "stale").iterdir():
        (folder / "metrics_terms.npz").write_bytes(b"no archive")
    assert compare(tmp_path / "stale").own_error == pytest.approx(apart, rel=1e-5)


def test_several_seeds_have_their_interval_alone(tmp_path):
    random = np.random.default_rng(2)
    for seed in range(3):
        write_measured(tmp_path, paired_values(random), seed=seed)
    found = compare(tmp_path)
    assert found.own_error is None
    assert found.uncertainty == found.half_width

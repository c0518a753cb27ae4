"""The weights of a regularizer grow linearly over `warm_up` iterations."""

import pytest
import torch

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.priors import Decoupled
from dpvae_cli.recipe import load_recipe
from dpvae_cli.regularizers import Batch, build_regularizer
from dpvae_cli.regularizers.base import WarmUpSpec
from dpvae_cli.training.train import train
from tests.mathematics.random_models import normal, random_posterior
from tests.quick import quick  # noqa: F401
from tests.regularizers.cases import (
    BATCH,
    LATENT,
    REGULARIZERS,
    TRAINING,
    kind_of,
    random_prior,
    spec_of,
)
from tests.same import assert_same_run, logged
from tests.small import small_recipe

WARM_UP = 10
WITH_WARM_UP = [spec for spec in REGULARIZERS if issubclass(spec, WarmUpSpec)]


def batch(iteration):
    posterior, z = random_posterior(BATCH, LATENT), normal(BATCH, LATENT)
    return Batch(posterior, z, random_prior(Decoupled), iteration, stream(0, "further"))


@pytest.mark.parametrize("spec_class", WITH_WARM_UP, ids=kind_of)
@pytest.mark.parametrize(("iteration", "share"), [(0, 0.1), (4, 0.5), (8, 0.9), (9, 1), (50, 1)])
def test_weights_grow_linearly_and_values_stay(spec_class, iteration, share):
    plain, warm = (
        build_regularizer(spec_of(spec_class, **fields), LATENT, TRAINING, 0).double()
        for fields in ({}, {"warm_up": WARM_UP})
    )
    full, grown = plain(batch(iteration)), warm(batch(iteration))
    assert full.keys() == grown.keys()
    for name, term in grown.items():
        assert torch.equal(term.value, full[name].value)
        assert term.weight == pytest.approx(share * full[name].weight, rel=1e-12)


def test_the_capacity_of_beta_b_is_its_schedule():
    with pytest.raises(UsageError, match=r"beta_b has no warm_up: its capacity grows until stop_"):
        load_recipe("beta_b_moons", ["regularizer.warm_up=10"])


def test_a_resume_goes_on_with_the_warm_up(tmp_path):
    recipe = small_recipe("factor", "regularizer.warm_up=15")
    train(recipe, tmp_path / "whole")
    first = small_recipe("factor", "regularizer.warm_up=15", "training.iterations=10")
    train(first, tmp_path / "parts")
    train(recipe, tmp_path / "parts", mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    steps = [line for line in logged(tmp_path / "parts") if line["kind"] == "train"]
    shares = [line["weighted"]["kl"] / line["terms"]["kl"] for line in steps]
    assert shares == pytest.approx([5 / 15, 10 / 15, 1, 1])
    assert all(
        line["weighted"]["reconstruction"] == line["terms"]["reconstruction"] for line in steps
    )

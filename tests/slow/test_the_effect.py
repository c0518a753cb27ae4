"""What the paper is about, on two moons: the decoupled prior fills the pockets."""

import pytest

import dpvae_cli as dpvae

METRICS = ["skl", "manifold", "manifold_lp"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_decoupling_closes_the_gap_between_random_and_low_posterior_samples(tmp_path):
    measured = {}
    for prior in ("standard_normal", "decoupled"):
        recipe = dpvae.load_recipe("beta_h_moons", [f"prior={prior}", "training.iterations=4000"])
        model = dpvae.train(recipe, tmp_path / prior)
        results = dpvae.evaluate(model, recipe.data.load(), METRICS, evaluation=recipe.evaluation)
        measured[prior] = {result.metric: result for result in results}
    plain, decoupled = measured["standard_normal"], measured["decoupled"]
    assert decoupled["skl"].value < 0.5 * plain["skl"].value
    assert decoupled["manifold"].value < plain["manifold"].value
    assert decoupled["manifold_lp"].value < 0.7 * plain["manifold_lp"].value
    null = decoupled["manifold_lp"].details["null"]["value"]
    assert decoupled["manifold_lp"].value < 1.4 * null, "hardly worse than where p is low anyway"
    assert plain["manifold_lp"].value > 1.4 * plain["manifold_lp"].details["null"]["value"]

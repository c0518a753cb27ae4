import numpy as np
import torch

import dpvae_cli as dpvae
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.sampling.gallery import gallery
from dpvae_cli.sampling.samples import (
    TrainingEncodings,
    decode,
    encode,
    low_posterior,
    reconstruction_arrays,
)
from tests.small import small_recipe


def test_a_gallery_holds_the_decoded_extremes():
    recipe = small_recipe()
    model, data = dpvae.build(recipe), recipe.data.load()
    q = TrainingEncodings(model, lambda: data).aggregate_posterior()
    found = gallery(model, q, seed=3, pool=4, samples=5)
    assert {name: len(images) for name, images in found.items()} == {
        "prior": 5,
        "low_posterior": 5,
        "high_posterior": 5,
    }
    generator = stream(3, "gallery", "extremes")
    low = low_posterior(model, q, 5, pool=20, generator=generator)
    assert np.array_equal(found["low_posterior"], decode(model, low.z).numpy())


def test_reconstructions_are_decoded_means():
    recipe = small_recipe()
    model, data = dpvae.build(recipe), recipe.data.load()
    found = reconstruction_arrays(model, data.test, 7)
    assert np.array_equal(found["x"], data.test.examples(slice(0, 7)))
    means = encode(model, data.test).mean[:7]
    np.testing.assert_allclose(found["z"], means, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(found["decoded"], model.decode(means), rtol=1e-5, atol=1e-6)

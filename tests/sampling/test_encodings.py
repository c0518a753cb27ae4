import numpy as np
import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.sampling.samples import TrainingEncodings, encode
from tests.small import small_recipe


@pytest.fixture
def setting(tmp_path):
    recipe = small_recipe()
    return dpvae.build(recipe).eval(), recipe.data.load(), tmp_path / "c.encodings.npz"


def unavailable():
    raise AssertionError("the data was asked for")


def test_encodings_are_kept_and_read_without_the_data(setting):
    model, data, path = setting
    fresh = TrainingEncodings(model, lambda: data, path=path, key="a").aggregate_posterior()
    cached = TrainingEncodings(model, unavailable, path=path, key="a").aggregate_posterior()
    assert torch.equal(fresh.mean, cached.mean)
    assert torch.equal(fresh.log_variance, cached.log_variance)
    assert torch.equal(fresh.mean.float(), encode(model, data.train).mean)
    assert len(fresh) == len(data.train)


def test_encodings_of_another_checkpoint_are_not_used(setting):
    model, data, path = setting
    TrainingEncodings(model, lambda: data, path=path, key="a").aggregate_posterior()
    with pytest.raises(AssertionError, match="asked for"):
        TrainingEncodings(model, unavailable, path=path, key="b").aggregate_posterior()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04", None])
def test_a_damaged_cache_is_computed_anew(setting, content):
    model, data, path = setting
    if content is None:
        np.savez(
            path, checkpoint=np.array("a"), mean=np.zeros((3, 9)), log_variance=np.zeros((3, 9))
        )
    else:
        path.write_bytes(content)
    found = TrainingEncodings(model, lambda: data, path=path, key="a").aggregate_posterior()
    assert len(found) == len(data.train)

"""An interrupted nll goes on with the same numbers."""

import dataclasses

import numpy as np
import pytest

from dpvae_cli.evaluation import nll as nll_module
from dpvae_cli.evaluation import nll_cache
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.nll import nll
from dpvae_cli.evaluation.nll_cache import NllCache
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings
from tests.small import linear_gaussian_vae, random_dataset

IMAGES = 8


@pytest.fixture
def context():
    model, data = linear_gaussian_vae(2, 3, scale=0.6).float(), random_dataset(3)
    sizes = Evaluation(nll_samples=50, nll_images=IMAGES)
    return EvaluationContext(model, lambda: data, TrainingEncodings(model, lambda: data), sizes, 0)


@pytest.fixture(autouse=True)
def _one_example_at_a_time(monkeypatch):
    """Stand for a decoder of images, whose batch is full with the samples of one example."""
    monkeypatch.setattr(nll_module, "batch_size_for", lambda model: 1)


@pytest.fixture
def computed(monkeypatch):
    """List the examples that are really estimated."""
    found = []
    original = nll_module.negative_log_likelihoods

    def counting(model, x, **options):
        found.extend(x)
        return original(model, x, **options)

    monkeypatch.setattr(nll_module, "negative_log_likelihoods", counting)
    return found


def keeping(context, path, checkpoint="a", **changes):
    return dataclasses.replace(context, nll_cache=NllCache(path, checkpoint=checkpoint), **changes)


def stop_after(count):
    def progress(metric, done, total):
        if done == count:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_nll_goes_on_with_equal_numbers(context, computed, tmp_path):
    whole = nll(context)
    path = tmp_path / "checkpoint.nll.npz"
    with pytest.raises(KeyboardInterrupt):
        nll(keeping(context, path, progress=stop_after(3)))
    computed.clear()
    assert nll(keeping(context, path)) == whole
    assert len(computed) == IMAGES - 3
    computed.clear()
    assert nll(keeping(context, path)) == whole
    assert not computed


def test_a_killed_nll_loses_what_was_not_yet_written(context, computed, tmp_path, monkeypatch):
    monkeypatch.setattr(nll_cache, "WRITE_EVERY", -1.0)
    path = tmp_path / "checkpoint.nll.npz"
    seen = []

    def look(metric, done, total):
        seen.append(len(np.load(path)["keys"]) if done else 0)

    nll(keeping(context, path, progress=look))
    assert seen == list(range(IMAGES + 1))


@pytest.mark.parametrize("change", ["seed", "samples", "split", "checkpoint", "data", "version"])
def test_what_an_estimate_follows_from_is_in_its_key(
    context, computed, tmp_path, monkeypatch, change
):
    path = tmp_path / "checkpoint.nll.npz"
    nll(keeping(context, path))
    computed.clear()
    checkpoint, changed = "a", {}
    if change == "seed":
        changed = {"seed": 1}
    elif change == "samples":
        changed = {"evaluation": Evaluation(nll_samples=51, nll_images=IMAGES)}
    elif change == "split":
        changed = {"evaluation": context.evaluation.model_copy(update={"split": "validation"})}
    elif change == "checkpoint":
        checkpoint = "b"
    elif change == "data":
        shifted = random_dataset(3)
        shifted.test.stored.add_(0.5)
        changed = {"load_dataset": lambda: shifted}
    else:
        monkeypatch.setattr(nll_cache, "__version__", "another")
    found = nll(keeping(context, path, checkpoint, **changed))
    assert len(computed) == IMAGES
    assert found == nll(dataclasses.replace(context, **changed))


def test_other_seeds_and_more_images_are_kept_beside(context, computed, tmp_path):
    path = tmp_path / "checkpoint.nll.npz"
    nll(keeping(context, path))
    nll(keeping(context, path, seed=1))
    more = Evaluation(nll_samples=50, nll_images=IMAGES + 2)
    computed.clear()
    nll(keeping(context, path, evaluation=more))
    nll(keeping(context, path, evaluation=more, seed=1))
    assert len(computed) == 2 + 2


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04", None])
def test_a_damaged_file_is_computed_anew(context, computed, tmp_path, content):
    path = tmp_path / "checkpoint.nll.npz"
    nll(keeping(context, path))
    if content is None:
        arrays = dict(np.load(path))
        np.savez(path, **arrays | {"estimates": arrays["estimates"][:2]})
    else:
        path.write_bytes(content)
    computed.clear()
    assert nll(keeping(context, path)) == nll(context)
    assert len(computed) == 2 * IMAGES


def test_examples_that_share_a_batch_are_the_same_ones_whatever_is_asked_for(
    context, computed, tmp_path, monkeypatch
):
    """To the bit: rounding depends on the batch, so the batch depends on the split alone."""
    monkeypatch.setattr(nll_module, "batch_size_for", lambda model: 4 * 50 + 1)
    whole = nll(context)
    assert len(computed) == IMAGES
    path = tmp_path / "checkpoint.nll.npz"
    fewer = Evaluation(nll_samples=50, nll_images=3)
    computed.clear()
    [few] = nll(keeping(context, path, evaluation=fewer))
    assert len(computed) == 4
    assert few.details["images"] == 3
    assert nll(keeping(context, path)) == whole
    assert len(computed) == IMAGES
    last = Evaluation(nll_samples=50, nll_images=30)
    assert nll(keeping(context, path, evaluation=last))[0].details["images"] == 30
    assert len(computed) == 30

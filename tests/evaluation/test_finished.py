"""An interrupted nll goes on with the same numbers."""

import dataclasses

import numpy as np
import pytest

from dpvae_cli.evaluation import finished
from dpvae_cli.evaluation import nll as nll_module
from dpvae_cli.evaluation.finished import Finished
from dpvae_cli.evaluation.nll import nll
from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.encodings import EncodedTraining
from tests.small import linear_gaussian_vae, random_dataset

IMAGES = 8


@pytest.fixture
def subject():
    model, data = linear_gaussian_vae(2, 3, scale=0.6).float(), random_dataset(3)
    sizes = Evaluation(nll_samples=50, nll_images=IMAGES)
    return Subject(model, lambda: data, EncodedTraining(model, lambda: data), sizes, 0)


@pytest.fixture
def computed(monkeypatch):
    """Count the examples that are really estimated."""
    calls = []
    original = nll_module.negative_log_likelihood

    def counting(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(nll_module, "negative_log_likelihood", counting)
    return calls


def keeping(subject, path, checkpoint="a", **changes):
    return dataclasses.replace(subject, finished=Finished(path, checkpoint=checkpoint), **changes)


def stop_after(count):
    def progress(metric, done, total):
        if done == count:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_nll_goes_on_with_equal_numbers(subject, computed, tmp_path):
    whole = nll(subject)
    path = tmp_path / "checkpoint.nll.npz"
    with pytest.raises(KeyboardInterrupt):
        nll(keeping(subject, path, progress=stop_after(3)))
    computed.clear()
    assert nll(keeping(subject, path)) == whole
    assert len(computed) == IMAGES - 3
    computed.clear()
    assert nll(keeping(subject, path)) == whole
    assert not computed


def test_a_killed_nll_loses_what_was_not_yet_written(subject, computed, tmp_path, monkeypatch):
    monkeypatch.setattr(finished, "WRITE_EVERY", -1.0)
    path = tmp_path / "checkpoint.nll.npz"
    seen = []
    nll(keeping(subject, path, progress=lambda *_: seen.append(len(np.load(path)["keys"]))))
    assert seen == list(range(1, IMAGES + 1))


@pytest.mark.parametrize("change", ["seed", "samples", "split", "checkpoint", "data", "version"])
def test_what_an_estimate_follows_from_is_in_its_key(
    subject, computed, tmp_path, monkeypatch, change
):
    path = tmp_path / "checkpoint.nll.npz"
    nll(keeping(subject, path))
    computed.clear()
    checkpoint, changed = "a", {}
    if change == "seed":
        changed = {"seed": 1}
    elif change == "samples":
        changed = {"evaluation": Evaluation(nll_samples=51, nll_images=IMAGES)}
    elif change == "split":
        changed = {"evaluation": subject.evaluation.model_copy(update={"split": "validation"})}
    elif change == "checkpoint":
        checkpoint = "b"
    elif change == "data":
        shifted = random_dataset(3)
        shifted.test.stored.add_(0.5)
        changed = {"load_dataset": lambda: shifted}
    else:
        monkeypatch.setattr(finished, "__version__", "another")
    found = nll(keeping(subject, path, checkpoint, **changed))
    assert len(computed) == IMAGES
    assert found == nll(dataclasses.replace(subject, **changed))


def test_other_seeds_and_more_images_are_kept_beside(subject, computed, tmp_path):
    path = tmp_path / "checkpoint.nll.npz"
    nll(keeping(subject, path))
    nll(keeping(subject, path, seed=1))
    more = Evaluation(nll_samples=50, nll_images=IMAGES + 2)
    computed.clear()
    nll(keeping(subject, path, evaluation=more))
    nll(keeping(subject, path, evaluation=more, seed=1))
    assert len(computed) == 2 + 2


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04", None])
def test_a_damaged_file_is_computed_anew(subject, computed, tmp_path, content):
    path = tmp_path / "checkpoint.nll.npz"
    nll(keeping(subject, path))
    if content is None:
        arrays = dict(np.load(path))
        np.savez(path, **arrays | {"estimates": arrays["estimates"][:2]})
    else:
        path.write_bytes(content)
    computed.clear()
    assert nll(keeping(subject, path)) == nll(subject)
    assert len(computed) == 2 * IMAGES

"""The recipe for likelihoods on the published zeros and ones, with a few of one's own."""

import json

import numpy as np
import pytest

from dpvae_cli.data import binarized_mnist
from tests.cli.test_commands import ok, run

RECIPE = ("vae_mnist_binary", "data=binarized_mnist")
SHORT = ("training.iterations=2", "training.batch_size=4", "training.validate_every=2")


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPVAE_DATA", str(tmp_path))
    random = np.random.default_rng(0)
    for name, count in (("train", 8), ("validation", 3), ("test", 4)):
        monkeypatch.setitem(binarized_mnist.IMAGES, name, count)
        rows = random.integers(0, 2, (count, 784))
        np.savetxt(tmp_path / binarized_mnist.FILES[name], rows, fmt="%d")


def test_its_likelihood_is_said_to_compare():
    ok("train", *RECIPE, *SHORT)
    asked = ("eval", "--metrics", "nll", "--limit", 2, "evaluation.nll_samples=5")
    done = ok(*asked, "--json")
    [result] = json.loads(done.stdout)["runs"][0]["results"]
    assert result["details"]["data_note"] == binarized_mnist.NOTE
    assert f"Data: {binarized_mnist.NOTE}." in ok(*asked).stdout
    bits = result["value"] / (784 * np.log(2))
    assert result["details"]["bits_per_dimension"] == pytest.approx(bits)
    assert result["details"]["bits_per_dimension_note"] is None  # it is of 8-bit data alone
    assert (result["details"]["images"], result["details"]["images_in_split"]) == (2, 4)


def test_without_the_files_training_stops_and_says_where_they_go(tmp_path):
    (tmp_path / "binarized_mnist_valid.amat").unlink()
    done = run("train", *RECIPE, *SHORT)
    assert done.exit_code == 3
    assert "binarized_mnist_valid.amat not found" in done.stderr
    assert "does not download" in done.stderr


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "binarized_mnist_test.amat"
    path.write_text(path.read_text().replace("0", "3", 1))
    done = run("train", *RECIPE, *SHORT)
    assert done.exit_code == 3
    assert "binarized_mnist_test.amat:1: '3' in column" in done.stderr

"""The sizes of the splits, summary without reading the values, are those that are loaded."""

import pytest

from dpvae_cli.recipe import load_recipe
from tests.test_every_field import furnish

KINDS = (
    *("moons", "{kind: moons, train: 7, validation: 3, test: 2}", "digits", "dsprites"),
    *("{kind: sprites, shape: 2, scale: 2, orientation: 2, x: 5, y: 3, test: 0.3}", "svhn"),
    *(
        "{kind: dsprites, images: 33, validation: 0.2}",
        "{kind: svhn, extra: true, validation: 0.3}",
    ),
    *("{kind: mnist, validation: 7}", "{kind: arrays, path: x.npy, test: 0.2}"),
    *("{kind: celeba, crop: 20, on_error: skip}", "{kind: folder, path: mine, size: 4}"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        furnish(folder, patch)
    for spoiled in folder.rglob("spoiled.png"):
        spoiled.unlink()
    return folder


@pytest.mark.parametrize("data", KINDS)
def test_summary_equals_the_loaded_data(place, monkeypatch, data):
    monkeypatch.chdir(place)
    monkeypatch.setenv("DPVAE_CACHE", str(place / "cache"))
    spec = load_recipe("vae_moons", [f"data={data}"]).data
    summary, loaded = spec.summary(place / "data"), spec.load(place / "data", download=False)
    assert dict(summary.sizes) == dict(loaded.summary.sizes)
    assert set(loaded.remarks) <= set(summary.remarks)

"""A picture that the user names becomes an example as the data's own pictures do."""

import numpy as np
import pytest
import torch
from PIL import Image

from dpvae_cli.data import Arrays, Celeba, Digits, Folder, Mnist, Moons, Svhn
from dpvae_cli.data.images import ImageTransform, read_image
from dpvae_cli.foundation.errors import UsageError
from tests.data.synthetic import draw, draw_all


def test_a_picture_of_the_folder_is_the_example_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    draw_all(tmp_path / "in", 5)
    spec = Folder(path=str(tmp_path / "in"), size=12, crop=60)
    data = spec.load()
    loaded = torch.cat([part.stored for part in (data.train, data.validation, data.test)])
    for name in ("000001.png", "000004.png"):
        found = spec.load_image(tmp_path / "in" / name)
        assert (loaded == found.stored).flatten(1).all(dim=1).sum() == 1
        assert found.examples().shape == (1, 3, 12, 12)


@pytest.mark.parametrize(
    ("spec", "transform"),
    [
        (Celeba(crop=70, size=16), ImageTransform(70, 16, "rgb")),
        (Svhn(), ImageTransform(None, 32, "rgb")),
        (Mnist(), ImageTransform(None, 28, "grey")),
        (Digits(), ImageTransform(None, 8, "grey")),
    ],
)
def test_it_is_cut_and_resized_as_the_data_is(spec, transform, tmp_path):
    path = draw(tmp_path / "x.png")
    found = spec.load_image(path).stored
    np.testing.assert_array_equal(found[0], read_image(path, transform))
    assert tuple(found.shape[1:]) == spec.example_shape()


def test_a_digit_written_out_comes_back_with_its_binarisation(tmp_path):
    for how in (None, "threshold"):
        spec = Digits(binarize=how)
        grey = Digits().load().test.stored[3]
        Image.fromarray(grey[0].numpy()).save(tmp_path / "digit.png")
        found = spec.load_image(tmp_path / "digit.png").examples()
        torch.testing.assert_close(found[0], spec.load().test.examples()[3])


@pytest.mark.parametrize("spec", [Moons(), Arrays(path="x.npy")])
def test_data_without_pictures_says_so(spec, tmp_path):
    with pytest.raises(UsageError, match=f"kind {spec.kind} an image cannot") as caught:
        spec.load_image(draw(tmp_path / "x.png"))
    assert "number" in caught.value.hint


def test_an_unreadable_and_a_small_picture_are_named(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(UsageError, match=r"x\.png cannot be read as an image: not an image in"):
        Svhn().load_image(tmp_path / "x.png")
    with pytest.raises(UsageError, match=r"148 pixels .* does not fit into 89x109"):
        Celeba().load_image(draw(tmp_path / "y.png"))

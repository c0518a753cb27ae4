"""Extractors of the user's own, and options that contradict each other."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from dpvae_cli.evaluation import features
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.foundation.errors import DpvaeError, MissingError, UsageError
from tests.small import scripted, tiny_extractor

CPU = torch.device("cpu")


def built(path):
    return features.build(FeatureOptions(features=path, trust=True), CPU)


class Statistics(nn.Module):
    """Mean and maximum of an image, and whether it was given as float32 RGB in [0, 1]."""

    def forward(self, images):
        flat = images.flatten(1)
        return torch.stack([flat.mean(1), flat.amax(1), images[:, 0, 0, 0]], dim=1)


def expected_statistics(images):
    shown = (images.clamp(0, 1) * 255).round() / 255
    flat = shown.flatten(1)
    return torch.stack([flat.mean(1), flat.amax(1), shown[:, 0, 0, 0]], dim=1)


@pytest.mark.parametrize("kind", ["torchscript", "export"])
def test_an_exported_network_sees_eight_bit_images(kind, tmp_path):
    if kind == "export":
        path = tmp_path / "own.pt2"
        batch = torch.export.Dim("batch", min=2, max=4096)
        example = (torch.rand(4, 3, 6, 5),)
        program = torch.export.export(Statistics(), example, dynamic_shapes=({0: batch},))
        torch.export.save(program, path)
    else:
        path = scripted(Statistics(), tmp_path / "own.pt")
    images = 2 * torch.rand(7, 1, 6, 5) - 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none of torch's warnings reaches the user
        extractor = built(path)
        torch.testing.assert_close(extractor(images), expected_statistics(images))
    assert extractor.label.startswith(f"{path.name} (sha256 ")


def test_results_are_named_after_the_file_and_never_fid(tmp_path):
    extractor = built(tiny_extractor(tmp_path / "my-net v2.pt"))
    names = [extractor.result_name(metric) for metric in ("fid", "fid_lp", "kid")]
    assert names == ["frechet_my_net_v2", "frechet_my_net_v2_lp", "kernel_my_net_v2"]


@pytest.mark.parametrize(
    ("dimensions", "names"),
    [(2048, ["fid", "fid_lp", "kid"]), (768, ["fid768", "fid768_lp", "kid768"])],
)
def test_results_of_inception_say_their_dimensions(dimensions, names):
    extractor = features.Extractor(None, dimensions, Path("w"), "digest", CPU, lambda x: x)
    assert [extractor.result_name(metric) for metric in ("fid", "fid_lp", "kid")] == names


class Pair(nn.Module):
    def forward(self, images):
        return images.flatten(1), images


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Identity(), "not one row for each"),
        (nn.Flatten(0), "not one row for each"),
        (Pair(), "not one row for each"),
        (nn.Conv2d(1, 4, 3), "cannot be called on"),
        (nn.Sequential(nn.Flatten(), nn.Threshold(2.0, float("nan"))), "not finite"),
    ],
)
def test_what_an_extractor_may_not_do(network, said, tmp_path):
    extractor = built(scripted(network, tmp_path / "odd.pt"))
    with pytest.raises(DpvaeError, match=said):
        extractor(torch.rand(2, 3, 4, 4))


def test_a_fixed_batch_is_explained(tmp_path):
    program = torch.export.export(Statistics(), (torch.rand(4, 3, 6, 5),))
    torch.export.save(program, tmp_path / "fixed.pt2")
    with pytest.raises(DpvaeError, match="cannot be called") as caught:
        built(tmp_path / "fixed.pt2")(torch.rand(3, 3, 6, 5))
    assert "dynamic batch" in caught.value.hint


@pytest.mark.parametrize("name", ["x.pt2", "x.pt"])
def test_files_that_are_no_networks(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(MissingError, match="no such file"):
        built(path)
    path.write_bytes(b"no network")
    with pytest.raises(MissingError, match="cannot be read"):
        built(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": Path("x.pt2")}, "holds code"),
        ({"trust": True}, "--trust-features"),
        ({"features": Path("x.pt2"), "trust": True, "dimensions": 768}, "--features replaces"),
        ({"features": Path("x.pt2"), "trust": True, "weights": Path("w")}, "--features replaces"),
        ({"dimensions": 100}, "2048, 768, 192, 64"),
        ({"repeats": 0}, "--repeats 0"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(UsageError, match=said):
        FeatureOptions(**options)

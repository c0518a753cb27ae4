"""DINOv2 by name: the same features as its own definition gives, on weights in its layout."""

import builtins
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from dpvae_cli.evaluation import dinov2, features
from dpvae_cli.evaluation.dinov2 import Architecture
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.foundation.errors import MissingError, UsageError

NAME = "dinov2-vit-b-14"
SMALL = Architecture("dinov2_vitb14", 32, 2, 4)
CPU = torch.device("cpu")


def shapes(architecture, places=37 * 37):
    """Return the names and shapes in DINOv2's files."""
    width = architecture.width
    block = {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "ls1.gamma": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (4 * width, width),
        "mlp.fc1.bias": (4 * width,),
        "mlp.fc2.weight": (width, 4 * width),
        "mlp.fc2.bias": (width,),
        "ls2.gamma": (width,),
    }
    return {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + places, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        **{
            f"blocks.{index}.{name}": shape
            for index in range(architecture.layers)
            for name, shape in block.items()
        },
        "norm.weight": (width,),
        "norm.bias": (width,),
    }


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(dinov2.ARCHITECTURES, NAME, SMALL)
    draws = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=draws) * (0.5 if len(shape) == 1 else 0.1)
        for name, shape in shapes(SMALL).items()
    }


def reference(state, images):
    """Return the class token of DINOv2's definition, after torch-fidelity's preprocessing."""
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as resize,
    )

    state = {name: tensor.double() for name, tensor in state.items()}
    levels = (images.clamp(0, 1) * 255).round().expand(-1, 3, -1, -1)
    x = resize(levels, size=(224, 224), align_corners=False).double() / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).double()
    x = (x - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name, x):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    patches = functional.unfold(x, 14, stride=14).transpose(1, 2)
    x = patches @ state["patch_embed.proj.weight"].flatten(1).T + state["patch_embed.proj.bias"]
    grid = state["pos_embed"][0, 1:].T.reshape(1, -1, 37, 37)
    places = functional.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
    x = x + places.flatten(2).transpose(1, 2)
    first = state["cls_token"] + state["pos_embed"][:, :1]
    x = torch.cat([first.expand(len(x), -1, -1), x], dim=1)
    for index in range(SMALL.layers):
        block = f"blocks.{index}"
        parts = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x)).chunk(3, dim=-1)
        heads = [part.unflatten(-1, (SMALL.heads, -1)).transpose(1, 2) for part in parts]
        attended = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = x + state[f"{block}.ls1.gamma"] * linear(f"{block}.attn.proj", attended)
        inner = functional.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x)))
        x = x + state[f"{block}.ls2.gamma"] * linear(f"{block}.mlp.fc2", inner)
    return norm("norm", x)[:, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_its_definition(channels, small, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(small, file)
    extractor = features.build_extractor(FeatureOptions(name=NAME, weights=file), CPU)
    images = torch.rand(3, channels, 28, 20, generator=torch.Generator().manual_seed(1))
    found, expected = extractor(images), reference(small, images).float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1  # the images differ in them
    names = [extractor.result_name(metric) for metric in ("fid", "fid_lp", "kid", "recall")]
    named = "dinov2_vit_b_14"
    assert names == [
        f"frechet_{named}",
        f"frechet_{named}_lp",
        f"kernel_{named}",
        f"recall_{named}",
    ]
    assert extractor.label.startswith("weights.pth (sha256 ")


@pytest.mark.parametrize(
    ("name", "parameters"),  # of the published networks, without the mask token
    [("dinov2-vit-s-14", 22_056_192), ("dinov2-vit-b-14", 86_579_712)],
)
def test_the_networks_have_as_many_weights_as_the_published_ones(name, parameters):
    architecture = dinov2.ARCHITECTURES[name]
    described = shapes(architecture)
    assert sum(torch.Size(shape).numel() for shape in described.values()) == (
        parameters + architecture.width
    )
    state = {name: torch.zeros(shape, device="meta") for name, shape in described.items()}
    dinov2.vision_transformer(architecture, state)


def test_weights_are_found_in_the_hub_s_cache(small, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(MissingError, match="not in torch's hub cache") as caught:
        dinov2.find_dinov2(NAME)
    assert "dinov2_vitb14_pretrain.pth" in caught.value.hint
    assert "--features-weights" in caught.value.hint
    file = tmp_path / "checkpoints" / "dinov2_vitb14_pretrain.pth"
    file.parent.mkdir()
    torch.save(small, file)
    assert dinov2.find_dinov2(NAME) == file
    dinov2.load_dinov2(NAME, file)


class Harmful:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("blocks.1.ls1.gamma"), "blocks.1.ls1.gamma"),
        (lambda state: state.update(register_tokens=torch.zeros(1)), "register_tokens"),
        (lambda state: state.update(cls_token=torch.zeros(1, 1, 7)), "size mismatch"),
        (lambda state: state.update(pos_embed=torch.zeros(5)), "does not hold"),
        (lambda state: state.update(cls_token=Harmful()), "more than tensors"),
        (lambda state: state.update(cls_token="a"), "no state dict"),
    ],
)
def test_other_weights_are_refused(change, said, small, tmp_path, capsys):
    change(small)
    torch.save(small, tmp_path / "other.pth")
    with pytest.raises(MissingError, match=said) as caught:
        dinov2.load_dinov2(NAME, tmp_path / "other.pth")
    assert "--features-weights" in caught.value.hint
    assert "code ran" not in capsys.readouterr().out


def test_the_extra_is_named_where_it_is_missing(monkeypatch, tmp_path):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("torch_fidelity"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingError, match=r"torch-fidelity, version 0\.4\.0") as caught:
        dinov2.load_dinov2(NAME, tmp_path / "weights.pth")
    assert "pip install" in caught.value.hint


def test_options_that_contradict_each_other():
    with pytest.raises(UsageError, match="--features-name names a network"):
        FeatureOptions(name=NAME, dimensions=768)
    with pytest.raises(UsageError, match="no such extractor") as caught:
        dinov2.find_dinov2("dino")
    assert NAME in caught.value.hint
    with pytest.raises(MissingError, match="--features-weights nowhere: there is no such file"):
        dinov2.find_dinov2(NAME, Path("nowhere"))

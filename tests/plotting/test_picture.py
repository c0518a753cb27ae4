from pathlib import Path

import numpy as np
import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import samples, style

SHAPES = {
    "grey": (1, 8, 8),
    "colour": (3, 8, 8),
    "plane": (2,),
    "one": (1,),
    "few": (5,),
    "many": (30,),
    "odd": (2, 3),
}


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".PNG"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_shape_has_a_picture(shape, suffix, tmp_path):
    decoded = np.random.default_rng(0).random((6, *shape), dtype=np.float32)
    density = np.zeros(6, np.float32)
    path = samples.save_picture(
        tmp_path / f"x{suffix}", decoded, log_density=density, title="a $run"
    )
    start = path.read_bytes()[:4]
    assert start == (b"%PDF" if suffix == ".pdf" else b"\x89PNG")


def test_another_suffix_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"x\.svg"):
        samples.save_picture(
            tmp_path / "x.svg", np.zeros((2, 2)), log_density=np.zeros(2), title="a"
        )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_picture_has_its_title(shape, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(style, "escape_label", lambda text, width: written.append(text) or text)
    decoded = np.random.default_rng(0).random((6, *shape), dtype=np.float32)
    samples.save_picture(
        tmp_path / "x.png", decoded, log_density=np.zeros(6), title="a run: 6 samples"
    )
    assert "a run: 6 samples" in written

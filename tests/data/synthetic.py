"""Small pictures drawn for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(width: int, height: int, *, seed: int = 0) -> np.ndarray:
    """Return (height, width, 3) bytes: a smooth ramp, another for every seed."""
    random = np.random.default_rng(seed)
    start, right, down = random.integers(0, 80, (3, 3))
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    ramp = start + right * x[..., None] + down * y[..., None]
    return ramp.astype(np.uint8)


def draw(path: Path, width: int = 89, height: int = 109, *, seed: int = 0, mode: str = "RGB"):
    """Write a picture in the format of the path's suffix and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(width, height, seed=seed)).convert(mode).save(path)
    return path


def draw_all(folder: Path, count: int, **kwargs) -> list[str]:
    """Write 000001.png and so on, every one another, and return their names."""
    names = [f"{number:06d}.png" for number in range(1, count + 1)]
    for seed, name in enumerate(names):
        draw(folder / name, seed=seed, **kwargs)
    return names

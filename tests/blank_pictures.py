"""Blank pictures, for tests of what leads to them: drawing takes longer than the commands.

`tests/plotting` draws every figure as users get it.
"""

import pytest
from PIL import Image

from dpvae_cli.plotting import style


def save_blank(figure, suffix, file):
    """Write a white picture of the figure's shape, 20 pixels an inch."""
    width, height = figure.get_size_inches()
    blank = Image.new("RGB", (int(20 * width), int(20 * height)), "white")
    blank.save(file, format=suffix[1:].upper())


@pytest.fixture(scope="module", autouse=True)
def blank_pictures():
    """Draw nothing in the tests of a module, or of the folder whose conftest.py imports this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "_render", save_blank)
        yield

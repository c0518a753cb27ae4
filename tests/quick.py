"""Stand-ins for what takes longest in tests of something else: pictures, and a classifier.

`tests/plotting` draws every figure as users get it, `tests/evaluation/test_two_sample.py` has the
classifier.
"""

import pytest
from PIL import Image

from dpvae_cli.evaluation import classifiers
from dpvae_cli.plotting import style


def save_blank(figure, suffix, file):
    """Write a white picture of the figure's shape, 200 dots an inch."""
    width, height = figure.get_size_inches()
    blank = Image.new("RGB", (int(200 * width), int(200 * height)), "white")
    blank.save(file, format=suffix[1:].upper())


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Save time in the tests of a module, or of the folder whose conftest.py imports this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "_render", save_blank)
        patch.setattr(classifiers, "BOOSTED_TREES", 4)
        yield

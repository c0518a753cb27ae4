"""The frozen base of every recipe section."""

from typing import Literal

import pytest
from pydantic import ValidationError

from dpvae_cli.foundation.spec import FloatTuple, LayerSizes, Spec


class Example(Spec):
    kind: Literal["example"] = "example"
    count: int = 1
    weight: float = 1.0
    sizes: LayerSizes = (2,)
    numbers: FloatTuple = ()


@pytest.mark.parametrize(
    "fields",
    [
        {"other": 1},
        {"count": "1"},
        {"count": 1.0},
        {"count": True},
        {"weight": "1"},
        {"weight": float("nan")},
        {"weight": float("inf")},
        {"sizes": [0]},
        {"sizes": ["3"]},
        {"numbers": ["3"]},
        {"numbers": [float("nan")]},
    ],
    ids=str,
)
def test_refused(fields):
    with pytest.raises(ValidationError):
        Example(**fields)


def test_lists_of_yaml_and_whole_numbers_are_accepted():
    spec = Example(weight=2, sizes=[3, 4], numbers=[1, 2.5])
    assert (spec.weight, spec.sizes, spec.numbers) == (2.0, (3, 4), (1.0, 2.5))


def test_specs_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Example().count = 2

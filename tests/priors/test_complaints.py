"""Which priors do not fit which latent spaces, and what is said about it."""

import re

import pytest
from pydantic import TypeAdapter, ValidationError

from dpvae_cli.mathematics.coupling import alternating, halves
from dpvae_cli.priors import AnyPrior, Decoupled, StandardNormal

PRIOR = TypeAdapter(AnyPrior)


@pytest.mark.parametrize(
    ("fields", "latent_dim", "complaint"),
    [
        ({}, 1, r"needs latent_dim >= 2 \(given: 1\).*standard_normal"),
        ({"blocks": 1}, 2, "no block transforms dimension 0"),
        ({"blocks": 1}, 8, "no block transforms dimension 0"),
        ({"blocks": 2, "masks": ((1, 0, 1), (1, 1, 0))}, 3, "transforms dimension 0"),
        ({"blocks": 2, "masks": ((1, 0), (1, 1))}, 2, "ones alone transforms nothing"),
        ({"blocks": 3, "masks": ((1, 0), (0, 1))}, 2, "2 masks are given for 3 blocks"),
        ({"blocks": 2, "masks": ((1, 0), (0, 1))}, 3, r"mask \[1, 0\] has 2 entries"),
        ({"blocks": 2, "masks": ((1, 0), (0, 1, 0))}, 2, r"mask \[0, 1, 0\] has 3 entries"),
        ({"masks": ()}, 2, "0 masks are given for 6 blocks"),
    ],
)
def test_what_does_not_fit(fields, latent_dim, complaint):
    said = Decoupled(**fields).validation_error(latent_dim)
    assert said is not None
    assert re.search(complaint, said), said


@pytest.mark.parametrize(
    "spec",
    [Decoupled(), Decoupled(blocks=2), Decoupled(blocks=2, masks=((0, 0), (0, 1)))],
    ids=["default", "two blocks", "a mask of zeros"],
)
def test_what_fits(spec):
    assert spec.validation_error(2) is None


@pytest.mark.parametrize("latent_dim", [1, 2, 100])
def test_standard_normal_fits_everything(latent_dim):
    assert StandardNormal().validation_error(latent_dim) is None


def test_mask_words():
    assert Decoupled(blocks=3).resolve_masks(4) == halves(3, 4)
    assert Decoupled(blocks=3, masks="alternating").resolve_masks(4) == alternating(3, 4)


def test_masks_of_a_yaml_list():
    given = {"kind": "decoupled", "blocks": 2, "masks": [[1, 0], [0, 1]]}
    assert PRIOR.validate_python(given).resolve_masks(2) == ((1, 0), (0, 1))


@pytest.mark.parametrize(
    "fields",
    [
        {"masks": [[1, 2], [0, 1]]},
        {"masks": [[True, False], [False, True]]},
        {"masks": "thirds"},
        {"blocks": 0},
        {"hidden": 0},
        {"scale_bound": 0.0},
        {"translate_bound": -1.0},
        {"scale_bound": float("inf")},
        {"bound": 1.0},
    ],
    ids=str,
)
def test_refused_fields(fields):
    with pytest.raises(ValidationError):
        PRIOR.validate_python({"kind": "decoupled", **fields})

"""What every regularizer must do, over the unions of regularizers and priors."""

from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from dpvae_cli.foundation.randomness import stream
from tests.mathematics.random_models import normal, random_posterior
from tests.regularizers.cases import (
    BATCH,
    LATENT,
    PRIORS,
    REGULARIZERS,
    build,
    kind_of,
    random_prior,
    spec_of,
    terms_of,
    weighted,
)

each_prior = pytest.mark.parametrize("prior_class", PRIORS, ids=kind_of)
each_regularizer = pytest.mark.parametrize("spec_class", REGULARIZERS, ids=kind_of)


def loss_of(spec, prior) -> torch.Tensor:
    """Return the weighted loss at iteration 10, after one step of the adversary if there is one."""
    regularizer = build(spec)
    adversary = regularizer.adversary
    if adversary is not None:
        optimizer = torch.optim.SGD(adversary.parameters(), lr=adversary.learning_rate)
        z, other = normal(BATCH, LATENT, seed=20), normal(BATCH, LATENT, seed=21)
        adversary(z, other, generator=stream(0, "adversary")).backward()
        optimizer.step()
    posterior = random_posterior(BATCH, LATENT)
    z = posterior.sample(generator=stream(0, "z"))
    return weighted(terms_of(regularizer, posterior, z, prior)).detach()


def alternatives(info: Any, value: Any) -> list[Any]:
    """Return other legal values of a field: the other words, or another number."""
    parts = [info.annotation, *get_args(info.annotation)]
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    if words:
        return [word for word in words if word != value]
    if value is None or isinstance(value, int):
        return [(value or 1) + 1]
    return [value / 2 + 0.1]


FIELDS = [
    (spec_class, name)
    for spec_class in REGULARIZERS
    for name in spec_class.model_fields
    if name not in ("kind", "warm_up")  # the latter: test_warm_up.py
]


@each_prior
@each_regularizer
def test_terms_are_finite_and_reach_the_encoder(spec_class, prior_class):
    posterior = random_posterior(BATCH, LATENT)
    z = posterior.sample(generator=stream(0, "z"))
    terms = terms_of(build(spec_of(spec_class)), posterior, z, random_prior(prior_class))
    assert any(term.weight for term in terms.values())
    for name, term in terms.items():
        assert term.value.shape in {(BATCH,), ()}, name
        assert torch.isfinite(term.value).all(), name
        assert isinstance(term.weight, float), name
    weighted(terms).backward()
    for leaf in (posterior.mean, posterior.log_variance):
        assert torch.isfinite(leaf.grad).all()
        assert (leaf.grad != 0).all()


@each_prior
@each_regularizer
def test_terms_reach_the_prior(spec_class, prior_class):
    posterior, prior = random_posterior(BATCH, LATENT), random_prior(prior_class)
    z = posterior.sample(generator=stream(0, "z"))
    loss = weighted(terms_of(build(spec_of(spec_class)), posterior, z, prior))
    loss.backward()
    assert all((p.grad != 0).any() for p in prior.parameters())


@each_prior
@pytest.mark.parametrize(
    ("spec_class", "name"), FIELDS, ids=[f"{kind_of(c)}.{name}" for c, name in FIELDS]
)
def test_every_field_changes_the_loss(spec_class, name, prior_class):
    spec, prior = spec_of(spec_class), random_prior(prior_class)
    value = getattr(spec, name)
    others = [
        spec_of(spec_class, **{name: o}) for o in alternatives(spec_class.model_fields[name], value)
    ]
    before = loss_of(spec, prior)
    assert torch.equal(loss_of(spec, prior), before), "the loss must be repeatable"
    after = [loss_of(other, prior) for other in others]
    assert after
    assert any((loss - before).abs() > 1e-6 * before.abs() for loss in after)


@each_regularizer
def test_terms_follow_the_generator(spec_class):
    posterior, prior = random_posterior(BATCH, LATENT), random_prior(PRIORS[0])
    z = posterior.sample(generator=stream(0, "z"))
    regularizer = build(spec_of(spec_class))
    first, second = (terms_of(regularizer, posterior, z, prior) for _ in range(2))
    assert torch.equal(weighted(first), weighted(second))


@each_regularizer
def test_state_holds_no_surprises(spec_class):
    """A checkpoint stores networks alone: nothing that depends on the batch or the data set."""
    regularizer = build(spec_of(spec_class))
    assert set(regularizer.state_dict()) == {name for name, _ in regularizer.named_parameters()}


def test_alternatives_knows_every_type_of_field():
    """Guard the helper: all its branches are taken by some field."""
    kinds = {type(getattr(spec_of(spec_class), name)) for spec_class, name in FIELDS}
    assert kinds == {float, int, str, NoneType}

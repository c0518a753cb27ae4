"""What codes are measured against: the training data's factors; and in which spaces."""

import torch

from dpvae_cli.data import GenerativeFactor
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.shapes import Codes, FactorValues
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.sampling.samples import from_codes

GENERATION = "_generation"
"""What the name of a result in z0 ends in."""


def in_both_spaces(context: EvaluationContext, z: Codes) -> dict[str, Codes]:
    """Return codes by what a result's name ends in: as they are in z, and g(z) in z0; float64.

    Where g is the identity both are one object; a prior without z0 has codes in z alone.
    """
    z0 = from_codes(context.model, z).z0
    z = z.cpu().double()
    if z0 is None:
        return {"": z}
    z0 = z0.double()
    return {"": z, GENERATION: z if torch.equal(z, z0) else z0}


def variances_in_both_spaces(context: EvaluationContext) -> dict[str, Codes]:
    """Return the variance of each training example's code, named as by `in_both_spaces`; float64.

    In z it is that of q(z|x); of g(z), z ~ q(z|x), it is estimated from two draws, without bias.
    """
    codes = context.aggregate
    found = {"": codes.log_variance.cpu().double().exp()}
    if context.model.prior.generation is not None:
        posterior = DiagonalGaussian(codes.mean.cpu(), codes.log_variance.cpu())
        generator = context.generator("variances")
        first, second = (
            in_both_spaces(context, posterior.sample(generator=generator))[GENERATION]
            for _ in range(2)
        )
        found[GENERATION] = (first - second).square() / 2
    return found


def training_means(context: EvaluationContext) -> Codes:
    """Return the posterior means of all training examples, in the order of the training split.

    Raises:
        DpvaeError: the encodings that are kept are of other data than the data that is read.
    """
    means, count = context.aggregate.mean.cpu(), len(context.dataset.train)
    if len(means) != count:
        raise DpvaeError(
            f"the encodings kept beside the checkpoint are of {len(means):,} training examples, "
            f"the data has {count:,}",
            hint="Name the data that the run was trained on with --data-root, or remove the "
            "checkpoint's .encodings.npz.",
        )
    return means


def varying_factors(
    context: EvaluationContext,
) -> tuple[tuple[GenerativeFactor, ...], FactorValues]:
    """Return the factors that vary over the training examples and their values, from 0.

    Raises:
        UsageError: the data has no known factors, or none that varies.
    """
    dataset = context.dataset
    if dataset.train.factors is None:
        raise UsageError(
            f"data {dataset.name} has no known factors of variation to measure codes against",
            hint="mig, dci, sap, factor_score and beta_score are for data.kind=sprites, dsprites, "
            "and arrays with data.factors=FILE.",
        )
    columns = [torch.unique(column, return_inverse=True)[1] for column in dataset.train.factors.T]
    pairs = zip(dataset.factors, columns, strict=True)
    varying = [(factor, values) for factor, values in pairs if int(values.max()) > 0]
    if not varying:
        raise UsageError(f"no factor of data {dataset.name} varies: there is nothing to find")
    factors, values = zip(*varying, strict=True)
    return factors, torch.stack(values, dim=1)

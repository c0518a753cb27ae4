"""Log-densities of q(z) and of the product of its marginals, estimated from one minibatch.

Source: Chen et al. 2018, "Isolating Sources of Disentanglement in VAEs", equation (3) and appendix
C.2. The weight matrix with 1/N in its first *column*, which several code bases share, is a slip:
here each row has its own component at 1/N and sums to one.
"""

import math

import torch
from torch import Tensor

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.gaussian import LOG_2PI, DiagonalGaussian


def stratified_log_weights(batch_size: int, dataset_size: int) -> Tensor:
    """Return log W, `(batch, batch)`: own component 1/N, every other (N - 1) / (N (B - 1)).

    Each row of W sums to one, and with B = N every weight is 1/N: the exact aggregate posterior.
    """
    own = 1 / dataset_size
    other = (dataset_size - 1) / (dataset_size * (batch_size - 1))
    log_weights = torch.full((batch_size, batch_size), math.log(other))
    return log_weights.fill_diagonal_(math.log(own))


def weighted_log_weights(batch_size: int, dataset_size: int) -> Tensor:
    """Return log 1/(N B) everywhere, `(batch, batch)`: biased low, for rows sum to 1/N."""
    return torch.full((batch_size, batch_size), -math.log(dataset_size * batch_size))


def minibatch_log_densities(
    posterior: DiagonalGaussian, z: Codes, log_weights: Tensor
) -> tuple[PerExample, PerExample]:
    """Return estimates of log q(z_i) and of sum_l log q(z_il) for each row i, in nats.

    log q(z_i) ~ log sum_j W_ij q(z_i | x_j), and the same in each dimension. `z` are draws of the
    batch, one each or of some of it; log W has a row for each of z, a column for each of the batch.
    """
    mean, log_variance = posterior.mean.T.unsqueeze(1), posterior.log_variance.T.unsqueeze(1)
    standardised = (z.T.unsqueeze(2) - mean) * torch.exp(-0.5 * log_variance)
    constant = -0.5 * (log_variance + LOG_2PI)
    # log q(z_il | x_j), (latent, batch i, batch j), by subtraction, which is exact
    pairwise = torch.addcmul(constant, standardised, standardised, value=-0.5)
    joint = torch.logsumexp(log_weights + pairwise.sum(dim=0), dim=1)
    marginals = torch.logsumexp(log_weights + pairwise, dim=2)
    return joint, marginals.sum(dim=0)

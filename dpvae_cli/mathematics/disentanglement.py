"""How codes and known factors of variation go together: what scores of disentanglement are made of.

Throughout, codes are `(count, latent)` and a factor's values are integers; a matrix has a row for
each latent dimension and a column for each factor.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpvae_cli.foundation.shapes import Codes, FactorValues, Indices

Matrix = Float[Tensor, "latent factors"]
PerFactor = Float[Tensor, " factors"]
PerLatent = Float[Tensor, " latent"]
Bins = Int[Tensor, "count latent"]


def equal_width_bins(codes: Codes, *, bins: int) -> Int[Tensor, "batch latent"]:
    """Return which of `bins` equal parts of its dimension's range each value lies in, from 0."""
    low, high = codes.amin(dim=0), codes.amax(dim=0)
    width = torch.where(high > low, high - low, torch.ones_like(low))
    return ((codes - low) / width * bins).long().clamp(max=bins - 1)


def entropies(values: FactorValues) -> PerFactor:
    """Return the entropy of each column's empirical distribution, nats."""
    found = [_entropy(torch.unique(column, return_counts=True)[1]) for column in values.T]
    return torch.stack(found)


def _entropy(counts: Int[Tensor, " cells"]) -> Float[Tensor, ""]:
    share = counts[counts > 0].double() / counts.sum()
    return -(share * share.log()).sum()


def mutual_information(bins: Bins, values: Int[Tensor, "count factors"]) -> Matrix:
    """Return I(bin of dimension i; factor j) of the empirical distribution, nats.

    I(a; b) = H(a) + H(b) - H(a, b). From n examples it is too high by about
    (bins - 1) (values - 1) / 2n.
    """
    of_bins, of_values = entropies(bins), entropies(values)
    spread = int(values.max()) + 1
    joint = torch.stack(
        [torch.stack([_entropy(torch.bincount(b * spread + v)) for v in values.T]) for b in bins.T]
    )
    return of_bins.unsqueeze(1) + of_values - joint


def top_two_gap(scores: Matrix) -> PerFactor:
    """Return by how much each factor's best dimension is ahead of the next; one alone, of zero."""
    ranked = scores.sort(dim=0, descending=True).values
    return ranked[0] - ranked[1] if len(ranked) > 1 else ranked[0]


def mutual_information_gap(codes: Codes, values: FactorValues, *, bins: int) -> PerFactor:
    """Return the gap of mutual information of each factor, as a share of its entropy: 0 to 1.

    MIG = mean over j of (I(z_i*; v_j) - max over i other than i* of I(z_i; v_j)) / H(v_j). Values
    are from 0, and each column has two different ones at least.

    Source: Chen et al. 2018, equation (6); histograms as in Locatello et al. 2019, appendix C.
    """
    information = mutual_information(equal_width_bins(codes, bins=bins), values)
    return top_two_gap(information) / entropies(values)


def squared_correlation(codes: Codes, values: Float[Tensor, " batch"]) -> PerLatent:
    """Return R^2 of the line that predicts a factor from each dimension; 0 where one is constant.

    Source: Kumar et al. 2018, section 3.
    """
    a, b = codes - codes.mean(dim=0), values - values.mean()
    product = a.square().sum(dim=0) * b.square().sum()
    covered = (a * b.unsqueeze(1)).sum(dim=0).square()
    return torch.where(product > 0, covered / product.clamp(min=1e-300), torch.zeros_like(covered))


def disentanglement(importance: Matrix) -> Float[Tensor, ""]:
    """Return how far each dimension matters for one factor alone, by importance: 0 to 1.

    D = sum_i rho_i (1 - H_K(P_i)), P_ij = R_ij / sum_k R_ik, rho_i = sum_j R_ij / sum R, with
    logarithms to the base of the number of factors K.

    Source: Eastwood and Williams 2018, section 2.
    """
    weight = importance.sum(dim=1) / importance.sum().clamp(min=1e-300)
    return (weight * _concentration(importance)).sum()


def completeness(importance: Matrix) -> PerFactor:
    """Return how far one dimension alone matters for each factor: 0 to 1.

    C_j = 1 - H_D(R_j / sum_i R_ij), with logarithms to the base of the number of dimensions D.

    Source: Eastwood and Williams 2018, section 2.
    """
    return _concentration(importance.T)


def _concentration(rows: Float[Tensor, "rows columns"]) -> Float[Tensor, " rows"]:
    """Return 1 - entropy of each row, normalised: 1 for one entry alone, 0 for equal ones or none.

    Rows of one column are concentrated, whatever they hold.
    """
    if rows.shape[1] == 1:
        return torch.ones_like(rows[:, 0])
    total = rows.sum(dim=1, keepdim=True)
    share = rows / total.clamp(min=1e-300)
    entropy = -torch.xlogy(share, share).sum(dim=1)
    found = 1 - entropy / torch.tensor(rows.shape[1], dtype=rows.dtype).log()
    return torch.where(total[:, 0] > 0, found, torch.zeros_like(found))


def sample_with_same_value(
    values: Int[Tensor, " count"], of: Indices, *, size: int, generator: torch.Generator
) -> Int[Tensor, "batch {size}"]:
    """Draw, for each of some examples, `size` examples with the same value of a factor.

    They are drawn with replacement; `of` are the positions of the examples whose values are shared.
    """
    _, value, counts = torch.unique(values, return_inverse=True, return_counts=True)
    order = torch.argsort(value, stable=True)
    first = counts.cumsum(0) - counts
    drawn = torch.rand(len(of), size, generator=generator, dtype=torch.float64)
    mine = value[of].unsqueeze(1)
    return order[first[mine] + (drawn * counts[mine]).long()]


def majority_vote_accuracy(
    votes: Int[Tensor, "votes 2"], others: Int[Tensor, "others 2"], *, factors: int
) -> float:
    """Return how often the commonest factor of a dimension's votes is that of other votes.

    Votes are pairs (dimension, factor); the classifier is made of `votes` and tried on `others`.

    Source: Kim and Mnih 2018, section 4 and appendix B.
    """
    dimensions = int(max(votes[:, 0].max(), others[:, 0].max())) + 1
    counts = torch.bincount(votes[:, 0] * factors + votes[:, 1], minlength=dimensions * factors)
    guess = counts.view(-1, factors).argmax(dim=1)
    return float((guess[others[:, 0]] == others[:, 1]).double().mean())

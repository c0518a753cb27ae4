"""The largest distance between two empirical distribution functions, dimension by dimension."""

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.foundation.shapes import Codes, OtherCodes


def kolmogorov_distance(first: Codes, second: OtherCodes) -> Float[Tensor, " latent"]:
    """Return sup over t of |F(t) - G(t)| in each dimension, float64 and between 0 and 1.

    F and G are the shares of `first` and of `second` that are at most t. The distance does not
    change where a dimension is bent by an increasing function: it has no scale.

    Example:
        >>> import torch
        >>> kolmogorov_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [2.0]]))
        tensor([0.5000], dtype=torch.float64)
    """
    steps = torch.cat([first, second]).T.contiguous()
    shares = []
    for sample in (first, second):
        ordered = sample.T.to(steps.dtype).contiguous().sort(dim=1).values
        shares.append(torch.searchsorted(ordered, steps, right=True).double() / sample.shape[0])
    return torch.sub(*shares).abs().amax(dim=1)

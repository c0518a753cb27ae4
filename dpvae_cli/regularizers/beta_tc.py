"""beta-TCVAE: the KL taken apart and weighted anew (Chen et al. 2018; paper, equations (30), (31)).

With MI = log q(z|x) - log q(z), TC = log q(z) - log prod_j q(z_j) and
D = log prod_j q(z_j) - log p(z), each estimated from the minibatch at one draw z,
MI + TC + D = log q(z|x) - log p(z).

    printed:  alpha MI + beta TC + gamma D                    (30), (31) with the full log p(z)
    joint:    alpha MI + (beta - 1) TC + gamma (TC + D)       TC + D estimates KL[q(z), p(z)]

For a prior that does not factorise, D = KL[q(z), p(z)] - TC: it is not a dimension-wise KL, and the
printed form would weight TC by beta - gamma. `form: auto` takes `printed` where p(z) factorises and
`joint` where it does not; the two agree at gamma = 1. Weights per batch divide the terms' weights,
so beta - 1 as a whole: beta / batch - 1 would reward TC.
"""

from typing import Annotated, Literal, final

from pydantic import Field
from torch import Tensor

from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.mathematics.total_correlation import (
    minibatch_log_densities,
    stratified_log_weights,
    weighted_log_weights,
)
from dpvae_cli.regularizers.base import (
    Batch,
    DataSizes,
    Regularizer,
    Term,
    WarmUpSpec,
    WeightsPer,
    per_example_weight,
)

Form = Literal["auto", "joint", "printed"]
SAMPLING = {"stratified": stratified_log_weights, "weighted": weighted_log_weights}


@final
class BetaTcRegularizer(Regularizer):
    """The decomposed KL, each term's weight times `share`: 1, or one over the batch size."""

    log_weights: Tensor

    def __init__(
        self,
        *,
        alpha: float,
        beta: float,
        gamma: float,
        form: Form,
        log_weights: Tensor,
        share: float = 1.0,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.form, self.share = form, share
        self.register_buffer("log_weights", log_weights, persistent=False)

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return mutual information, total correlation and the term with p(z)."""
        log_q_given_x = batch.posterior.log_prob(batch.z)
        log_weights = self.log_weights[batch.group.local_slice(len(self.log_weights))]
        mean, log_variance = batch.posterior.mean, batch.posterior.log_variance
        global_posterior = DiagonalGaussian(
            batch.group.all_gather(mean), batch.group.all_gather(log_variance)
        )
        log_q, log_q_product = minibatch_log_densities(
            global_posterior, batch.z, log_weights.to(batch.z.dtype)
        )
        log_p = batch.prior.log_prob(batch.z)
        mutual_information = Term(log_q_given_x - log_q, self.share * self.alpha)
        total_correlation = log_q - log_q_product
        if self.form == "joint" or (self.form == "auto" and not batch.prior.factorises):
            return {
                "mutual_information": mutual_information,
                "total_correlation": Term(total_correlation, self.share * (self.beta - 1)),
                "marginal_kl": Term(log_q - log_p, self.share * self.gamma),
            }
        return {
            "mutual_information": mutual_information,
            "total_correlation": Term(total_correlation, self.share * self.beta),
            "dimension_wise_kl": Term(log_q_product - log_p, self.share * self.gamma),
        }


@final
class BetaTc(WarmUpSpec):
    """beta-TCVAE: mutual information, total correlation and the rest of the KL, each weighted."""

    kind: Literal["beta_tc"] = "beta_tc"
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the mutual information (paper, Table 2: 1)."""
    beta: Annotated[float, Field(ge=0)] = 4.0
    """Weight of the total correlation (paper, Table 2: 4)."""
    gamma: Annotated[float, Field(ge=0)] = 15.0
    """Weight of the term with p(z) (paper, Table 2: 15)."""
    form: Form = "auto"
    """`printed` as (30), (31), `joint` with KL[q(z), p(z)], `auto` by whether p(z) factorises."""
    sampling: Literal["stratified", "weighted"] = "stratified"
    """Minibatch weights for q(z): `stratified` sums to one, `weighted` is biased."""
    weights_per: WeightsPer = "example"
    """`batch` divides the weight of each term by training.batch_size, as the released code does."""

    def build(self, latent_dim: int, sizes: DataSizes) -> BetaTcRegularizer:
        """Return the regularizer; it needs at least two examples a batch."""
        return BetaTcRegularizer(
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            form=self.form,
            log_weights=SAMPLING[self.sampling](sizes.batch_size, sizes.dataset_size),
            share=per_example_weight(1.0, self.weights_per, sizes.batch_size),
        )

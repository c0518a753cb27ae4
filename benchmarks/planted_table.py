"""The planted cases of docs/metrics.md: proposals for nll and estimators for dci.

    python -m benchmarks.planted_table

nll: a linear Gaussian model with known p(x), and an encoder that is narrower than the true
posterior or displaced from it; error in nats and reported standard error, a mean over 8 examples
with 21,000 draws. dci: codes of 5 standardised factors with 3 to 16 values, with noise of half a
standard deviation, and 5 dimensions of noise; 5,000 examples.
"""

import math

import torch
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

import dpvae_cli as dpvae
from dpvae_cli.architectures import Encoder
from dpvae_cli.evaluation import classifiers, nll
from dpvae_cli.evaluation.nll_cache import ImportanceEstimate
from dpvae_cli.likelihoods import GaussianLikelihood
from dpvae_cli.mathematics.disentanglement import disentanglement
from dpvae_cli.mathematics.gaussian import DiagonalGaussian

SCALE, EXAMPLES, SAMPLES = 0.3, 8, 21_000
CASES = ((1, 0), (3, 0), (10, 0), (1, 6), (3, 6))
VALUES, NOISE, CODES = (3, 6, 10, 16, 16), 0.5, 5_000


def planted(latent_dim: int, narrow: float, shift: float) -> tuple[dpvae.VAE, Tensor, Tensor]:
    """Return a model, examples and their exact -log p(x)."""
    torch.manual_seed(0)
    data_dim = 3 * latent_dim
    weight = torch.randn(data_dim, latent_dim, dtype=torch.float64) / math.sqrt(latent_dim)
    x = torch.randn(EXAMPLES, latent_dim, dtype=torch.float64) @ weight.T
    x = x + SCALE * torch.randn(EXAMPLES, data_dim, dtype=torch.float64)
    precision = torch.eye(latent_dim, dtype=torch.float64) + weight.T @ weight / SCALE**2
    deviation = precision.diagonal().rsqrt()
    encoder = nn.Linear(data_dim, 2 * latent_dim, dtype=torch.float64)
    gain = torch.linalg.solve(precision, weight.T) / SCALE**2
    encoder.weight.data = torch.cat([gain, torch.zeros_like(gain)])
    moved = shift * deviation / math.sqrt(latent_dim)
    encoder.bias.data = torch.cat([moved, 2 * (deviation / narrow).log()])
    decoder = nn.Linear(latent_dim, data_dim, bias=False, dtype=torch.float64)
    decoder.weight.data = weight
    model = dpvae.VAE(
        encoder=Encoder(encoder),
        decoder=decoder,
        likelihood=GaussianLikelihood(SCALE, learned=False, floor=1e-3),
        prior="standard_normal",
        latent_dim=latent_dim,
        example_shape=(data_dim,),
    ).double()
    covariance = weight @ weight.T + SCALE**2 * torch.eye(data_dim, dtype=torch.float64)
    exact = -MultivariateNormal(x.new_zeros(data_dim), covariance).log_prob(x)
    return model, x, exact


def cell(found: list[ImportanceEstimate], exact: Tensor) -> str:
    """Return error, reported standard error, and median effective sample size."""
    off = sum(one.nll for one in found) / EXAMPLES - float(exact.mean())
    error = math.sqrt(sum(one.standard_error**2 for one in found)) / EXAMPLES
    effective = sorted(one.effective_samples for one in found)[EXAMPLES // 2]
    return f"{off:+.3f} ± {error:.3f} ({effective:.0f})"


def encoder_alone(
    _: dpvae.VAE, __: Tensor, start: DiagonalGaussian, **___: object
) -> DiagonalGaussian:
    """Return the encoder's posterior as the fitted one, so that both halves are equal."""
    return start


def proposals() -> None:
    """Print the table of nll."""
    print(
        "| L | too narrow by | off by | encoder alone | half fitted |\n|---:|---:|---:|---:|---:|"
    )
    for latent_dim in (2, 8, 16):
        for narrow, shift in CASES:
            model, x, exact = planted(latent_dim, narrow, shift)
            cells = []
            for fit in (encoder_alone, nll.fit_posteriors):
                original, nll.fit_posteriors = nll.fit_posteriors, fit
                generators = [torch.Generator().manual_seed(i) for i in range(EXAMPLES)]
                found = nll.negative_log_likelihoods(
                    model, x, samples=SAMPLES, generators=generators
                )
                nll.fit_posteriors = original
                cells.append(cell(found, exact))
            print(f"| {latent_dim} | {narrow} | {shift} |", " | ".join(cells), "|", flush=True)


def estimators() -> None:
    """Print the table of dci."""
    generator = torch.Generator().manual_seed(0)
    values = torch.stack([torch.randint(n, (CODES,), generator=generator) for n in VALUES], dim=1)
    codes = (values - values.double().mean(dim=0)) / values.double().std(dim=0)
    codes = torch.cat([codes, torch.zeros_like(codes)], dim=1)
    codes = codes + NOISE * torch.randn(codes.shape, generator=generator, dtype=torch.float64)
    x, y = codes.chunk(2)
    importances: dict[str, list[Tensor]] = {"depth cross-validated": []}
    for column in values.T:
        known, expected = column.chunk(2)
        forest = classifiers.forest(x, known, held_out=y, expected=expected, seed=0)
        importances["depth cross-validated"].append(forest.importance)
        for name, kind in (
            ("grown in full", RandomForestClassifier(10, max_features=None, random_state=0)),
            ("gradient boosting", GradientBoostingClassifier(random_state=0)),
        ):
            fitted = kind.fit(x.numpy(), known.numpy())
            found = torch.from_numpy(fitted.feature_importances_)
            importances.setdefault(name, []).append(found)
    print("\n| estimator | dci |\n|---|---:|")
    for name, columns in importances.items():
        print(f"| {name} | {float(disentanglement(torch.stack(columns, dim=1))):.2f} |")


if __name__ == "__main__":
    proposals()
    estimators()

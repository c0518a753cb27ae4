"""What a metric is called, which way it is better, and how much a reader wants to see it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import final


class Better(StrEnum):
    """Which way of a metric is better; some only describe."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


@final
@dataclass(frozen=True)
class MetricFacts:
    """What is said of a metric (docs/metrics.md has the whole of it).

    Args:
        pattern: of its names; `fid` has one for each number of dimensions.
        title: for the head of a column.
        better: which way.
        meaning: one line for readers of a report.
        is_headline: whether it stands in a report's first table.
    """

    pattern: str
    title: str
    better: Better
    meaning: str
    is_headline: bool = False


def _lower(pattern: str, title: str, meaning: str, *, headline: bool = False) -> MetricFacts:
    return MetricFacts(pattern, title, Better.LOWER, meaning, headline)


def _describes(pattern: str, title: str, meaning: str) -> MetricFacts:
    return MetricFacts(pattern, title, Better.NEITHER, meaning)


def _of_codes(
    pattern: str, title: str, meaning: str, *, headline: bool = False
) -> list[MetricFacts]:
    """Return a score of codes in z, and the same in z0."""
    return [
        MetricFacts(pattern, title, Better.HIGHER, meaning, headline),
        MetricFacts(f"{pattern}_generation", f"{title}, in z0", Better.HIGHER, f"{meaning}, in z0"),
    ]


FACTS = (
    _lower(
        "fid",
        "FID",
        "Fréchet distance of Inception features, samples to training images",
        headline=True,
    ),
    _lower("fid_lp", "FID (LP)", "the same for low-posterior samples", headline=True),
    _lower(
        r"fid(\d+)",
        "FID, {} dimensions",
        "Fréchet distance of fewer Inception features; not the published kind",
        headline=True,
    ),
    _lower(
        r"fid(\d+)_lp",
        "FID (LP), {} dimensions",
        "the same for low-posterior samples",
        headline=True,
    ),
    _lower(
        r"frechet_(.+)_lp",
        "Fréchet distance (LP), {}",
        "the same for low-posterior samples",
        headline=True,
    ),
    _lower(
        r"frechet_(.+)",
        "Fréchet distance, {}",
        "Fréchet distance of another network's features",
        headline=True,
    ),
    _lower(
        "kid",
        "KID",
        "kernel distance of Inception features; unbiased, may be negative",
        headline=True,
    ),
    _lower(
        r"kid(\d+)",
        "KID, {} dimensions",
        "kernel distance of fewer Inception features",
        headline=True,
    ),
    _lower(
        r"kernel_(.+)",
        "kernel distance, {}",
        "kernel distance of another network's features",
        headline=True,
    ),
    _lower(
        "skl",
        "sKL",
        "symmetric KL divergence between prior and aggregate posterior, exact densities",
        headline=True,
    ),
    _lower(
        "nll",
        "NLL",
        "negative log-likelihood of held-out examples, importance sampling",
        headline=True,
    ),
    _lower(
        "manifold",
        "distance to manifold",
        "mean distance of samples to the noiseless data",
        headline=True,
    ),
    _lower("manifold_lp", "distance (LP)", "the same for low-posterior samples", headline=True),
    _lower(
        "leak",
        "leakage at 5 %",
        "leakage score below the 5 % quantile of the model's own log p(z)",
        headline=True,
    ),
    _lower("leak_printed", "leakage, as printed", "the same with the paper's printed ratio"),
    _lower("skl_knn", "sKL by neighbours", "nearest-neighbour estimate of the sKL, in z"),
    _lower("skl_knn_generation", "sKL by neighbours, in z0", "the same in the generation space"),
    _lower("marginal_kl", "KL(q(z), p(z))", "divergence of the aggregate posterior from the prior"),
    _lower(
        "reconstruction", "reconstruction", "minus the expected log-likelihood, held-out examples"
    ),
    MetricFacts("elbo", "ELBO", Better.HIGHER, "evidence lower bound of held-out examples"),
    MetricFacts(
        "path",
        "log q(z), z0 above z",
        Better.HIGHER,
        "how much higher the lowest log q(z) on lines in z0 is than on lines in z",
        is_headline=True,
    ),
    MetricFacts("path_z", "lowest on z-lines", Better.HIGHER, "lowest log q(z) on lines in z"),
    MetricFacts("path_z0", "lowest on z0-lines", Better.HIGHER, "lowest log q(z) on lines in z0"),
    *_of_codes("mig", "MIG", "mutual information gap of codes and known factors", headline=True),
    *_of_codes("dci", "disentanglement (DCI)", "how far a dimension matters for one factor alone"),
    *_of_codes(
        "dci_completeness", "completeness (DCI)", "how far one dimension alone matters for a factor"
    ),
    *_of_codes(
        "dci_informativeness", "informativeness (DCI)", "held-out accuracy of factors from codes"
    ),
    *_of_codes("sap", "SAP", "separated attribute predictability"),
    *_of_codes(
        "factor_score", "FactorVAE score", "accuracy of a majority vote on the fixed factor"
    ),
    *_of_codes(
        "beta_score", "beta-VAE score", "accuracy of a linear classifier on the shared factor"
    ),
    *_of_codes(
        "probe",
        "linear probe",
        "held-out accuracy of a logistic regression on codes",
        headline=True,
    ),
    *_of_codes(
        "probe_knn", "neighbours probe", "held-out accuracy of nearest neighbours among codes"
    ),
    _describes("kl", "KL", "mean KL divergence of the posterior from the prior"),
    _describes("mutual_information", "mutual information", "between code and training example"),
    _describes("total_correlation", "total correlation", "of the aggregate posterior"),
    _describes(
        "dimension_wise_kl",
        "dimension-wise KL",
        "of the aggregate posterior's marginals from the prior's",
    ),
    _describes("active_units", "active units", "latent dimensions in use"),
    _lower("cost", "time a sample", "time to draw a code from the prior", headline=True),
    _lower("cost_density", "time a density", "time to evaluate log p(z) of a code", headline=True),
)
"""In the order of a report's columns."""

BY_PRODUCTS = {
    "elbo": (
        "reconstruction",
        "kl",
        "mutual_information",
        "total_correlation",
        "dimension_wise_kl",
        "marginal_kl",
    ),
    "skl_knn": ("skl_knn_generation",),
    "leak": ("leak_printed",),
    "path": ("path_z", "path_z0"),
    "cost": ("cost_density",),
    "mig": ("mig_generation",),
    "dci": (
        "dci_completeness",
        "dci_informativeness",
        "dci_generation",
        "dci_completeness_generation",
        "dci_informativeness_generation",
    ),
    "sap": ("sap_generation",),
    "factor_score": ("factor_score_generation",),
    "beta_score": ("beta_score_generation",),
    "probe": ("probe_knn", "probe_generation", "probe_knn_generation"),
}
"""What is measured along with a metric that was asked for."""

SHORT_UNITS = {"no unit": "", "squared feature units": "", "nats per example": "nats"}
"""What units are called where there is little room."""


def facts(metric: str) -> MetricFacts:
    """Return what is known of a metric; of an unknown one only its name, and no direction."""
    for known in FACTS:
        if found := re.fullmatch(known.pattern, metric):
            title = known.title.format(*found.groups())
            return MetricFacts(metric, title, known.better, known.meaning, known.is_headline)
    return MetricFacts(metric, metric, Better.NEITHER, "")


def is_known(metric: str) -> bool:
    """Return whether `FACTS` has an entry for the metric."""
    return any(re.fullmatch(known.pattern, metric) for known in FACTS)


def in_order(metrics: set[str]) -> list[str]:
    """Return metrics in the order of `FACTS`, unknown ones last by name."""

    def place(metric: str) -> tuple[int, str]:
        places = (i for i, known in enumerate(FACTS) if re.fullmatch(known.pattern, metric))
        return next(places, len(FACTS)), metric

    return sorted(metrics, key=place)


def is_asked(metric: str, asked: Sequence[str]) -> bool:
    """Return whether a metric is asked for by name, as `fid768` by `fid`, or as a by-product."""
    plain = re.sub(r"\d+", "", metric)
    return plain in asked or any(metric in BY_PRODUCTS.get(name, ()) for name in asked)

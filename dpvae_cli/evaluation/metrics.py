"""Every metric of `dpvae eval`, described once: help, completion, reports and docs read it here.

This module needs no torch, for the function of a metric is imported when it is called. To add a
metric, write its function in a file of this package and its record here.
"""

import pkgutil
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, final

if TYPE_CHECKING:
    from dpvae_cli.evaluation.context import EvaluationContext
    from dpvae_cli.foundation.results import Result

Need = Literal[
    "images", "manifold", "generation space", "factors", "labels", "a prior given labels"
]
"""What only some data sets or priors have."""
SHORT_UNITS = {"no unit": "", "squared feature units": "", "nats per example": "nats"}
"""Units where there is little room."""


class Direction(StrEnum):
    """Which values of a metric are better; some metrics only describe."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


@final
@dataclass(frozen=True)
class Metric:
    r"""A metric, or a result that is measured along with one (docs/metrics.md has the details).

    Args:
        name: as `--metrics` takes it; of a by-product also a pattern such as `fid(\d+)`.
        title: the head of a column; `{}` stands for the groups of the pattern.
        description: one line for readers of a report.
        unit: of its results.
        better: which values are.
        function: "module:function" that takes an `EvaluationContext` and returns results, the
            metric's own first; empty for a by-product.
        needs: what the data or the prior must have.
        sample_size: the field of `evaluation` that sets how many samples are drawn, if any does.
        is_limited_by_data: whether the data may have fewer samples than that.
        settings: keys of `details` that must agree for results to be compared.
        is_headline: whether it is in the first table of a report.
        is_default: whether it is measured when no metric is named and the data allows it.
        is_on_request: whether `all` leaves it out.
        codes: what it takes of codes without a model: "points", codes that may have no variances;
            "variances", without which q(z) has no density; None: it decodes them.
        by_products: what is measured along with it.
    """

    name: str
    title: str
    description: str
    unit: str
    better: Direction = Direction.LOWER
    function: str = ""
    needs: tuple[Need, ...] = ()
    sample_size: str | None = None
    is_limited_by_data: bool = False
    settings: tuple[str, ...] = ()
    is_headline: bool = False
    is_default: bool = False
    is_on_request: bool = False
    codes: Literal["points", "variances"] | None = None
    by_products: "tuple[Metric, ...]" = ()

    def measure(self, context: "EvaluationContext") -> "list[Result]":
        """Measure the metric and its by-products."""
        return list(pkgutil.resolve_name(self.function)(context))

    @property
    def records(self) -> "tuple[Metric, ...]":
        """Return the metric and its by-products."""
        return (self, *self.by_products)


HIGHER, NEITHER = Direction.HIGHER, Direction.NEITHER
_standard = partial(Metric, is_headline=True, is_default=True)


def _nats(name: str, title: str, description: str, **options: Any) -> Metric:
    return Metric(name, title, description, "nats per example", **options)


_neutral = partial(_nats, better=NEITHER)


def _of_codes(name: str, title: str, description: str, *also: Metric, **options: Any) -> Metric:
    """Return a score of codes in z, measured in z0 as well, where the prior has one."""
    function = f"dpvae_cli.evaluation.disentanglement:{name}"
    needs = {"needs": ("factors",), "sample_size": "factor_samples", "codes": "points"}
    options = {"function": function} | needs | options
    in_z = Metric(name, title, description, "no unit", HIGHER, is_limited_by_data=True, **options)
    in_z0 = replace(
        in_z,
        name=f"{name}_generation",
        title=f"{title}, in z0",
        description=f"{description}, in z0",
        is_headline=False,
    )
    by_products = (in_z0, *(record for each in also for record in each.records))
    return replace(in_z, by_products=tuple(replace(each, function="") for each in by_products))


def _of_features(
    name: str, title: str, description: str, unit: str = "squared feature units", **options: Any
) -> Metric:
    """Return a metric of image features, with the names that it has for other features."""
    kind, _, suffix = name.partition("_")
    lp = "_lp" if suffix else ""
    metric = Metric(
        name,
        title,
        description,
        unit,
        is_headline=True,
        **{
            "function": f"dpvae_cli.evaluation.fid:{name}",
            "needs": ("images",),
            "sample_size": "fid_samples",
            "settings": ("images", "dimensions", "reference", "pool"),
        }
        | options,
    )
    others = {"fid": ("frechet", "Fréchet distance"), "kid": ("kernel", "kernel distance")}
    other, distance = others.get(kind, (kind, kind))
    fewer = replace(
        metric,
        name=rf"{kind}(\d+){lp}",
        title=f"{title}, {{}} dimensions",
        description=f"{description}, of fewer features",
    )
    another = replace(
        metric,
        name=rf"{other}_(.+{'' if lp else '(?<!_lp)'}){lp}",
        title=f"{distance}{' (LP)' if lp else ''}, {{}}",
        description=f"{distance} of another network's features",
    )
    return replace(metric, by_products=(fewer, another))


def _of_support(name: str, title: str, description: str) -> Metric:
    """Return a metric of neighbours, of image features or else of examples as they are."""
    return _of_features(
        name,
        title,
        description,
        "no unit",
        better=HIGHER,
        function=f"dpvae_cli.evaluation.support:{name}",
        needs=(),
        sample_size="support_samples",
        is_limited_by_data=True,
        settings=("dimensions", "neighbours", "reference", "pool"),
    )


_ALL = (
    _of_features(
        "fid", "FID", "Fréchet distance of Inception features, samples to training images"
    ),
    _of_features("fid_lp", "FID (LP)", "the same for low-posterior samples"),
    _of_features(
        "kid", "KID", "kernel distance of Inception features; unbiased, may be negative", "no unit"
    ),
    _of_support(
        "precision", "precision", "share of samples that lie where examples do; sees pockets"
    ),
    _of_support("precision_lp", "precision (LP)", "the same for low-posterior samples"),
    _of_support("recall", "recall", "share of examples that lie where samples do; sees leaks"),
    _of_support(
        "density",
        "density",
        "how densely samples lie where examples do, 1 is perfect; sees pockets",
    ),
    _of_support(
        "coverage", "coverage", "share of examples that have a sample near them; sees leaks"
    ),
    _standard(
        "skl",
        "sKL",
        "symmetric KL divergence between prior and aggregate posterior, exact densities",
        "nats",
        codes="variances",
        function="dpvae_cli.evaluation.kl:skl",
        sample_size="samples",
    ),
    _standard(
        "nll",
        "NLL",
        "negative log-likelihood of held-out examples, importance sampling",
        "nats per example",
        function="dpvae_cli.evaluation.nll:nll",
        sample_size="nll_samples",
        settings=("images",),
    ),
    _standard(
        "leak",
        "leakage at 5 %",
        "leakage score below the 5 % quantile of the model's own log p(z)",
        "nats",
        codes="variances",
        function="dpvae_cli.evaluation.leakage:leak",
        sample_size="samples",
        settings=("value_at_quantile",),
        by_products=(
            Metric(
                "leak_printed",
                "leakage, as printed",
                "the same with the paper's printed ratio",
                "nats",
                settings=("value_at_quantile",),
            ),
        ),
    ),
    _standard(
        "manifold",
        "distance to manifold",
        "mean distance of samples to the noiseless data",
        "units of x",
        function="dpvae_cli.evaluation.manifold:manifold",
        needs=("manifold",),
        sample_size="manifold_samples",
    ),
    _standard(
        "manifold_lp",
        "distance (LP)",
        "the same for low-posterior samples",
        "units of x",
        function="dpvae_cli.evaluation.manifold:manifold_lp",
        needs=("manifold",),
        sample_size="manifold_samples",
        settings=("pool",),
    ),
    Metric(
        "skl_by_label",
        "sKL by label",
        "sKL between prior and codes of each label, mean over labels",
        "nats",
        function="dpvae_cli.evaluation.kl:skl_by_label",
        needs=("a prior given labels",),
        sample_size="samples",
        is_default=True,
    ),
    Metric(
        "skl_knn",
        "sKL by neighbours",
        "nearest-neighbour estimate of the sKL, in z",
        "nats",
        codes="variances",
        function="dpvae_cli.evaluation.kl:skl_knn",
        sample_size="samples",
        settings=("neighbours",),
        is_default=True,
        by_products=(
            Metric(
                "skl_knn_generation",
                "sKL by neighbours, in z0",
                "the same in the generation space",
                "nats",
                settings=("neighbours",),
            ),
        ),
    ),
    Metric(
        "c2st",
        "C2ST",
        "accuracy of a classifier of prior samples and codes; 0.5 is perfect",
        "no unit",
        codes="points",
        function="dpvae_cli.evaluation.two_sample:c2st",
        sample_size="c2st_samples",
        is_limited_by_data=True,
        is_headline=True,
        by_products=(
            Metric("c2st_generation", "C2ST, in z0", "the same in the generation space", "no unit"),
        ),
    ),
    _nats(
        "elbo",
        "ELBO",
        "evidence lower bound of held-out examples",
        better=HIGHER,
        function="dpvae_cli.evaluation.kl:elbo",
        sample_size="samples",
        is_limited_by_data=True,
        by_products=(
            _nats("reconstruction", "reconstruction", "-E[log p(x|z)] of held-out examples"),
            _neutral("kl", "KL", "mean KL divergence of posterior from prior"),
            _nats("marginal_kl", "KL(q(z), p(z))", "of the aggregate posterior from the prior"),
            _neutral("mutual_information", "mutual information", "between code and example"),
            _neutral("total_correlation", "total correlation", "of the aggregate posterior"),
            _neutral(
                "dimension_wise_kl", "dimension-wise KL", "of q(z)'s marginals from the prior's"
            ),
        ),
    ),
    Metric(
        "path",
        "log q(z), z0 above z",
        "how much higher the lowest log q(z) on lines in z0 is than on lines in z",
        "nats",
        HIGHER,
        codes="variances",
        function="dpvae_cli.evaluation.path_density:path",
        needs=("generation space",),
        is_headline=True,
        by_products=(
            Metric("path_z", "lowest on z-lines", "lowest log q(z) on lines in z", "nats", HIGHER),
            Metric(
                "path_z0", "lowest on z0-lines", "lowest log q(z) on lines in z0", "nats", HIGHER
            ),
        ),
    ),
    _of_codes("mig", "MIG", "mutual information gap of codes and known factors", is_headline=True),
    _of_codes(
        "dci",
        "disentanglement (DCI)",
        "how far a dimension matters for one factor alone",
        _of_codes("dci_completeness", "completeness (DCI)", "how few dimensions a factor needs"),
        _of_codes(
            "dci_informativeness",
            "informativeness (DCI)",
            "held-out accuracy of factors from codes",
        ),
    ),
    _of_codes("sap", "SAP", "separated attribute predictability"),
    _of_codes("factor_score", "FactorVAE score", "accuracy of a majority vote on the fixed factor"),
    _of_codes(
        "beta_score", "beta-VAE score", "accuracy of a linear classifier on the shared factor"
    ),
    _of_codes(
        "probe",
        "linear probe",
        "held-out accuracy of a logistic regression on codes",
        _of_codes(
            "probe_knn",
            "neighbours probe",
            "held-out accuracy of nearest neighbours among codes",
            needs=("labels",),
            settings=("neighbours",),
        ),
        codes="points",
        function="dpvae_cli.evaluation.probe:probe",
        needs=("labels",),
        sample_size="probe_samples",
        is_headline=True,
    ),
    Metric(
        "active_units",
        "active units",
        "latent dimensions in use",
        "dimensions",
        NEITHER,
        codes="points",
        function="dpvae_cli.evaluation.kl:active_units",
    ),
    Metric(
        "cost",
        "time a sample",
        "time to draw a code from the prior",
        "microseconds",
        codes="points",
        function="dpvae_cli.evaluation.cost:cost",
        is_headline=True,
        is_on_request=True,
        by_products=(
            Metric(
                "cost_density",
                "time a density",
                "time to evaluate log p(z) of a code",
                "microseconds",
                is_headline=True,
            ),
        ),
    ),
)
METRICS = {metric.name: metric for metric in _ALL}
"""By name, in the order of a report's columns."""


def find_metric(name: str) -> Metric:
    """Return the record of a result's name; an unknown one has no description and no direction."""
    for metric in METRICS.values():
        for record in metric.records:
            if match := re.fullmatch(record.name, name):
                title = record.title.format(*match.groups())
                return replace(record, name=name, title=title)
    return Metric(name, name, "", "", Direction.NEITHER)


def is_known(name: str) -> bool:
    """Tell whether a result of this name is described here."""
    return bool(find_metric(name).description)


def sort_metrics(names: Iterable[str]) -> list[str]:
    """Return names of results in the order of `METRICS`, unknown ones last by name."""
    patterns = [record.name for metric in METRICS.values() for record in metric.records]

    def position(name: str) -> tuple[int, str]:
        found = (i for i, pattern in enumerate(patterns) if re.fullmatch(pattern, name))
        return next(found, len(patterns)), name

    return sorted(names, key=position)


def is_requested(name: str, metrics: Iterable[str]) -> bool:
    """Tell whether a result is of one of these metrics: itself, as `fid768`, or a by-product."""
    records = (
        record for metric in metrics if metric in METRICS for record in METRICS[metric].records
    )
    return any(re.fullmatch(record.name, name) for record in records)


def metrics_needing(need: Need) -> list[str]:
    """Return the metrics that need something of data or prior."""
    return [name for name, metric in METRICS.items() if need in metric.needs]


def unavailable_metrics(available: Collection[Need]) -> set[str]:
    """Return the metrics that need more than what data and prior have."""
    return {name for name, metric in METRICS.items() if not set(metric.needs) <= set(available)}


def default_metrics(available: Collection[Need]) -> list[str]:
    """Return the metrics that are measured when none is named."""
    missing = unavailable_metrics(available)
    return [name for name, metric in METRICS.items() if metric.is_default and name not in missing]


def list_metrics() -> str:
    """Return all names with what they need, for the help of `--metrics`."""
    by_needs: dict[tuple[Need, ...], list[str]] = {}
    for name, metric in METRICS.items():
        by_needs.setdefault(metric.needs, []).append(name)
    return "; ".join(
        ", ".join(names) + (f" (with {' and '.join(needs)})" if needs else "")
        for needs, names in sorted(by_needs.items(), key=lambda item: bool(item[0]))
    )

"""Helpers of the examples: options, data, a table and a figure."""

import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import dpvae_cli as dpvae
from dpvae_cli.data import Dataset, Digits, Mnist, Moons
from dpvae_cli.foundation.results import Result
from dpvae_cli.plotting import style
from dpvae_cli.plotting.gallery import Gallery, figure5
from dpvae_cli.plotting.moons import PlanarModel, figure1
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.gallery import gallery, portrait
from dpvae_cli.sampling.samples import TrainingEncodings

AS_TRAINED = "standard_normal"
PRIORS = ["decoupled", "spline", "mixture"]
SPECS = {"mixture": dpvae.Mixture(covariance="full")}
"""Specs for values of --priors that are not names of recipes."""


def parse_args(description: str, data: tuple[str, ...] = ("moons", "mnist")) -> Namespace:
    """Return the options of the command line; the first data is the default."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=data, default=data[0])
    parser.add_argument("--train", type=int, default=10_000, help="training examples")
    parser.add_argument("--iterations", type=int, default=4_000, help="steps of the VAE's training")
    parser.add_argument("--beta", type=float, help="weight of the KL in the VAE's training")
    parser.add_argument("--fit", type=int, default=5_000, help="maximum steps of a fit")
    parser.add_argument("--priors", nargs="+", default=PRIORS, metavar="KIND")
    parser.add_argument("--samples", type=int, default=2_000, help="samples of each measurement")
    parser.add_argument("--fid", type=int, metavar="DIMENSIONS", help="also fid, fid_lp: 2048, 768")
    parser.add_argument("--fid-samples", type=int, default=1_000, help="samples for FID")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("repaired"), help="folder of the results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def load(args: Namespace) -> Dataset:
    """Return generated two moons, scikit-learn's digits, or MNIST from DPVAE_DATA or downloaded."""
    if args.data == "moons":
        return Moons(train=args.train).load()
    if args.data == "digits":
        return Digits().load()
    return Mnist(validation=60_000 - args.train).load()


def repair(
    before: dpvae.VAE, mean: Tensor, log_variance: Tensor, args: Namespace, *, count: int = 1_000
) -> dict[str, dpvae.VAE]:
    """Fit each prior of the options to the codes, and save decoded samples of it."""
    models = {AS_TRAINED: before}
    for kind in args.priors:
        fitted = dpvae.fit_prior(
            mean,
            log_variance,
            SPECS.get(kind, kind),
            fitting=dpvae.Fitting(iterations=args.fit),
            seed=args.seed,
        )
        models[kind] = before.with_prior(fitted.prior)
        with torch.no_grad():
            samples = before.decoder(fitted.sample(count, seed=args.seed))
        np.save(args.out / f"samples_{kind}.npy", samples.numpy())
    return models


def report(models: dict[str, dpvae.VAE], data: Dataset, args: Namespace) -> None:
    """Evaluate models that share encoder and decoder; print, save and plot the results."""
    results = {name: measure(model, data, args) for name, model in models.items()}
    records = {name: [each.to_json() for each in found] for name, found in results.items()}
    (args.out / "results.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    print(table(results))
    pictures = style.save(draw(models, data, args.seed), args.out / "before_after.png")
    print(*pictures)


def measure(model: dpvae.VAE, data: Dataset, args: Namespace) -> list[Result]:
    """Return the metrics of one model."""
    metrics = ["skl", "leak"]
    metrics += ["manifold", "manifold_lp"] if data.distance_to_manifold else []
    metrics += ["fid", "fid_lp"] if args.fid else []
    count = args.samples
    sizes = Evaluation(
        samples=count,
        manifold_samples=count,
        fid_samples=args.fid_samples,
        fid_images=2 * args.fid_samples,
    )
    features = dpvae.FeatureOptions(dimensions=args.fid)
    return dpvae.evaluate(model, data, metrics, evaluation=sizes, seed=args.seed, features=features)


def table(results: dict[str, list[Result]]) -> str:
    """Return a table with a line per metric and a column per prior."""
    lines = [f"{'':12}" + "".join(f"{name:>20}" for name in results)]
    by_metric = [{each.metric: each for each in found} for found in results.values()]
    for metric in by_metric[0]:
        if metric != "leak_printed":
            cells = "".join(f"{shown(found[metric]):>20}" for found in by_metric)
            lines.append(f"{metric:12}{cells}")
    return "\n".join(lines)


def shown(result: Result) -> str:
    """Return a value with its standard error, if any."""
    if result.value is None:
        return "-"
    error = "" if result.standard_error is None else f" ± {result.standard_error:.2g}"
    return f"{result.value:.4g}{error}"


def draw(models: dict[str, dpvae.VAE], data: Dataset, seed: int) -> Figure:
    """Draw random and low-posterior samples: Figure 1 for models with a z0, otherwise Figure 5."""
    aggregate = TrainingEncodings(models[AS_TRAINED], lambda: data).aggregate_posterior()
    if data.distance_to_manifold:
        flows = {name: each for name, each in models.items() if each.prior.generation is not None}
        found = {name: portrait(each, aggregate, data, seed=seed) for name, each in flows.items()}
        return figure1([PlanarModel(label(name), name, arrays) for name, arrays in found.items()])
    found = {name: gallery(each, aggregate, seed=seed, pool=5) for name, each in models.items()}
    return figure5([Gallery(label(name), name, arrays) for name, arrays in found.items()])


def label(prior: str) -> str:
    """Return the title of a prior's samples."""
    return f"{'before' if prior == AS_TRAINED else 'after'}, {prior}"

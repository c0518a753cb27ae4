"""What both examples share and no user needs: options, data, a table and a picture."""

import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from matplotlib.figure import Figure

import dpvae_cli as dpvae
from dpvae_cli.data import Dataset, Mnist, Moons
from dpvae_cli.foundation.results import Result
from dpvae_cli.plotting import style
from dpvae_cli.plotting.gallery import Gallery, figure5
from dpvae_cli.plotting.moons import Portrait, figure1
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.encodings import TrainingEncodings
from dpvae_cli.sampling.gallery import gallery
from dpvae_cli.sampling.planar_figure_data import portrait

AS_TRAINED = "standard_normal"
PRIORS = ["decoupled", "spline", "mixture"]
SPECS = {"mixture": dpvae.Mixture(covariance="full")}
"""What stands for a word of --priors; other words are a recipe's."""


def options(description: str) -> Namespace:
    """Return what was asked for on the command line."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("moons", "mnist"), default="moons")
    parser.add_argument("--train", type=int, default=10_000, help="training examples")
    parser.add_argument("--iterations", type=int, default=4_000, help="steps of the VAE's training")
    parser.add_argument("--beta", type=float, help="weight of the KL in the VAE's training")
    parser.add_argument("--fit", type=int, default=5_000, help="steps of a prior's fit, at most")
    parser.add_argument("--priors", nargs="+", default=PRIORS, metavar="KIND")
    parser.add_argument("--samples", type=int, default=2_000, help="samples of each measurement")
    parser.add_argument("--fid", type=int, metavar="DIMENSIONS", help="also fid, fid_lp: 2048, 768")
    parser.add_argument("--fid-samples", type=int, default=1_000, help="samples that it compares")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("repaired"), help="folder of the results")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    return asked


def load(asked: Namespace) -> Dataset:
    """Return two moons, drawn on the spot, or MNIST, from DPVAE_DATA or downloaded."""
    if asked.data == "moons":
        return Moons(train=asked.train).load()
    return Mnist(validation=60_000 - asked.train).load()


def report(models: dict[str, dpvae.VAE], data: Dataset, asked: Namespace) -> None:
    """Measure models that share encoder and decoder; print a table, keep the records, draw."""
    results = {name: measure(model, data, asked) for name, model in models.items()}
    records = {name: [each.to_json() for each in found] for name, found in results.items()}
    (asked.out / "results.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    print(table(results))
    pictures = style.save(draw(models, data, asked.seed), asked.out / "before_after.png")
    print(*pictures)


def measure(model: dpvae.VAE, data: Dataset, asked: Namespace) -> list[Result]:
    """Return dpvae's measurements of one model."""
    metrics = ["skl", "leak"]
    metrics += ["manifold", "manifold_lp"] if data.distance_to_manifold else []
    metrics += ["fid", "fid_lp"] if asked.fid else []
    count = asked.samples
    sizes = Evaluation(
        samples=count,
        manifold_samples=count,
        fid_samples=asked.fid_samples,
        fid_images=2 * asked.fid_samples,
    )
    features = dpvae.FeatureOptions(dimensions=asked.fid)
    return dpvae.evaluate(
        model, data, metrics, evaluation=sizes, seed=asked.seed, features=features
    )


def table(results: dict[str, list[Result]]) -> str:
    """Return a line for each measure and a column for each prior."""
    lines = [f"{'':12}" + "".join(f"{name:>20}" for name in results)]
    by_metric = [{each.metric: each for each in found} for found in results.values()]
    for metric in by_metric[0]:
        if metric != "leak_printed":
            cells = "".join(f"{shown(found[metric]):>20}" for found in by_metric)
            lines.append(f"{metric:12}{cells}")
    return "\n".join(lines)


def shown(result: Result) -> str:
    """Return a value with its standard error, where there is one."""
    if result.value is None:
        return "-"
    error = "" if result.standard_error is None else f" ± {result.standard_error:.2g}"
    return f"{result.value:.4g}{error}"


def draw(models: dict[str, dpvae.VAE], data: Dataset, seed: int) -> Figure:
    """Draw random and low-posterior samples: as Figure 1 of models with a z0, or as Figure 5."""
    aggregate = TrainingEncodings(models[AS_TRAINED], lambda: data).aggregate_posterior()
    if data.distance_to_manifold:
        flows = {name: each for name, each in models.items() if each.prior.generation is not None}
        found = {name: portrait(each, aggregate, data, seed=seed) for name, each in flows.items()}
        return figure1([Portrait(label(name), name, arrays) for name, arrays in found.items()])
    found = {name: gallery(each, aggregate, seed=seed, pool=5) for name, each in models.items()}
    return figure5([Gallery(label(name), name, arrays) for name, arrays in found.items()])


def label(prior: str) -> str:
    """Return what stands over a prior's samples."""
    return f"{'before' if prior == AS_TRAINED else 'after'}, {prior}"

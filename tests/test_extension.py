"""A new prior, regularizer or data set is a class in a file of its own and a name in the union."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dpvae_cli
from dpvae_cli.plotting.style import prior_colours

ROOT = Path(__file__).resolve().parents[1]
MOST_FILES = 6
"""Class, union, test case, tests of its own, and two recipes; docs and changelog come beside."""

PRIOR = '''
from typing import ClassVar, Literal, final

import torch
from torch import nn

from dpvae_cli.priors.base import Prior, PriorSpec


@final
class LaplacePrior(Prior):
    """Independent Laplace variables with learned scales."""

    factorises = True

    def __init__(self, latent_dim):
        super().__init__(latent_dim)
        self.log_scale = nn.Parameter(torch.zeros(latent_dim))

    def log_prob(self, z):
        return torch.distributions.Laplace(0.0, self.log_scale.exp()).log_prob(z).sum(dim=-1)

    def sample(self, n, *, generator=None):
        uniform = torch.rand(n, self.latent_dim, generator=generator) - 0.5
        return -self.log_scale.exp() * uniform.sign() * torch.log1p(-2 * uniform.abs())


@final
class Laplace(PriorSpec):
    """A Laplace prior."""

    kind: Literal["laplace"] = "laplace"
    has_generation: ClassVar[bool] = False

    def _build(self, latent_dim: int, *_: object) -> LaplacePrior:
        return LaplacePrior(latent_dim)
'''
REGULARIZER = '''
from typing import Literal, final

from dpvae_cli.regularizers.base import Regularizer, RegularizerSpec, Term


@final
class ShrinkRegularizer(Regularizer):
    """The KL and the squared norm of the means."""

    def terms(self, batch):
        norm = batch.posterior.mean.square().sum(dim=-1)
        return {"kl": Term(batch.kl(), 1.0), "norm": Term(norm, 0.1)}


@final
class Shrink(RegularizerSpec):
    """A regularizer that shrinks codes."""

    kind: Literal["shrink"] = "shrink"

    def build(self, latent_dim, training):
        return ShrinkRegularizer()
'''
DATA = '''
from typing import Literal, final

import torch

from dpvae_cli.data.base import Dataset, DatasetSummary, DataSpec, Split, each_split


@final
class Ring(DataSpec):
    """Points on a circle."""

    kind: Literal["ring"] = "ring"
    points: int = 60

    def example_shape(self, root=None):
        return (2,)

    def summary(self, root=None):
        return DatasetSummary(dict.fromkeys(("train", "validation", "test"), self.points))

    def load(self, root=None, *, download=True):
        angle = torch.linspace(0, 6.28, self.points)
        split = Split(torch.stack([angle.cos(), angle.sin()], dim=1))
        return Dataset("ring", **each_split(lambda name: split))
'''
KINDS = [
    ("priors", "laplace", PRIOR, "Laplace", "_Learned = .*", r"\g<0> | Laplace"),
    (
        "regularizers",
        "shrink",
        REGULARIZER,
        "Shrink",
        r"AnyRegularizer = Annotated\[\s*",
        r"\g<0>Shrink | ",
    ),
    ("data", "ring", DATA, "Ring", r"AnyData = Annotated\[\s*", r"\g<0>Ring | "),
]
"""Package, kind, source, class, and how it joins the package's union (pattern, replacement)."""
RECIPE = """
data: ring
architecture: {kind: mlp, hidden: [8]}
likelihood: {kind: gaussian, scale: 0.2}
prior: laplace
regularizer: shrink
training: {iterations: 4, batch_size: 16}
evaluation: {samples: 20}
"""
PROGRAM = """
import json
import sys
import dpvae_cli as dpvae
from dpvae_cli.foundation.kinds import kinds_in_source
from dpvae_cli.plotting import style

recipe = dpvae.load_recipe("toy.yaml")
model = dpvae.train(recipe, "run")
assert isinstance(model.prior.spec, dpvae.Laplace), model.prior
assert {"Laplace"} <= set(dpvae.__all__) & set(dir(dpvae))
assert kinds_in_source("priors")["laplace"] == "Laplace"
colours = style.prior_colours()
assert colours["laplace"] not in json.loads(sys.argv[1]).values()
assert json.loads(sys.argv[1]).items() <= colours.items()
assert model.sample(5).shape == (5, 2)
(result,) = dpvae.evaluate(model, recipe.data.load(), ["skl"], evaluation=recipe.evaluation)
assert result.value is not None
fitted = dpvae.fit_prior(
    *[dpvae.load("run").encode(recipe.data.load().train.examples()).mean] * 2,
    "laplace",
    fitting=dpvae.Fitting(iterations=2, batch_size=16),
)
assert type(fitted.prior.prior) is type(model.prior)
"""


def add(root: Path, package: str, kind: str, source: str, name: str, *union: str) -> None:
    """Write a kind's file and join it to its package's union."""
    folder = root / "dpvae_cli" / package
    (folder / f"{kind}.py").write_text(f'"""A new kind."""\n{source}', encoding="utf-8")
    init = folder / "__init__.py"
    text = init.read_text(encoding="utf-8")
    joined, count = re.subn(*union, text, flags=re.MULTILINE)
    assert count == 1, text
    line = f"from dpvae_cli.{package}.{kind} import {name}\n"
    joined = joined.replace("\nfrom dpvae_cli.", f"\n{line}from dpvae_cli.", 1)
    joined = joined.replace("__all__ = [", f'__all__ = [\n    "{name}",', 1)
    init.write_text(joined, encoding="utf-8")


def test_new_kinds_train_sample_and_evaluate(tmp_path):
    shutil.copytree(
        Path(dpvae_cli.__file__).parent,
        tmp_path / "dpvae_cli",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    for entry in KINDS:
        add(tmp_path, *entry)
    (tmp_path / "toy.yaml").write_text(RECIPE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(prior_colours())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "DPVAE_CACHE": str(tmp_path / "cache"), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["resampled"])
def test_a_kind_of_prior_stands_in_few_files(kind):
    word = re.compile(rf"\b({kind}|{kind.title()}|{kind.title()}Prior)\b")
    files = [
        path.relative_to(ROOT).as_posix()
        for folder in ("dpvae_cli", "tests", "recipes", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml") and word.search(path.read_text(encoding="utf-8"))
    ]
    files.remove("tests/test_extension.py")
    assert len(files) <= MOST_FILES, files

"""No dead option: every recipe field is read, and changing it changes what can be seen."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dpvae_cli.evaluation.evaluate import evaluate
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.spec import Spec
from dpvae_cli.recipe import Evaluation, Fitting, Training, load_recipe, to_yaml
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND, specs
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.training import execution
from dpvae_cli.training.events import Callback
from dpvae_cli.training.train import train
from tests.cases import CHANGES, IMAGES, small_section
from tests.data.test_dsprites import write as write_dsprites
from tests.quick import quick  # noqa: F401
from tests.small import SMALL, own_vae, tiny_extractor

SHORT = (*SMALL, "training.iterations=6", "evaluation.samples=20", "evaluation.nll_images=3")
SMALL_ARRAYS = tuple(part for part in SHORT if not part.startswith("data."))


PLAIN = {"training": Training, "fitting": Fitting, "evaluation": Evaluation}


def fields():
    """Yield (section, kind, field) of everything a recipe can say."""
    for section in SECTIONS_WITH_KIND:
        for spec in specs(section):
            for field in spec.model_fields:
                if field != "kind":
                    yield section, spec.model_fields["kind"].default, field
    for section, spec in PLAIN.items():
        for field in spec.model_fields:
            yield section, None, field


ON_IMAGES = {("evaluation", None, "fid_samples"), ("evaluation", None, "fid_images")}
ON_SPRITES = {("evaluation", None, "factor_samples"), ("evaluation", None, "factor_repeats")}
NEEDS = {
    ("likelihood", "gaussian", "floor"): ("likelihood.learned=true",),
    ("likelihood", "bernoulli", "probabilities"): ("architecture=own",),
    ("prior", "decoupled", "base_components"): ("prior.base=mixture",),
    ("fit_prior", "decoupled", "base_components"): ("fit_prior.base=mixture",),
    ("fitting", None, "patience"): ("fitting.iterations=30", "fitting.learning_rate=3"),
}


QUICK_FIT = ("fitting.iterations=3", "fitting.batch_size=16", "fitting.validate_every=1")
SEEN = {}
"""Runs of the recipes that changes start from, each trained once."""
TINY_BATCH = ("training.batch_size=4", "training.iterations=3")


def yaml_name(section, kind, field):
    return "lambda" if field == "lambda_" else field


def base(section, kind):
    """Return (packaged recipe, overrides) in which the kind of the section is in use."""
    regularizer = kind if section == "regularizer" else "vae"
    width = ("regularizer.width=8", "regularizer.depth=1") if regularizer == "factor" else ()
    if kind in IMAGES:
        nets = f"{{kind: {kind}, latent_dim: 2}}" if section == "architecture" else "{kind: mlp}"
        hidden = () if section == "architecture" else ("architecture.hidden=[4]",)
        small = [part for part in SMALL_ARRAYS if "hidden" not in part]
        return "vae_moons", (*IMAGES[kind], f"architecture={nets}", *hidden, *small, *TINY_BATCH)
    if kind == "arrays":
        return "vae_moons", ("data={kind: arrays, path: x.npy}", *SMALL_ARRAYS)
    if kind == "mnist":
        return "vae_mnist", ("architecture={kind: mlp, hidden: [4]}", "data.validation=11")
    if kind == "mnist_conv":
        return "vae_mnist", ("data.validation=11",)
    if kind == "bernoulli":
        return "vae_moons", (
            "data={kind: arrays, path: x.npy, binarize: static}",
            "likelihood=bernoulli",
            *SMALL_ARRAYS,
        )
    if kind == "own":
        return "vae_moons", ("architecture=own", *(p for p in SHORT if "hidden" not in p))
    chosen = (f"{section}={small_section('prior', kind)}",) if "prior" in section else ()
    if section in ("fit_prior", "fitting"):
        chosen = ("prior=standard_normal", "fit_prior=decoupled", *QUICK_FIT, *chosen)
    return f"{regularizer}_moons", (*chosen, *width, *SHORT)


def recipe_of(section, kind, *more):
    name, overrides = base(section, kind)
    mnist = [p for p in SMALL_ARRAYS if "hidden" not in p] if name == "vae_mnist" else ()
    return load_recipe(name, [*overrides, *mnist, *more])


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Put arrays and a tiny MNIST where the recipes look for them."""
    furnish(tmp_path, monkeypatch)


def furnish(folder, monkeypatch):
    """Let a folder be the place where the recipes look, and put the same data there every time."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DPVAE_DATA", str(folder / "data"))
    monkeypatch.setenv("DPVAE_CACHE", str(folder / "cache"))
    generator = np.random.default_rng(0)
    for name in ("x.npy", "other.npy"):
        np.save(folder / name, generator.integers(0, 256, (90, 2), dtype=np.uint8))
    np.save(folder / "factors.npy", generator.integers(0, 3, (90, 2)))
    write_dsprites(folder / "data")
    raw = folder / "data" / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for start, count in (("train", 60), ("t10k", 20)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            with gzip.open(raw / f"{start}-{what}-ubyte.gz", "wb") as file:
                file.write(header + array.tobytes())

    pictures(folder, generator, monkeypatch)


def pictures(folder, generator, monkeypatch):
    """Put tiny SVHN files and folders of pictures, one of them spoiled in each, in their places."""
    monkeypatch.setenv("DPVAE_CACHE", str(folder / "cache"))
    for name in ("train", "test", "extra"):
        images = generator.integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
        path = folder / "data" / "svhn" / f"{name}_32x32.mat"
        path.parent.mkdir(exist_ok=True)
        savemat(path, {"X": images, "y": np.ones((20, 1), np.uint8)})
    for place in ("data/celeba/img_align_celeba", "mine/train", "others"):
        for number in range(34):
            values = generator.integers(0, 256, (40, 30, 3), dtype=np.uint8)
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / place / f"{number}.png")
        (folder / place / "spoiled.png").write_bytes(b"")
    (folder / "mine" / "test").mkdir()
    for number in range(28, 34):
        (folder / "mine" / "train" / f"{number}.png").rename(folder / f"mine/test/{number}.png")


@pytest.fixture(autouse=True)
def _traced_only(monkeypatch):
    """Let training.compile trace without calling a C++ compiler."""
    monkeypatch.setattr(execution, "BACKEND", "aot_eager")


class Hears(Callback):
    """Remembers what a run tells."""

    def __init__(self):
        self.told = []

    def on_log(self, record):
        self.told.append({k: v for k, v in record.items() if k != "steps_per_second"})

    def on_checkpoint(self, path, *, iteration):
        self.told.append((path.name, iteration))


def trained(recipe, folder):
    """Return the data and the model of a run, and what can be seen of it: weights, logs, files."""
    heard = Hears()
    try:
        recipe.data.load()
    except MissingError as error:
        return None, None, str(error)
    own = recipe.architecture.kind == "own"
    parts = {"prior": recipe.prior, "likelihood": recipe.likelihood}
    mine = own_vae(recipe.architecture.latent_dim, **parts) if own else None
    try:
        model = train(recipe, folder, model=mine, callback=heard)
    except UsageError as error:
        return None, None, str(error)
    saved = checkpoints.read_checkpoint(folder / "checkpoint.pt")
    seen = (
        {name: tensor.tolist() for name, tensor in saved.tensors.items()},
        saved.facts["compiled"],
        {k: v for k, v in saved.facts.get("fit", {}).items() if k != "seconds"},
        heard.told,
        sorted(path.name for path in folder.iterdir()),
    )
    return recipe.data.load(), model, seen


def evaluated(recipe, data, model, folder):
    """Return what is measured of a run."""
    if model is None:
        return None
    features = FeatureOptions(features=tiny_extractor(folder / "tiny.pt"), trust=True)
    results = evaluate(model, data, ["all"], evaluation=recipe.evaluation, features=features)
    return [result.to_json() for result in results]


def outcome(recipe, folder):
    """Return everything that can be seen of a run."""
    data, model, seen = trained(recipe, folder)
    return seen, evaluated(recipe, data, model, folder.parent)


def test_the_table_of_other_values_is_complete():
    named = {(section, kind, yaml_name(section, kind, field)) for section, kind, field in fields()}
    assert named == set(CHANGES)


@pytest.mark.parametrize("place", CHANGES, ids=lambda place: ".".join(filter(None, place)))
def test_a_field_changes_something(place, tmp_path):
    section, kind, field = place
    needs = NEEDS.get(place, ())
    shown_by = ("data", "mnist") if place in ON_IMAGES else (section, kind)
    shown_by = ("data", "sprites") if place in ON_SPRITES else shown_by
    before = recipe_of(*shown_by, *needs)
    value = CHANGES[place]
    if value == "other":
        value = "batch" if before.regularizer.weights_per == "example" else "example"
    after = recipe_of(*shown_by, *needs, f"{section}.{field}={value}")
    key = to_yaml(before)
    if key not in SEEN:
        SEEN[key] = trained(before, tmp_path / "before")
    (*run, seen), (*other_run, other) = SEEN[key], trained(after, tmp_path / "after")
    if seen == other:  # else there is no need to measure
        assert evaluated(before, *run, tmp_path) != evaluated(after, *other_run, tmp_path)


@pytest.mark.slow
def test_every_field_is_read(tmp_path, monkeypatch):
    combinations = {(section, kind) for section, kind, _ in fields()}
    recipes = [recipe_of(section, kind) for section, kind in sorted(combinations, key=str)]
    seen = set()
    original = Spec.__getattribute__

    def record(self, name):
        seen.add((type(self), name))
        return original(self, name)

    monkeypatch.setattr(Spec, "__getattribute__", record)
    for index, recipe in enumerate(recipes):
        outcome(recipe, tmp_path / str(index))
    with_kind = [spec for section in SECTIONS_WITH_KIND for spec in specs(section)]
    wanted = {
        (spec, field)
        for spec in (*with_kind, *PLAIN.values())
        for field in spec.model_fields
        if field != "kind"
    }
    unread = {(spec.__name__, field) for spec, field in wanted - seen}
    assert not unread


@pytest.mark.parametrize(
    "place", [("prior", "decoupled"), ("data", "arrays"), ("data", "folder"), ("fitting", None)]
)
def test_the_outcome_is_the_recipe_s(place, tmp_path, monkeypatch):
    """The same recipe gives the same anywhere; else the test above would see changes everywhere."""
    recipe = recipe_of(*place)
    here = outcome(recipe, tmp_path / "a")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    furnish(elsewhere, monkeypatch)
    assert here == outcome(recipe, elsewhere / "b")

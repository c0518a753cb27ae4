"""Synthetic records that look like those of trained models."""

import json
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from dpvae_cli.plotting import style
from dpvae_cli.plotting.moons import PlanarModel

CUMULATIVE = np.vectorize(lambda value: 0.5 * (1 + math.erf(value / math.sqrt(2))))


def curve(u: np.ndarray) -> np.ndarray:
    """Walk over both moons while u goes from 0 to 1."""
    t = math.pi * np.where(u < 0.5, 2 * u, 2 * u - 1)
    upper = np.stack([np.cos(t), np.sin(t)], axis=1)
    lower = np.stack([1 - np.cos(t), 0.5 - np.sin(t)], axis=1)
    return np.where((u < 0.5)[:, None], upper, lower)


def encode(x: np.ndarray) -> np.ndarray:
    return (x - [0.5, 0.25]) @ np.array([[1.15, 0.5], [-0.9, 1.6]])


def decode(z: np.ndarray) -> np.ndarray:
    return z @ np.linalg.inv(np.array([[1.15, 0.5], [-0.9, 1.6]])) + [0.5, 0.25]


def from_generation(z0: np.ndarray) -> np.ndarray:
    """Map z0 onto the moons, as a well-trained decoupled prior does."""
    return encode(curve(CUMULATIVE(z0[:, 0]))) + 0.07 * z0[:, 1:]


def log_mixture(z: np.ndarray, centres: np.ndarray, scale: float) -> np.ndarray:
    square = ((z[:, None] - centres[None]) ** 2).sum(-1) / scale**2
    return np.log(np.exp(-square / 2).mean(1) + 1e-300) - math.log(2 * math.pi * scale**2)


def make_portrait(label: str, prior: str, seed: int = 0) -> PlanarModel:
    random = np.random.default_rng(seed)
    train = curve(random.uniform(size=1500)) + 0.05 * random.normal(size=(1500, 2))
    centres = encode(train[:300])
    z0 = random.normal(size=(1200, 2))
    z = z0 if prior == "standard_normal" else from_generation(z0)
    codes_z0 = random.normal(size=(800, 2))
    if prior == "standard_normal":
        codes_z0 = encode(train[:800]) + 0.1 * random.normal(size=(800, 2))
    codes = codes_z0 if prior == "standard_normal" else from_generation(codes_z0)
    grid_x, grid_y = np.linspace(-3.6, 3.6, 60), np.linspace(-3.2, 3.2, 50)
    mesh = np.stack(np.meshgrid(grid_x, grid_y), -1).reshape(-1, 2)
    log_q = log_mixture(mesh, centres, 0.12)
    log_p = -(mesh**2).sum(1) / 2 if prior == "standard_normal" else log_mixture(mesh, centres, 0.3)
    high = np.argsort(-(codes_z0**2).sum(1))[:5]
    arrays = {
        "train": train,
        "samples": decode(z),
        "sample_log_density": -(z0**2).sum(1) / 2 - math.log(2 * math.pi),
        "sample_log_q": log_mixture(z, centres, 0.12),
        "sample_z": z,
        "sample_z0": z0,
        "codes": codes,
        "codes_z0": codes_z0,
        "grid_x": grid_x,
        "grid_y": grid_y,
        "log_q": log_q.reshape(50, 60),
        "log_p": log_p.reshape(50, 60),
        "high_z": codes[high],
        "high_z0": codes_z0[high],
        "high_x": decode(codes[high]),
    }
    return PlanarModel(label, prior, as_torch_writes(arrays))


def as_torch_writes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays in torch's usual precision."""
    return {
        name: array.astype(np.float32) if array.dtype == np.float64 else array
        for name, array in arrays.items()
    }


@pytest.fixture(scope="session")
def portraits() -> list[PlanarModel]:
    """Two families of twins, out of order."""
    return [
        make_portrait("beta_h", "standard_normal", 0),
        make_portrait("beta_tc standard_normal", "standard_normal", 1),
        make_portrait("beta_h", "decoupled", 2),
        make_portrait("beta_tc decoupled", "decoupled", 3),
    ]


def leak_document(size: float, seed: int = 0) -> dict[str, Any]:
    """Return metrics.json of one run, the lowest thresholds empty."""
    random = np.random.default_rng(seed)
    thresholds = [-90.0, -70.0, -50.0, -30.0, -10.0, -5.0, -1.0]
    values: list[float | None] = [
        None
        if threshold < -40 * size
        else size * (1 - math.exp(threshold / 9 - 0.8)) * -1 + 1.3 * size
        for threshold in thresholds
    ]
    details = {
        "thresholds": thresholds,
        "values": values,
        "standard_errors": [None if value is None else 0.06 * value + 0.01 for value in values],
        "quantiles": [0.001, 0.01, 0.05, 0.25],
        "quantile_thresholds": [-9.1, -6.4, -4.8, -3.2],
        "quantile_values": [
            float(size * (0.2 + random.uniform() * 0.1 + 0.2 * k)) for k in range(4)
        ],
        "quantile_standard_errors": [0.02, 0.02, 0.03, 0.05],
    }
    leak = {"metric": "leak", "value": None, "details": details}
    return {"run": "runs/a", "results": [{"metric": "skl", "value": 0.2, "details": {}}, leak]}


def training_lines(level: float, seed: int = 0, iterations: int = 3000) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = []
    for iteration in range(20, iterations + 1, 20):
        decay = math.exp(-iteration / 300)
        noise = random.normal(size=3)
        terms = {
            "reconstruction": 400 * decay + level + 4 * noise[0],
            "kl": 12 * (1 - decay) + 0.8 * noise[1],
            "total_correlation": 1.5 * decay + 0.4 + 0.15 * noise[2],
        }
        lines.append(
            {
                "iteration": iteration,
                "kind": "train",
                "loss": sum(terms.values()),
                "terms": terms,
                "weighted": terms,
            }
        )
        if iteration % 200 == 0:
            reconstruction, kl = 400 * decay + level + 2, 12 * (1 - decay)
            lines.append(
                {
                    "iteration": iteration,
                    "kind": "validation",
                    "elbo": -reconstruction - kl,
                    "reconstruction": reconstruction,
                    "kl": kl,
                    "active_units": min(8, iteration // 250),
                    "skl": None if iteration == 600 else 6 * decay + 0.1 * level,
                }
            )
    return lines


@pytest.fixture
def metrics_file(tmp_path: Path) -> Path:
    """metrics.jsonl of a run that was killed while it wrote a line."""
    path = tmp_path / "metrics.jsonl"
    text = "\n".join(json.dumps(line) for line in training_lines(80.0))
    path.write_text(text + '\n{"iteration": 3020, "kind": "tr')
    return path


def blob_images(count: int, channels: int = 1, size: int = 28, seed: int = 0) -> np.ndarray:
    """Return soft rings that move and change, (count, channels, size, size)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    centres, radii = random.uniform(-0.3, 0.3, (count, 2)), random.uniform(0.2, 0.6, count)
    distance = np.hypot(x - centres[:, :1, None], y - centres[:, 1:, None])
    rings = np.exp(-(((distance - radii[:, None, None]) / 0.12) ** 2))
    tint = random.uniform(0.3, 1, (count, channels, 1, 1)) if channels > 1 else 1.0
    return rings[:, None] * tint * 1.02


def morph(steps: int, channels: int = 1, phase: float = 0.0, reach: float = 1.0) -> np.ndarray:
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    t = np.linspace(-reach, reach, steps)[:, None, None]
    distance = np.hypot(x - 0.3 * t * np.cos(phase), y - 0.3 * t * np.sin(phase))
    ring = np.exp(-(((distance - 0.4 - 0.15 * t * np.cos(3 * phase)) / 0.13) ** 2))
    tint = np.linspace(0.5, 1, channels)[None, :, None, None]
    return ring[:, None] * tint


def make_traversal(kind: str, *spaces: str, steps: int = 11) -> dict[str, np.ndarray]:
    """Return lines and sweeps of images (L = 2 or 6), of moons points or of longer vectors."""
    latent = 6 if kind == "faces" else 2
    every = {"digits": 1, "moons": 1}.get(kind, 2)
    walks = [
        made for space in spaces or ("z0",) for made in _walks(kind, space, latent, steps, every)
    ]
    walks.sort(key=lambda walk: walk["walk_dimension"] >= 0)
    record = {name: np.stack([walk[name] for walk in walks]) for name in walks[0]}
    if latent == 2:
        arrays = make_portrait("", "decoupled").arrays
        record |= {key: arrays[key] for key in ("grid_x", "grid_y", "log_q")}
    return as_torch_writes(record)


def _walks(kind: str, space: str, latent: int, steps: int, every: int) -> list[dict[str, Any]]:
    """Return a line and the sweeps of up to five dimensions, paths `every` times as fine."""
    points = every * (steps - 1) + 1
    share = np.linspace(0, 1, points)[:, None]
    line = (3 * share - 1.6) * np.array([1.0, 0.3] + [0.1] * (latent - 2))
    deviations = np.linspace(0.4, 1.1, min(latent, 5))
    made = []
    for dimension in [-1, *range(min(latent, 5))[::-1]]:
        path = line.copy()
        if dimension >= 0:
            path = 10 * (share - 0.5) * deviations[dimension] * np.eye(latent)[dimension]
        elif space == "z0":
            path = np.concatenate([from_generation(line[:, :2]), line[:, 2:]], axis=1)
        log_q = -2.5 - 1.5 * np.sin(6 * share[:, 0]) ** 2 - 0.1 * dimension
        made.append(
            {
                "walk_space": np.array(space),
                "walk_dimension": np.array(dimension),
                "walk_standard_deviation": np.array(
                    deviations[dimension] if dimension >= 0 else np.nan
                ),
                "walk_position": np.linspace(-5, 5, steps) if dimension >= 0 else share[::every, 0],
                "walk_z": path[::every],
                "walk_z0": line[::every],
                "walk_log_q": log_q[::every],
                "walk_decoded": _decoded(kind, path[::every], dimension),
                "path_z": path,
                "path_z0": line,
                "path_log_q": log_q,
                "lowest_log_q": np.array(log_q.min()),
            }
        )
    return made


def _decoded(kind: str, z: np.ndarray, dimension: int) -> np.ndarray:
    if kind in ("digits", "faces"):
        return morph(len(z), 3 if kind == "faces" else 1, 1.3 * dimension + 1.7)
    if kind == "moons":
        return decode(z[:, :2])
    wave = np.sin(np.linspace(0, 9, 40)[None] + np.linspace(0, 2, len(z))[:, None])
    return wave * (2 + dimension)


def make_plane(kind: str, *spaces: str, side: int = 5) -> dict[str, np.ndarray]:
    """Return the decoded plane of digits, moons or longer vectors."""
    axis = np.linspace(-2, 2, side)
    square = np.stack(np.meshgrid(axis, axis), -1)
    nets = np.concatenate([square, square.swapaxes(0, 1)])
    to_z = {"z0": from_generation, "z": lambda points: points}
    decoders = {
        "digits": lambda z: morph(len(z)),
        "moons": decode,
        "vectors": lambda z: np.repeat(z, 7, axis=1),
    }
    parts = []
    for space in spaces or ("z0",):
        z = to_z[space](square.reshape(-1, 2))
        net = to_z[space](nets.reshape(-1, 2))
        decoded = decoders[kind](z)
        parts.append(
            {
                "plane_space": np.array(space),
                "plane_x": axis,
                "plane_y": axis,
                "plane_z": z.reshape(side, side, 2),
                "plane_decoded": decoded.reshape(side, side, *decoded.shape[1:]),
                "lowest_log_q": np.array(-7.0),
                "net_z": net.reshape(2 * side, side, 2),
                "net_decoded": decode(net).reshape(2 * side, side, 2),
            }
        )
    arrays = make_portrait("", "decoupled").arrays
    record = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    return as_torch_writes(record) | {key: arrays[key] for key in ("grid_x", "grid_y", "log_q")}


@pytest.fixture(autouse=True)
def _letters_are_drawn(request):
    """Draw the letters of a .pdf but where fonts are tested: to embed them takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ != "tests.plotting.test_style":
            patch.setitem(style._SETTINGS, "pdf.fonttype", 3)
        yield


@pytest.fixture(autouse=True)
def _settings_untouched():
    """No figure may change the settings of whoever asked for it."""
    before = settings()
    yield
    assert settings() == before


def settings() -> dict[str, Any]:
    """Return matplotlib's settings but the backend, which resolves itself when asked for."""
    return {key: value for key, value in matplotlib.rcParams.copy().items() if key != "backend"}

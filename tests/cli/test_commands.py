"""Every command through Typer's runner: what it prints, what it leaves, how it fails."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.evaluation.kl import elbo_parts
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.text import format_with_error
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.plotting import style
from dpvae_cli.runs import evaluate_run
from dpvae_cli.runs.loaded_run import load_run
from tests.small import SMALL, tiny_extractor

FOLDER = "runs/vae_moons-decoupled-seed0"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(*arguments):
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder in which a run and its twin are trained."""
    folder = tmp_path_factory.mktemp("workshop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ok("train", "vae_moons", *SMALL, "prior=standard_normal")
        done = ok("train", "vae_moons", *SMALL)
        assert done.stdout == f"{FOLDER}\n"
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)


def test_sample_takes_the_latest_run_and_says_so():
    done = ok("sample", "-n", 9)
    assert f"Using {FOLDER}/checkpoint.pt" in done.stderr
    picture, arrays = done.stdout.split()
    assert (picture, arrays) == (f"{FOLDER}/samples/prior.png", f"{FOLDER}/samples/prior.npz")
    drawn = np.load(arrays)
    assert set(drawn.files) == {"z", "z0", "log_p", "log_p_generation", "decoded"}
    assert drawn["decoded"].shape == (9, 2)
    assert open(picture, "rb").read(4) == b"\x89PNG"  # noqa: PTH123, SIM115


@pytest.mark.parametrize(
    "option", ["--low-posterior", "--high-posterior", "--posterior", "--from=posterior"]
)
def test_samples_with_log_q(option, tmp_path):
    out = tmp_path / "x.pdf"
    ok("sample", option, FOLDER, "-n", 5, "--out", out, "--seed", 2)
    assert out.read_bytes().startswith(b"%PDF")
    drawn = np.load(tmp_path / "x.npz")
    assert drawn["log_q"].shape == (5,)
    if option == "--low-posterior":
        assert (np.diff(drawn["log_q"]) >= 0).all()
    if option == "--high-posterior":
        assert (np.diff(drawn["log_p"]) >= 0).all()
    first = drawn["z"].copy()
    ok("sample", option, FOLDER, "-n", 5, "--out", out, "--seed", 2)
    assert np.array_equal(np.load(tmp_path / "x.npz")["z"], first)
    ok("sample", option, FOLDER, "-n", 5, "--out", out, "--seed", 3)
    assert not np.array_equal(np.load(tmp_path / "x.npz")["z"], first)


def test_high_posterior_by_generation(tmp_path):
    out = tmp_path / "x.png"
    ok("sample", "--high-posterior", "--rank", "generation", FOLDER, "--out", out, "-n", 5)
    assert (np.diff(np.load(tmp_path / "x.npz")["log_p_generation"]) >= 0).all()


def test_eval_prints_a_table_and_keeps_metrics():
    done = ok("eval", FOLDER, "--metrics", "skl,leak")
    assert "skl" in done.stdout
    assert "leak at 5 %" in done.stdout
    ok("eval", FOLDER, "--metrics", "manifold")
    with open(f"{FOLDER}/metrics.json") as file:  # noqa: PTH123
        kept = json.load(file)
    assert {r["metric"] for r in kept["results"]} >= {"skl", "leak", "leak_printed", "manifold"}
    assert kept["recipe"] == "vae_moons"


def test_eval_json_is_alone_on_stdout():
    done = ok("eval", "--metrics", "nll", "--json", "evaluation.nll_images=3", "--seed", 4)
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    [result] = document["runs"][0]["results"]
    assert result["metric"] == "nll"
    assert (result["samples"], result["seed"], result["split"]) == (20, 4, "test")
    assert result["details"]["images"] == 3
    assert result["standard_error"] > 0


def test_eval_sets_two_runs_side_by_side():
    twin = FOLDER.replace("decoupled", "standard_normal")
    done = ok("eval", twin, FOLDER, "--metrics", "skl,manifold_lp")
    assert "difference" in done.stdout


def test_the_difference_of_two_runs_is_paired_by_example():
    """Both see the same held-out examples with the same noise."""
    twin = FOLDER.replace("decoupled", "standard_normal")
    done = ok("eval", twin, FOLDER, "--metrics", "elbo,skl,leak,nll,manifold_lp")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if "±" in line}
    terms = []
    for path in (twin, FOLDER):
        run = load_run(Path(path))
        test = run.load_dataset().test
        parts = elbo_parts(run.model, test, seed=0, purpose="evaluation")
        terms.append(-(parts.reconstruction + parts.kl))
    paired = mean_and_error(terms[1] - terms[0])
    assert rows["elbo"].rstrip().split("  ")[-1].strip() == format_with_error(*paired, sign=True)
    independent = math.hypot(*(mean_and_error(each).standard_error for each in terms))
    assert paired.standard_error < 0.8 * independent
    same = ok("eval", FOLDER, FOLDER, "--metrics", "elbo,skl,leak,nll,manifold_lp,skl_knn")
    differences = [
        line.rstrip().split("  ")[-1] for line in same.stdout.splitlines() if "±" in line
    ]
    assert len(differences) > 10
    assert all(float(each.split("±")[1]) == 0 for each in differences)
    assert "skl [nats]" in done.stdout


def test_eval_without_the_metrics_option_measures_the_default():
    done = ok("eval", "--json", "-q")
    metrics = [r["metric"] for r in json.loads(done.stdout)["runs"][0]["results"]]
    assert sorted(metrics) == [
        "leak",
        "leak_printed",
        "manifold",
        "manifold_lp",
        "nll",
        "skl",
        "skl_knn",
        "skl_knn_generation",
    ]


@pytest.mark.parametrize("figure", ["moons", "regularizers", "leakage", "training"])
def test_plot(figure, tmp_path):
    twin = FOLDER.replace("decoupled", "standard_normal")
    done = ok("plot", figure, twin, FOLDER, "--out", tmp_path / "figure")
    assert done.stdout.split() == [f"{tmp_path}/figure.png", f"{tmp_path}/figure.pdf"]
    assert all(path.is_file() for path in map(Path, done.stdout.split()))


def test_leakage_is_drawn_of_a_run_that_cannot_keep_it(tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink(missing_ok=True)

    def keep(*_):
        raise UsageError("cannot write metrics.json")

    monkeypatch.setattr(evaluate_run, "merge_results", keep)
    ok("plot", "leakage", tmp_path / "run", "--out", tmp_path / "leakage.png")
    assert (tmp_path / "leakage.png").is_file()
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("figure", ["moons", "regularizers", "leakage", "samples", "training"])
def test_plot_takes_names(figure, tmp_path, monkeypatch):
    twin, drawn = FOLDER.replace("decoupled", "standard_normal"), []
    monkeypatch.setattr(style, "save", lambda picture, path: drawn.append(picture) or [path])
    ok("plot", figure, twin, FOLDER, "--labels", "$one, the other")
    texts = [text.get_text() for text in drawn[0].findobj(Text)]
    assert {r"\$one", "the other"} <= set(texts)
    done = run("plot", figure, twin, FOLDER, "--labels", "one")
    assert done.exit_code == 2
    assert "1 names for 2 runs" in done.stderr


def test_a_figure_is_of_the_checkpoint_it_names(tmp_path):
    """A portrait of another checkpoint in the folder is made anew."""
    ok("plot", "moons", FOLDER, "--out", tmp_path / "a.png")
    before = np.load(f"{FOLDER}/portrait.npz")
    ok("plot", "moons", FOLDER, "--best", "--out", tmp_path / "b.png")
    after = np.load(f"{FOLDER}/portrait.npz")
    same_checkpoint = str(before["checkpoint"]) == str(after["checkpoint"])
    assert same_checkpoint == np.array_equal(before["samples"], after["samples"])


def test_dry_run_tells_of_a_fit_afterwards():
    done = ok("train", "vae_moons", "--dry-run", "prior=standard_normal", "fit_prior=spline")
    assert "spline, at most 3,000 iterations" in done.stdout


def test_dry_run_prints_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ok("train", "factor_moons", "--dry-run", "training.iterations=77", "regularizer.width=8")
    for expected in (
        "iterations: 77",
        "parameters: encoder",
        "parameters: prior",
        "parameters: discriminator",
        "example shape",
        "estimated time",
    ):
        assert expected in done.stdout, expected
    assert not list(tmp_path.iterdir())


def test_resume_from_the_latest_run_lets_iterations_grow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ok("train", "beta_b_moons", *SMALL)
    done = ok("train", "--resume", "training.iterations=30")
    assert "Resuming runs/beta_b_moons-decoupled-seed0" in done.stderr
    with open("runs/beta_b_moons-decoupled-seed0/metrics.jsonl") as file:  # noqa: PTH123
        assert json.loads(file.readlines()[-1])["iteration"] == 30
    again = ok("train", "--resume")
    assert "complete" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train"], 2, "which recipe?"),
        (["train", "factor_mist"], 2, "did you mean factor_mnist"),
        (["train", "vae_moons", "training.iteratons=5"], 2, "did you mean iterations"),
        (["train", "vae_moons", "seed=-1"], 2, "seed"),
        (["train", "vae_moons", "architecture.latent_dim=1"], 2, "latent_dim >= 2"),
        (["train", "vae_moons", "--device", "cuda:77"], 2, "not available"),
        (["train", "vae_moons", "--device", "toaster"], 2, "is not a device"),
        (["train", "--resume", "--run-dir", "nowhere"], 2, "holds no run"),
        (["train", "vae_moons", *SMALL], 2, "not empty"),
        (["train", "vae_mnist", "--no-download", "--data-root", "nowhere"], 3, "MNIST"),
        (["sample", "nowhere.pt"], 4, "no checkpoint at nowhere.pt"),
        (["sample", "--low-posterior", "--high-posterior"], 2, "exclude"),
        (["sample", "--low-posterior", "--from", "posterior"], 2, "rank samples of the prior"),
        (["sample", "--rank", "generation"], 2, "--high-posterior"),
        (["sample", "--low-posterior", "--pool", "3", "-n", "4"], 2, "pool of 3"),
        (["sample", "--out", "x.jpg"], 2, ".png or .pdf"),
        (["eval", "--metrics", "sklx"], 2, "did you mean skl"),
        (["eval", "training.iterations=3"], 2, "only evaluation.KEY=VALUE"),
        (["eval", "evaluation.sampels=3"], 2, "did you mean samples"),
        (["eval", "--metrics", "fid"], 1, "grey or RGB images"),
        (["eval", "--fid-dimensions", "100"], 2, "2048, 768, 192, 64"),
        (["eval", "--features", "x.pt2"], 2, "holds code"),
        (["plot", "training", "nowhere"], 3, "no metrics.jsonl"),
        (["plot", "moons", "--out", "x.svg"], 2, ".pdf"),
    ],
)
def test_mistakes_end_with_a_message_and_a_code(arguments, code, said):
    done = run(*arguments)
    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


def test_a_diverging_run_exits_5(tmp_path):
    done = run("train", "vae_moons", *SMALL, "training.learning_rate=1e30", "--run-dir", tmp_path)
    assert done.exit_code == 5
    assert "diverged at iteration" in done.stderr


def test_a_failed_metric_exits_1_and_keeps_the_others(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 3)).astype("float32"))
    monkeypatch.chdir(tmp_path)
    small = [s for s in SMALL if not s.startswith("data.")]
    ok("train", "vae_moons", "data={kind: arrays, path: x.npy}", *small, "--run-dir", "run")
    done = run("eval", "run", "--metrics", "skl,manifold", "--json")
    assert done.exit_code == 1
    assert "no known manifold" in done.stderr
    assert [r["metric"] for r in json.loads(done.stdout)["runs"][0]["results"]] == ["skl"]
    ok("sample", "run", "-n", "4")
    ok("traverse", "run")
    assert run("plot", "moons", "run").exit_code == 2
    (tmp_path / "x.npy").unlink()
    ok("sample", "run", "-n", "4", "--low-posterior")
    ok("traverse", "run")
    assert run("reconstruct", "run").exit_code == 3


def test_fid_of_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 6, 6), dtype=np.uint8)
    np.save("x.npy", images)
    tiny_extractor(tmp_path / "tiny.pt")
    small = [s for s in SMALL if not s.startswith("data.")]
    ok("train", "vae_moons", "data={kind: arrays, path: x.npy}", *small, "--run-dir", "run")
    trusted = ("--features", "tiny.pt", "--trust-features")
    done = ok("eval", "run", "--metrics", "fid,fid_lp,kid", *trusted, "--repeats", 2)
    for name in ("frechet_tiny", "frechet_tiny_lp", "kernel_tiny"):
        assert name in done.stdout
    done = ok("eval", "run", "--metrics", "fid", *trusted, "--json", "evaluation.fid_samples=10")
    [result] = json.loads(done.stdout)["runs"][0]["results"]
    assert result["samples"] == 10
    assert f"run: frechet_tiny: {result['details']['note']}" in done.stderr
    done = run("eval", "run", "--metrics", "fid", "--no-download")
    assert done.exit_code == 3
    assert "--inception-weights" in done.stderr
    done = run("eval", "run", "--metrics", "fid,fid_lp,kid", "--no-download")
    assert done.exit_code == 3
    assert "run: fid, fid_lp, kid failed: the Inception weights" in done.stderr
    assert done.stderr.count("--inception-weights") == 1
    done = run("eval", "run", "--metrics", "all", "--no-download", "--json")
    assert done.exit_code == 1
    assert "density, coverage failed: the Inception weights" in done.stderr
    assert {r["metric"] for r in json.loads(done.stdout)["runs"][0]["results"]} >= {"skl", "nll"}


def test_doctor_lists_what_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("DPVAE_DATA", str(tmp_path))
    done = ok("doctor")
    for expected in ("torch", "data root", str(tmp_path), "mnist", "inception weights", "devices"):
        assert expected in done.stdout.replace("\n", ""), expected


@pytest.mark.parametrize(
    "command",
    [
        ["sample", "-n", "20", "--out", "mine.png"],
        ["reconstruct", "--out", "mine.png"],
        ["traverse", "--out", "mine.png"],
    ],
    ids=" ".join,
)
def test_arrays_beside_a_picture_replace_nobody_s_file(command, workshop, tmp_path, monkeypatch):
    """--out mine.png also writes mine.npz: not over the user's own data."""
    monkeypatch.chdir(tmp_path)
    Path("mine.npz").write_bytes(b"mine")
    verb, *options = command
    done = run(verb, workshop / FOLDER, *options)
    assert done.exit_code == 2, done.output
    assert "mine.npz would be written beside it, and exists already" in done.stderr
    assert Path("mine.npz").read_bytes() == b"mine"
    assert [path.name for path in Path().iterdir()] == ["mine.npz"]
    Path("mine.npz").unlink()
    for _ in range(2):  # its own it may replace
        ok(verb, workshop / FOLDER, *options)

"""`dpvae fit-prior` at its entry point, on runs and on codes of anybody's."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_commands import ok, run
from tests.small import SMALL

RUN = "runs/vae_moons-standard_normal-seed0"
QUICK = ("fitting.iterations=6", "fitting.batch_size=16", "fitting.validate_every=2")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ok("train", "vae_moons", *SMALL, "prior=standard_normal")
        ok("encode", RUN, "--split", "train", "--out", "codes.npz")
        ok("fit-prior", "--prior", "mixture", *QUICK)
        ok("fit-prior", "--codes", "codes.npz", "--prior", "spline", *QUICK)
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)


def test_it_prints_the_gain_and_the_new_run():
    done = ok("fit-prior", RUN, *QUICK, "--out", "elsewhere", "--overwrite")
    assert done.stdout.splitlines()[-1] == "elsewhere"
    for words in (
        "120, of them 12 validation, 12 test",
        "gain over standard_normal [nats]",
        "gain over the Gaussian [nats]",
        "decoupled",
    ):
        assert words in done.stdout
    again = ("--out", "elsewhere", "--overwrite")
    done = ok("fit-prior", RUN, "--prior", "mixture", *again)
    assert "of EM" in done.stdout
    assert "components, selected from 1, 2, 4" in done.stdout
    assert "fitting.iterations" not in done.stderr
    hasty = ("--prior", "{kind: mixture, components: 20}", "fitting.iterations=1")
    assert "more fitting.iterations may gain more" in ok("fit-prior", RUN, *hasty, *again).stderr


def test_a_clear_loss_is_an_error_and_not_the_latest_run(tmp_path):
    """One Gaussian in place of eight clusters that a mixture has."""
    angles = np.arange(800) % 8 * np.pi / 4
    noise = 0.1 * np.random.default_rng(0).standard_normal((800, 2))
    np.savez(tmp_path / "x.npz", x=2 * np.stack([np.cos(angles), np.sin(angles)], 1) + noise)
    data = f"data={{kind: arrays, path: {tmp_path / 'x.npz'}}}"
    longer = ["training.iterations=120", "training.learning_rate=1e-2", "prior=standard_normal"]
    small = [part for part in SMALL if not part.startswith("data.")]
    ok("train", "vae_moons", data, *small, *longer, "--run-dir", tmp_path / "ring")
    ok("fit-prior", tmp_path / "ring", "--prior", "mixture", "--out", tmp_path / "good")
    latest = Path("runs/latest").resolve()
    assert latest == tmp_path / "good"
    one = "{kind: mixture, components: 1}"
    done = run("fit-prior", tmp_path / "good", "--prior", one, "--out", tmp_path / "worse")
    assert done.exit_code == 1, done.output
    assert done.stdout.splitlines()[-1] == str(tmp_path / "worse")
    assert "the fitted mixture prior is worse than mixture on held-out codes: gain -" in done.stderr
    assert "worse is kept, and runs/latest is what it was" in " ".join(done.stderr.split())
    assert Path("runs/latest").resolve() == latest
    ok("sample", tmp_path / "worse")
    # q(z) of a VAE that has hardly begun is N(0, I), which an untrained flow is not
    begun = ["training.iterations=1", "fitting.iterations=1", "prior=standard_normal"]
    worst = "fit_prior={kind: decoupled, blocks: 24}"
    done = ok("train", "vae_moons", data, *small, *begun, worst, "--run-dir", tmp_path / "both")
    record = json.loads((tmp_path / "both" / "fit.json").read_text())
    is_loss = record["gain"]["value"] + 3 * record["gain"]["standard_error"] < 0
    assert is_loss, record["gain"]
    assert "the fitted decoupled prior is worse than standard_normal" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample"],
        ["sample", "--low-posterior"],
        ["sample", "--high-posterior"],
        ["eval", "--metrics", "skl,skl_knn,nll,leak,elbo,active_units"],
        ["encode"],
        ["reconstruct"],
        ["traverse", "--space", "z"],
        ["train", "--resume"],
    ],
    ids=" ".join,
)
def test_every_command_takes_the_latest_run_which_it_is(arguments):
    ok("fit-prior", RUN, "--prior", "mixture", *QUICK, "--overwrite")
    done = ok(*arguments)
    assert "fit_mixture" in done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["leakage", "training"])
def test_a_run_is_drawn_beside_the_one_it_was_fitted_to(kind, tmp_path):
    for folder in (RUN, f"{RUN}-fit_mixture"):
        ok("eval", folder, "--metrics", "leak", "evaluation.samples=50")
    ok("plot", kind, RUN, f"{RUN}-fit_mixture", "--out", tmp_path / "x.png")
    assert (tmp_path / "x.png").is_file()


def test_codes_of_a_prior_file(tmp_path):
    done = ok("sample", "prior.pt", "-n", 9, "--out", tmp_path / "z.npz")
    assert done.stdout.strip() == str(tmp_path / "z.npz")
    drawn = np.load(tmp_path / "z.npz")
    assert drawn["z"].shape == (9, 2)
    assert drawn["log_p"].shape == (9,)
    ok("sample", "prior.pt", "-n", 9, "--out", tmp_path / "again")
    assert np.array_equal(np.load(tmp_path / "again" / "prior.npz")["z"], drawn["z"])
    ok("sample", "prior.pt", "-n", 9, "--seed", 1, "--out", tmp_path / "other.npz")
    assert not np.array_equal(np.load(tmp_path / "other.npz")["z"], drawn["z"])


def test_codes_alone_and_a_run_give_the_same_prior():
    """`dpvae encode` writes what the run's own fit sees."""
    ok("fit-prior", "--codes", "codes.npz", "--prior", "decoupled", *QUICK, "--out", "p.pt")
    ok("fit-prior", RUN, *QUICK, "--out", "as_run", "--overwrite")
    ok("sample", "p.pt", "-n", 50, "--out", "p.npz")
    found = json.loads(Path("as_run/fit.json").read_text())
    assert found["prior"] == "decoupled"
    ok("sample", "as_run", "-n", 50, "--out", "q.png")
    ours, theirs = np.load("p.npz")["z"], np.load("q.npz")["z"]
    assert np.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--prior", "splin"], 2, "did you mean spline?"),
        (["--prior", "standard_normal"], 2, "allowed kinds: decoupled"),
        (["fitting.iterations=0"], 2, "0 is too small"),
        (["training.iterations=5"], 2, "only fitting.KEY=VALUE may change"),
        (["nowhere"], 4, "there is no checkpoint at nowhere"),
        ([RUN, RUN], 2, "2 are named"),
        ([RUN, "--codes", "codes.npz"], 2, "--codes replaces a checkpoint"),
        ([RUN, "--seed", "1"], 2, "--seed is for --codes"),
        (["--codes", "nowhere.npz"], 3, "there are no codes at nowhere.npz"),
        (["--codes", "codes.npz"], 2, "prior.pt is already there"),
        (["--codes", "codes.npz", "--out", "v.pt", "--prior", "vamp"], 2, "needs both the encoder"),
        (["--codes", "prior.pt", "--out", "v.pt"], 2, "prior.pt cannot be read as .npz"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_what_cannot_be_says_so(arguments, status, words):
    done = run("fit-prior", *arguments)
    assert done.exit_code == status, done.output
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "prior.pt"],
        ["sample", "prior.pt", "--low-posterior"],
        ["traverse", "prior.pt"],
        ["encode", "prior.pt"],
    ],
    ids=" ".join,
)
def test_a_prior_file_is_no_checkpoint(arguments):
    done = run(*arguments)
    assert done.exit_code == 4, done.output
    assert "prior.pt is not a dpvae checkpoint but a prior file" in done.stderr
    assert "dpvae sample prior.pt draws from it" in done.stderr


def test_a_prior_file_s_samples_are_no_pictures():
    done = run("sample", "prior.pt", "--out", "x.png")
    assert done.exit_code == 2, done.output
    assert "has no decoder" in done.stderr


def test_images_are_drawn_before_and_after_the_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("architecture.latent_dim=2", "training.iterations=2")
    ok("train", "beta_h_digits", *small, "prior=standard_normal", "--run-dir", "run")
    done = ok("fit-prior", "run", "--prior", "mixture", "--out", "fitted", "fitting.iterations=6")
    assert done.stdout.splitlines()[-2:] == ["fitted/fit.png", "fitted"]
    assert "dpvae plot samples run fitted" in done.stderr
    with Image.open("fitted/fit.png") as picture:
        assert picture.width > 2.5 * picture.height, "three grids side by side"
    assert not Path("run/fit.png").exists()
    ok("fit-prior", "run", "--prior", "mixture", "--out", "fitted", "--overwrite", *QUICK)


def test_a_prior_given_a_label(tmp_path):
    given = ("--prior", "{kind: spline, hidden: 8}", "--given", "label", *QUICK)
    folder = str(tmp_path / "labelled")
    done = ok("fit-prior", RUN, *given, "--out", folder)
    assert "spline, given the label" in done.stdout
    for label in (0, 1):
        ok("sample", folder, "-n", 9, "--label", label)
        drawn = np.load(tmp_path / f"labelled/samples/label_{label}.npz")
        assert drawn["z0"].shape == drawn["z"].shape == (9, 2)
    ok("sample", folder, "-n", 9)
    done = ok("eval", folder, "--metrics", "skl,skl_by_label", "--json")
    [measured] = json.loads(done.stdout)["runs"]
    by_label = [each for each in measured["results"] if each["metric"] == "skl_by_label"]
    assert by_label[0]["details"]["labels"] == [0, 1]
    for words, message in (
        (["--label", 5], "knows the labels 0, 1, and not 5"),
        (["--label", 1, "--low-posterior"], "--label is for samples of the prior"),
    ):
        refused = run("sample", folder, *words)
        assert refused.exit_code == 2
        assert message in " ".join(refused.stderr.split())
    refused = run("sample", RUN, "--label", 1)
    assert "knows no labels" in refused.stderr


def test_codes_with_labels(tmp_path):
    codes = dict(np.load("codes.npz"))
    path = tmp_path / "codes.npz"
    np.savez(path, mean=codes["mean"])
    given = ("--codes", path, "--prior", "{kind: decoupled, hidden: 8}", "--given", "label", *QUICK)
    done = run("fit-prior", *given)
    assert done.exit_code == 2
    assert "no array `label` to give the prior" in " ".join(done.stderr.split())
    np.savez(path, **(codes | {"label": np.arange(len(codes["mean"])) % 3}))
    done = ok("fit-prior", *given)
    assert "Not used" not in done.stderr
    ok("sample", tmp_path / "prior.pt", "-n", 9, "--label", 2, "--out", tmp_path / "z.npz")
    assert np.load(tmp_path / "z.npz")["z"].shape == (9, 2)

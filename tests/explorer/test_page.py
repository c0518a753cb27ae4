"""The page as text: its numbers are those of the package, and nothing in it is an address."""

import json
import re

import numpy as np
import pytest
import torch

from dpvae_cli.explorer import content as contents
from dpvae_cli.explorer import page as pages
from dpvae_cli.explorer.page import explore_page, json_text
from dpvae_cli.exporter import ExportError
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.runs.loaded_run import load_run
from tests.cli.test_commands import ok, run
from tests.explorer.pages import content, readable, unpack

HOSTILE = "</script><script>alert('1')</script>\"'\u2028\u2029{{7*7}}<!--"


def test_shares_are_those_of_a_diagnosis(page, runs, monkeypatch):
    monkeypatch.chdir(runs)
    [computed] = content(page.read_text(encoding="utf-8"))["runs"]
    ok("diagnose", "decoupled", "--quick", "--seed", "0")
    written = json.loads((runs / "decoupled" / "diagnosis.json").read_text())
    of_diagnosis = {each["name"]: each for each in written["quantities"]}
    for name, share in computed["shares"].items():
        assert share == of_diagnosis[name]
    ok("diagnose", "decoupled", "--quick", "--seed", "7")
    other = json.loads((runs / "decoupled" / "diagnosis.json").read_text())
    [read] = content(explore_page([load_run(runs / "decoupled")], names=["decoupled"])[0])["runs"]
    assert read["shares"]["pocket_share"] == next(
        each for each in other["quantities"] if each["name"] == "pocket_share"
    )
    (runs / "decoupled" / "diagnosis.json").unlink()
    (runs / "decoupled" / "diagnosis.html").unlink()


def test_the_path_is_printed_and_the_page_belongs_to_the_run(page, runs, monkeypatch):
    monkeypatch.chdir(runs)
    assert ok("explore", "decoupled", "--out", "other").stdout == "other/explore.html\n"
    assert page.is_file()
    refused = run("explore", "decoupled", "--out", "page.pdf")
    assert (refused.exit_code, "pages are written as .html" in refused.stderr) == (2, True)


def test_nothing_in_a_page_is_an_address(page):
    text = page.read_text(encoding="utf-8")
    addresses = r"https?:|www\.|src=(?!data:)|href=\"(?!data:)|@import|url\("
    assert not re.findall(addresses, readable(text))
    assert len(text) < pages.MAX_BYTES
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe-eval" not in policy.replace("wasm-unsafe-eval", "")


def test_codes_are_exact_enough_for_the_density(page, runs):
    [record] = content(page.read_text(encoding="utf-8"))["runs"]
    run = load_run(runs / "decoupled")
    aggregate = run.encoded.aggregate_posterior()
    mean, log_variance = (torch.from_numpy(unpack(record[key])) for key in ("mean", "logVariance"))
    assert len(mean) == len(aggregate) == record["codes"]
    again = type(aggregate)(mean, log_variance)
    z = aggregate.sample(200, generator=torch.Generator().manual_seed(0)) * 1.5
    torch.testing.assert_close(again.log_prob(z), aggregate.log_prob(z), atol=1e-4, rtol=0)
    cells = record["spaces"]["z"]["map"]["cells"]
    keys = ("low", "high", "axes", "base")
    space = {key: torch.tensor(record["spaces"]["z"][key]) for key in keys}
    points = contents.plane_grid(
        space["base"][None], space["axes"], space["low"], space["high"], cells
    )
    log_q = aggregate.log_prob(points.float()).numpy()
    shown = unpack(record["spaces"]["z"]["map"]["logQ"])[:, 0]
    floor = record["threshold"]["logQ"] - contents.FLOOR
    assert np.abs(shown - np.maximum(log_q, floor)).max() < 1e-2


def test_names_are_text(page, runs, tmp_path):
    text = json_text({"name": HOSTILE})
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {"name": HOSTILE}
    folder = tmp_path / HOSTILE.replace("/", "\u2044")
    folder.mkdir()
    for name in ("checkpoint.pt", "checkpoint.encodings.npz", "recipe.yaml"):
        (folder / name).write_bytes((runs / "decoupled" / name).read_bytes())
    written, _ = explore_page([load_run(folder)], names=[HOSTILE])
    assert written.count("<script") == page.read_text(encoding="utf-8").count("<script")
    assert "<script>alert" not in written
    assert content(written)["runs"][0]["traverse"].startswith("</script>")


def test_a_prior_without_z0_has_one_latent_space(runs):
    text, _ = explore_page([load_run(runs / "mixture")], names=["mixture"])
    [record] = content(text)["runs"]
    assert (record["hasGeneration"], list(record["spaces"])) == (False, ["z"])
    assert 'data-panel="z0"' not in text


def test_twins_need_the_same_data(runs):
    decoupled, normal = load_run(runs / "decoupled"), load_run(runs / "standard_normal")
    text, _ = explore_page([normal, decoupled], names=["a", "b"])
    first, second = content(text)["runs"]
    assert (first["ends"], first["points"] == second["points"]) == (second["ends"], False)
    with pytest.raises(UsageError, match="other data"):
        explore_page([decoupled, load_run(runs / "deep")], names=["a", "b"])


def test_codes_are_left_out_of_a_large_page(page, runs, monkeypatch):
    size = page.stat().st_size
    monkeypatch.setattr(pages, "MAX_BYTES", size - 5_000)
    monkeypatch.setattr(pages, "MIN_CODES", 50)
    text, _ = explore_page([load_run(runs / "decoupled")], names=["decoupled"])
    [record] = content(text)["runs"]
    assert len(text) <= size - 5_000
    assert 50 < unpack(record["mean"]).shape[0] < record["codes"]
    assert "q(z) in it is over" in text


def test_a_model_that_cannot_be_exported_is_shown_in_pictures(runs, monkeypatch):
    def fail(model):
        raise ExportError("torch cannot export Mine: no kernel")

    monkeypatch.setattr(contents, "pack_graphs", fail)
    text, _ = explore_page([load_run(runs / "decoupled")], names=["decoupled"])
    [record] = content(text)["runs"]
    assert record["graphs"] is None
    assert unpack(record["grid"]["x"]).shape == (record["grid"]["side"] ** 2, 2)
    assert "torch cannot export Mine: no kernel" in text
    assert 'id="runtime-wasm"' not in text

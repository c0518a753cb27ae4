"""The report in five formats: what it says, what it refuses, and that nothing in it runs."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image
from scipy import stats

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.pages.pictures import LONGEST_SIDE, from_bytes, from_file
from dpvae_cli.plotting.leakage import LeakageScores
from dpvae_cli.recipe import load_recipe
from dpvae_cli.studies.records import ReportInputs, discover, read_run
from dpvae_cli.studies.report import html, write_report
from dpvae_cli.studies.report.content import compose_report
from dpvae_cli.studies.report.gallery import mean_curve
from dpvae_cli.studies.report.html import plot, render_report
from dpvae_cli.studies.report.tables import results_tables
from dpvae_cli.studies.statistics import Direction, compare_pairs
from tests.studies.runs import leak, paint, pairs, result, write_run

LOWER = {0: (2.0, 1.0), 1: (2.2, 1.1), 2: (2.1, 1.2)}
"""A metric with (standard normal, decoupled) by seed: lower in each."""
ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def content_of(*runs, **options):
    return compose_report([read_run(run) for run in runs], ReportInputs("T", **options))


def main_table(found):
    return results_tables(found)[0]


def report(folder, runs, title="T", **options):
    return write_report(folder, ReportInputs(title, tuple(runs), **options))


def texts(folder):
    return {path.suffix: path.read_text(encoding="utf-8") for path in folder.glob("report.*")}


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a folder of three pairs with all pictures, an unfinished run, and its report."""
    place = tmp_path_factory.mktemp("study")
    pictures = ("samples.png", "samples/low_posterior.png", "traversals/z0.png")
    pairs(place, LOWER, pictures=pictures)
    write_run(place, seed=3, reached=10)
    paint(place / "figures" / "figure3.png", size=(900, 300))
    (place / "figures" / "figure3.txt").write_text("Six regularizers & more.\n")
    written = report(
        place,
        discover([place]),
        title="Two moons",
        question="Does it help?",
        published="table1",
        figures=(place / "figures" / "figure3.png",),
        notes=("Trained for a test.",),
    )
    assert [path.name for path in written] == [
        f"report.{suffix}" for suffix in ("html", "md", "tex", "csv", "json")
    ]
    return place


def test_the_answer_comes_from_the_intervals(tmp_path):
    found = content_of(*pairs(tmp_path, LOWER), metrics=("skl",))
    assert found.answer == (
        "The decoupled prior is compared with the standard normal one in 3 pairs of runs that "
        "differ in nothing else, of 1 recipe.",
        "It has the lower (better) sKL in 3 of 3 pairs; "
        "the 95 % interval says so for 1 of 1 recipe.",
    )


def test_the_answer_says_so_when_it_is_worse(tmp_path):
    worse = {seed: (b, a) for seed, (a, b) in LOWER.items()}
    answer = " ".join(content_of(*pairs(tmp_path, worse), metrics=("skl",)).answer)
    assert "in 0 of 3 pairs; the 95 % interval says so for none of 1 recipe" in answer
    assert "and the opposite for vae_moons." in answer


def test_false_discoveries_are_counted_over_the_whole_report(tmp_path):
    """Of two metrics whose intervals exclude zero the weaker does not hold beside six others."""
    noise = (0.3, -0.2, 0.1, -0.3, 0.1)
    runs = []
    for seed in range(5):
        for prior, is_other in (("standard_normal", False), ("decoupled", True)):
            shift = {f"m{i}": noise[(seed + i) % 5] for i in range(6)}
            shift |= {"skl": -5 + noise[seed], "nll": -0.35 + noise[seed]}
            results = [result(m, 9 + is_other * by) for m, by in shift.items()]
            runs.append(write_run(tmp_path, prior=prior, seed=seed, results=results))
    found = content_of(*runs)
    p = {each.metric: each.found.t_test_p for each in found.differences}
    adjusted = {each.metric: each.adjusted_p for each in found.differences}
    assert adjusted == pytest.approx(
        dict(zip(p, stats.false_discovery_control(list(p.values())), strict=True))
    )
    assert p["skl"] < adjusted["skl"] < 0.05
    assert p["nll"] < 0.05 < adjusted["nll"]
    assert found.answer[-1] == (
        "Of 8 comparisons in this report the intervals of 2 exclude zero; "
        "1 of them hold at a false discovery rate of 5 %."
    )
    assert "for all 8 comparisons of this report" in render_report(found)


def test_a_leak_that_no_draw_shows_is_zero_with_a_note(tmp_path):
    leaks = {"standard_normal": (0.3, 0.2, 0.4), "decoupled": (None, 0.1, None)}
    runs = [
        write_run(
            tmp_path,
            prior=prior,
            seed=seed,
            results=[result("leak", value, value_at_quantile=0.05)],
        )
        for prior, values in leaks.items()
        for seed, value in enumerate(values)
    ]
    found = content_of(*runs)
    cell = found.lines[1].cells["leak"]
    assert (cell.summary.n, cell.summary.mean) == (3, pytest.approx(0.1 / 3))
    assert "0.033 ± 0.058 (no leak in 2 of 3)" in [
        entry.text for entry in main_table(found).rows[1]
    ]
    assert "No leak in some seeds" in main_table(found).caption
    [difference] = found.differences
    assert difference.found.n == 3


def test_leakage_curves_count_a_seed_without_leak_as_zero():
    levels = [0.01, 0.05]
    curves = [
        LeakageScores(levels, [None, None], [None, None]),
        LeakageScores(levels, [None, 0.4], [None, 0.1]),
    ]
    _, means, errors = mean_curve(curves)
    assert means == [None, pytest.approx(0.2)]
    assert errors == [None, pytest.approx(0.2)]


def test_one_seed_keeps_the_error_that_was_measured(tmp_path):
    found = content_of(*pairs(tmp_path, {0: (2.0, 1.0)}))
    assert [line.cells["skl"].own_error for line in found.lines] == [0.01, 0.01]
    text = render_report(found)
    assert [row[3].text for row in main_table(found).rows] == [
        "2.000 ± 0.010",
        "1.000 ± 0.010",
    ]
    assert "not other training seeds" in text
    assert "Mean over n seeds" not in text
    several = render_report(content_of(*pairs(tmp_path / "more", LOWER)))
    assert "not other training seeds" not in several
    assert "adjusted p" not in text
    assert "stand by themselves" not in render_report(
        content_of(*pairs(tmp_path / "p", LOWER), published="table1")
    )


def test_the_answer_comes_before_the_cautions(study):
    for suffix in (".html", ".md"):
        text = texts(study)[suffix].replace("\\_", "_")
        order = [
            text.index(part)
            for part in ("Does it help?", "prior is compared with", "Trained for a test.", "Bold:")
        ]
        assert order == sorted(order)


def test_no_verdict_below_three_seeds(tmp_path):
    found = content_of(*pairs(tmp_path, {0: (2.0, 1.0), 1: (2.0, 1.1)}))
    assert "no verdict" in found.answer[-1]
    assert not any(cell.is_best for line in found.lines for cell in line.cells.values())


def test_without_twins_nothing_is_compared(tmp_path):
    found = content_of(write_run(tmp_path, results=[result("skl", 1.0)]))
    assert found.differences == ()
    assert "nothing is compared" in found.answer[0]


def test_bold_is_only_where_the_interval_says_so(tmp_path):
    runs = pairs(tmp_path / "a", LOWER)
    runs += pairs(tmp_path / "b", {0: (2, 1), 1: (1, 2), 2: (2, 2.1)}, regularizer="beta_h")
    found = content_of(*runs)
    best = {(line.experiment, line.prior) for line in found.lines if line.cells["skl"].is_best}
    assert best == {("vae_moons", "decoupled")}
    assert not any(line.cells["active_units"].is_best for line in found.lines)


def test_the_page_says_all_of_it(study):
    tags = Tags(texts(study)[".html"])
    said = " ".join(" ".join(tags.text).split())
    for words in (
        "Two moons",
        "Does it help?",
        "Trained for a test.",
        "20 training iterations instead of 8,000",
        "1 of 7 runs is in no table",
        "unfinished, at iteration 10 of 20",
        "lower in 3 of 3 seeds",
        "Six regularizers & more.",
        "data.train",
        "iterations: 20",
    ):
        assert words in said
    assert [a["lang"] for a in tags.all("html")] == ["en"]
    assert len(tags.all("main")) == len(tags.all("h1")) == len(tags.all("title")) == 1
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in tags.tags}


def test_the_contents_lead_somewhere_and_ids_are_single(study):
    tags = Tags(texts(study)[".html"])
    ids = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    local = {a["href"][1:] for a in tags.all("a") if a["href"].startswith("#")}
    assert local <= set(ids)
    assert {"answer", "results", "differences", "leakage", "samples", "traversals"} <= local


def test_the_page_fetches_and_runs_nothing(study):
    tags = Tags(texts(study)[".html"])
    assert not tags.all("script") + tags.all("iframe") + tags.all("object") + tags.all("form")
    assert all(a["src"].startswith("data:image/png;base64,") for a in tags.all("img"))
    assert [a["href"] for a in tags.all("link")] == ["data:,"]
    assert not any(name.startswith("on") or name == "style" for _, a in tags.tags for name in a)
    [policy] = [a["content"] for a in tags.all("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert "@import" not in texts(study)[".html"]
    assert "url(" not in texts(study)[".html"]


def test_every_picture_has_words_and_is_whole(study):
    images = Tags(texts(study)[".html"]).all("img")
    assert len(images) == 1 + 1 + 2 * 2 + 2 + 1  # study, leakage, samples, traversals, training
    for image in images:
        assert len(image["alt"]) > 20
        content = base64.b64decode(image["src"].partition(",")[2])
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == (int(image["width"]), int(image["height"]))


def test_the_same_runs_make_the_same_page(study, tmp_path):
    again = [read_run(path) for path in discover([study])]
    assert render_report(compose_report(again, ReportInputs("x"))) == render_report(
        compose_report(again, ReportInputs("x"))
    )


def test_the_csv_has_a_row_for_each_prior_and_metric(study):
    rows = list(csv.DictReader(io.StringIO(texts(study)[".csv"])))
    assert len(rows) == 2 * 3
    [row] = [r for r in rows if (r["prior"], r["metric"]) == ("decoupled", "skl")]
    assert float(row["mean"]) == pytest.approx(1.1)
    assert float(row["difference"]) == pytest.approx(-1.0)
    assert float(row["difference_high"]) < 0
    assert (row["n"], row["pairs"], row["wins"], row["is_best"]) == ("3", "3", "3", "true")
    assert row["in_words"].startswith("lower in 3 of 3 seeds")


def test_the_json_holds_every_value_and_every_run(study):
    document = json.loads(texts(study)[".json"])
    assert document["schema"] == 1
    assert document["question"] == "Does it help?"
    [found] = [
        r for r in document["results"] if (r["prior"], r["metric"]) == ("standard_normal", "skl")
    ]
    assert found["values"] == {"0": 2.0, "1": 2.2, "2": 2.1}
    assert len(document["runs"]) == 7
    assert {run["state"] for run in document["runs"]} == {"measured", "unfinished"}


def test_markdown_and_latex_have_the_same_numbers(study):
    found = texts(study)
    assert "| vae\\_moons | decoupled | 3 | **1.10 ± 0.10** |" in found[".md"]
    assert r"vae\_moons & decoupled & 3 & \textbf{1.10 $\pm$ 0.10} &" in found[".tex"]
    assert found[".tex"].count(r"\toprule") == found[".tex"].count(r"\bottomrule") == 3
    assert r"\textbf{$-$1.00" in found[".tex"]


def mnist_pair(place, *overrides, samples=10_000):
    """Return a run of vae_mnist and its twin, with these deviations from the packaged recipe."""
    runs = []
    for prior, value in (("standard_normal", 140.0), ("decoupled", 130.0)):
        recipe = load_recipe("vae_mnist", [f"prior={prior}", *overrides])
        fid = result("fid", value, samples=samples)
        reached = recipe.training.iterations
        runs.append(write_run(place, prior=prior, recipe=recipe, results=[fid], reached=reached))
    return runs


def test_the_papers_numbers_stand_beside_runs_with_its_settings(tmp_path):
    runs = mnist_pair(tmp_path)
    found = content_of(*runs, published="table1")
    shown = {line.prior: line.cells["fid"].published for line in found.lines}
    assert shown == {"standard_normal": 137.4, "decoupled": 129.0}
    text = render_report(found)
    assert "137.4" in text
    assert "not comparable" in text
    assert "comparable in direction only" in text
    assert "The paper’s numbers" not in render_report(content_of(*runs))


@pytest.mark.parametrize(
    ("overrides", "samples"),
    [
        (["training.iterations=2000"], 10_000),
        (["training.batch_size=8"], 10_000),
        (["architecture.latent_dim=8"], 10_000),
        ([], 500),
    ],
)
def test_the_papers_numbers_do_not_stand_beside_other_settings(tmp_path, overrides, samples):
    found = content_of(*mnist_pair(tmp_path, *overrides, samples=samples), published="table1")
    assert found.with_published == ()
    assert "no run here has its settings" in main_table(found).caption
    assert "137.4" in render_report(found), "in a table of their own"


def test_faces_carry_their_terms(tmp_path):
    faces = [
        "data={kind: celeba}",
        "architecture={kind: celeba_conv, latent_dim: 4}",
        "likelihood={kind: gaussian, scale: 0.7}",
    ]
    report(
        tmp_path / "out",
        pairs(tmp_path / "runs", LOWER, overrides=faces),
        title="Faces",
    )
    for suffix, text in texts(tmp_path / "out").items():
        assert ("Do not commit, publish or redistribute" in text) == (suffix != ".csv")


def hostile(tmp_path):
    """Return runs whose every text from outside is an attack."""
    runs = pairs(tmp_path / f"<i>{ATTACK[:20]}".replace("/", ""), LOWER)
    named = ATTACK.replace("/", "_")
    for run in runs:
        found = json.loads((run / "metrics.json").read_text())
        found["recipe"] = ATTACK
        found["results"] += [
            result(f"=cmd|' /C calc'!A0 {ATTACK}", 1.0, unit=ATTACK),
            result("nll", 1.0, split=ATTACK, note=ATTACK, data_note=ATTACK),
        ]
        (run / "metrics.json").write_text(json.dumps(found))
        (run / "environment.json").write_text(json.dumps(dict.fromkeys(("dpvae", ATTACK), ATTACK)))
        paint(run / "figures" / f"{named}.png")
        run.rename(run.with_name(f"{named}{run.name}"))
    runs = [run.with_name(f"{named}{run.name}") for run in runs]
    recipe = (runs[0] / "recipe.yaml").read_text()
    broken = tmp_path / f"broken{named}"
    broken.mkdir()
    (broken / "recipe.yaml").write_text(recipe.replace("kind: moons", f"kind: '{ATTACK[:8]}'"))
    return [*runs, broken]


@pytest.fixture
def attacked(tmp_path):
    figure = tmp_path / f"fig{ATTACK.replace('/', '_')}.png"
    paint(figure)
    figure.with_suffix(".txt").write_text(ATTACK)
    report(
        tmp_path / "out",
        hostile(tmp_path),
        title=ATTACK,
        question=ATTACK,
        figures=(figure,),
        notes=(ATTACK,),
        published="table1",
    )
    return texts(tmp_path / "out")


def test_text_from_strangers_stays_text_on_the_page(attacked):
    tags = Tags(attacked[".html"])
    assert not tags.all("script")
    assert all(a["src"].startswith("data:image/png") for a in tags.all("img"))
    assert not any(name.startswith("on") for _, a in tags.tags for name in a)
    assert "<script>alert(1)" in "".join(tags.text)
    assert "&amp;lt;script" not in attacked[".html"], "escaped twice"


def test_text_from_strangers_stays_text_in_the_other_formats(attacked):
    assert "<script" not in attacked[".md"]
    for line in attacked[".tex"].splitlines():
        plain = re.sub(r"\\[a-zA-Z]+|\\.", "", line)
        assert not set('#_^~<>|"') & set(plain) or line.startswith("%"), line
    for row in csv.reader(io.StringIO(attacked[".csv"])):
        for cell in row:
            is_number = re.fullmatch(r"-?[\d.e+-]+", cell)
            assert is_number or not cell.startswith(("=", "+", "-", "@")), cell
    assert "'=cmd" in attacked[".csv"]
    assert json.loads(attacked[".json"])["title"] == ATTACK


def test_what_is_no_picture_is_not_embedded(tmp_path):
    secret = tmp_path / "samples.png"
    secret.write_text("password: 1234")
    assert from_file(secret, within=tmp_path, alt="a") is None
    assert from_file(tmp_path / "missing.png", within=tmp_path, alt="a") is None
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    assert from_bytes(svg, alt="a") is None
    bitmap = io.BytesIO()
    Image.new("RGB", (3, 3)).save(bitmap, "BMP")
    assert from_bytes(bitmap.getvalue(), alt="a") is None
    torn = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(torn, "PNG")
    assert from_bytes(torn.getvalue()[:1_000], alt="a") is None


def test_large_pictures_are_made_smaller_and_animations_kept(tmp_path):
    large = io.BytesIO()
    Image.new("RGB", (4_000, 1_000), "red").save(large, "PNG")
    found = from_bytes(large.getvalue(), alt="a")
    assert (found.width, found.height) == (LONGEST_SIDE, LONGEST_SIDE // 4)
    frames = [Image.new("P", (20, 20), i) for i in range(3)]
    frames[0].save(tmp_path / "z.gif", save_all=True, append_images=frames[1:])
    moving = from_file(tmp_path / "z.gif", within=tmp_path, alt="a")
    assert moving.uri.startswith("data:image/gif;base64,")
    content = base64.b64decode(moving.uri.partition(",")[2])
    assert content == (tmp_path / "z.gif").read_bytes()


def test_a_difference_is_drawn_around_zero():
    found = compare_pairs(
        {0: 1.0, 1: 1.0, 2: 1.5}, {0: 2.0, 1: 3.0, 2: 2.0}, better=Direction.LOWER
    )
    drawn = plot(found)
    low, mean, high = (drawn[key] for key in ("low", "mean", "high"))
    assert min(low, *drawn["seeds"]) == -46
    assert low < mean < high
    assert mean == pytest.approx((low + high) / 2, abs=0.01)
    same = compare_pairs({0: 1.0}, {0: 1.0}, better=Direction.LOWER)
    assert (plot(same)["mean"], plot(same)["low"]) == (0, None)


def test_leakage_records_that_are_none_draw_nothing(tmp_path):
    broken = leak()
    broken["details"]["values"] = ["<b>", {}, None]
    runs = [
        write_run(tmp_path, prior=prior, results=[broken], name=prior)
        for prior in ("standard_normal", "decoupled")
    ]
    assert 'id="leakage"' not in render_report(content_of(*runs))


def test_nothing_measured_is_refused(tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(UsageError, match="none of 2 runs is measured"):
        report(tmp_path, [run, tmp_path / "never"], title="x")
    assert not list(tmp_path.glob("report.*"))


def fitted_twins(place):
    """Return runs trained jointly and fitted afterwards, of three seeds: 1.0 against 1.5, 1.6."""
    joint, after = [], []
    for seed in range(3):
        joint.append(write_run(place, seed=seed, results=[result("skl", 1.0 + seed / 100)]))
        after.append(
            write_run(
                place,
                prior="standard_normal",
                seed=seed,
                name=f"fitted-{seed}",
                overrides=("fit_prior=decoupled",),
                results=[result("skl", 1.5 + seed / 50)],
            )
        )
    return joint, after


def test_a_prior_fitted_afterwards_is_a_prior_of_its_own(tmp_path):
    """It stands beside the jointly trained one and is compared with it where that is asked for."""
    joint, after = fitted_twins(tmp_path)
    content = content_of(*joint, *after, baseline="decoupled")
    assert [line.prior for line in content.lines] == [
        "decoupled",
        "standard_normal, then decoupled",
    ]
    [difference] = content.differences
    assert (difference.prior, difference.baseline) == (content.lines[1].prior, "decoupled")
    assert difference.found.mean == pytest.approx(0.5 + 0.01)
    assert difference.found.is_worse
    assert "compared with the decoupled one in 3 pairs" in content.answer[0]
    assert not [notice for notice in content.notices if "fit_prior" in notice]


def test_a_report_is_told_what_to_compare_with(tmp_path):
    joint, after = fitted_twins(tmp_path)
    report(tmp_path / "r", [*joint, *after], title="T", baseline="decoupled")
    assert "the prior minus the decoupled one" in texts(tmp_path / "r")[".md"]
    report(tmp_path / "s", [*joint, *after], title="T")
    assert "No run has a twin" in texts(tmp_path / "s")[".md"]


def test_a_report_of_many_settings_pictures_the_first_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "MOST_PICTURED", 2)
    runs = [
        write_run(
            tmp_path,
            prior=prior,
            results=[result("skl", 1.0), leak()],
            overrides=[f"architecture.hidden=[{width}]"],
            name=f"{width}-{prior}",
            recipe_name=f"width_{width}",
        )
        for width in (4, 5, 6)
        for prior in ("standard_normal", "decoupled")
    ]
    text = render_report(content_of(*runs))
    assert "the first 2 experiments; those of the other 1 are" in text
    samples = text.partition('<section id="samples">')[2].partition("<section id=")[0]
    assert "width_5" in samples
    assert "width_6" not in samples
    assert "width_6" in text.partition('<section id="samples">')[0]

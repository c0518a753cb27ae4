"""The look, the names and the files that all figures share."""

import re
import subprocess
import sys
import threading
from dataclasses import replace

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import style
from dpvae_cli.recipe.validation import kinds
from tests.plotting.conftest import settings


@pytest.fixture
def figure() -> Figure:
    with style.house_style():
        picture = style.new_figure(2.0, 1.5)
        picture.subplots().set_title("a title")
    return picture


def test_without_suffix_both_formats_are_written(figure, tmp_path):
    paths = style.save(figure, tmp_path / "new folder" / "picture")
    assert [path.name for path in paths] == ["picture.png", "picture.pdf"]
    png, pdf = (path.read_bytes() for path in paths)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert pdf.startswith(b"%PDF-")
    assert {path.name for path in paths[0].parent.iterdir()} == {"picture.png", "picture.pdf"}


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".PNG"])
def test_a_suffix_chooses_one_format(figure, tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    assert style.save(figure, path) == [path]
    assert list(tmp_path.iterdir()) == [path]


def test_png_has_200_dots_an_inch(figure, tmp_path):
    (path,) = style.save(figure, tmp_path / "picture.png")
    width, height = (int.from_bytes(path.read_bytes()[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (400, 300)


def test_pdf_embeds_editable_fonts(figure, tmp_path):
    (path,) = style.save(figure, tmp_path / "picture.pdf")
    assert b"/Subtype /Type0" in path.read_bytes()  # font type 42 as a composite font
    assert b"/Subtype /Type3" not in path.read_bytes()


def test_pdf_of_one_figure_is_the_same_twice(figure, tmp_path):
    first, second = (style.save(figure, tmp_path / f"{n}.pdf")[0].read_bytes() for n in "ab")
    assert first == second


@pytest.mark.parametrize("name", ["picture.svg", "picture.jpeg", "v1.5"])
def test_other_suffixes_are_refused_with_the_allowed_ones(figure, tmp_path, name):
    with pytest.raises(UsageError) as caught:
        style.save(figure, tmp_path / name)
    assert ".png or .pdf" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())


def test_a_failed_save_keeps_the_old_picture(figure, tmp_path, monkeypatch):
    (path,) = style.save(figure, tmp_path / "picture.png")
    before = path.read_bytes()

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(UsageError, match="No space left"):
        style.save(figure, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_house_style_gives_the_callers_settings_back(monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 31.0)
    with style.house_style():
        assert matplotlib.rcParams["font.size"] == 8
        assert matplotlib.rcParams["pdf.fonttype"] == 42
    assert matplotlib.rcParams["font.size"] == 31.0


def test_the_callers_settings_do_not_leak_into_figures(monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    with style.house_style():
        assert style.new_figure(2.0, 2.0).subplots().get_facecolor() == (1, 1, 1, 1)


def test_threads_draw_without_disturbing_each_other(tmp_path):
    before = settings()

    @style.house_style()
    def draw(index: int) -> None:
        picture = style.new_figure(1.5, 1.5)
        picture.subplots().plot([0, index])
        style.save(picture, tmp_path / f"{index}.png")

    threads = [threading.Thread(target=draw, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.iterdir())) == 6
    assert settings() == before


def test_plotting_imports_neither_torch_nor_pydantic_nor_pyplot():
    modules = "leakage, moons, samples, training, traversal"
    script = (
        f"import sys; from dpvae_cli.plotting import {modules}\n"
        "print([n for n in ('torch', 'pydantic', 'matplotlib.pyplot') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("label", "prior", "expected"),
    [
        ("beta_h", "decoupled", "beta_h"),
        ("beta_h decoupled", "decoupled", "beta_h"),
        ("runs/beta_h_moons-standard_normal-seed0", "standard_normal", "runs/beta_h_moons seed0"),
        ("beta_h (standard normal)", "standard_normal", "beta_h"),
        ("decoupled", "decoupled", ""),
        ("beta_h decoupled", None, "beta_h decoupled"),
    ],
)
def test_family_is_what_twins_share(label, prior, expected):
    assert style.family(label, prior) == expected


def test_a_title_is_a_name_of_its_own():
    run = style.DrawnRun("beta_h decoupled", "decoupled")
    assert run.name() == "beta_h, decoupled"
    assert run.name_on_lines(9) == "beta_h\ndecoupled"
    ours = replace(run, title="ours")
    assert ours.name() == ours.name_on_lines(9) == "ours"


def test_prior_in_reads_the_names_of_run_folders():
    assert style.prior_from_label("beta_h_moons-decoupled-seed0") == "decoupled"
    assert style.prior_from_label("beta_h_moons-standard_normal-seed0") == "standard_normal"
    assert style.prior_from_label("mine") is None


def test_plain_shortens_in_the_middle_and_disarms_mathematics():
    assert style.escape_label("short", 10) == "short"
    assert style.escape_label("abcdefghijklmnop", 9) == "abcd…mnop"
    assert style.escape_label("two\n lines", 20) == "two lines"
    assert style.escape_label("cost $5", 20) == r"cost \$5"
    assert not style.escape_label("_hidden", 20).startswith("_")


def test_twins_share_a_colour_and_standard_normal_is_dashed():
    looks = style.line_styles(
        ["a standard_normal", "a decoupled", "b decoupled"],
        ["standard_normal", "decoupled", "decoupled"],
    )
    assert looks[0]["color"] == looks[1]["color"] != looks[2]["color"]
    assert looks[0]["linestyle"] != "-"
    assert looks[1]["linestyle"] == looks[2]["linestyle"] == "-"


def test_a_single_pair_takes_the_colours_of_the_priors():
    looks = style.line_styles(["a", "a"], ["standard_normal", "decoupled"])
    assert [look["color"] for look in looks] == [style.VERMILLION, style.BLUE]


def test_two_runs_of_one_name_and_prior_look_different():
    first, second = style.line_styles(["a", "a"], ["decoupled", "decoupled"])
    assert first["color"] != second["color"]


def test_marks_and_priors_never_share_a_colour():
    from dpvae_cli.plotting import style

    colours = [style.LOW, style.HIGH, *style.prior_colours().values()]
    assert len(set(colours)) == 2 + len(kinds("prior") | kinds("fit_prior")) == len(colours)


def test_a_legend_takes_one_line_where_all_names_fit():
    with style.house_style():
        picture = style.new_figure(7.0, 2.0)
        style.legend_below(picture, [Line2D([], [], label="x" * n) for n in (40, 28, 14)])
        assert picture.legends[0]._ncols == 3
        short = style.new_figure(3.4, 2.0)
        style.legend_below(short, [Line2D([], [], label="x" * n) for n in (40, 28, 14)])
        assert short.legends[0]._ncols == 1


@pytest.mark.parametrize("count", [1, 4, 20])
def test_a_legend_of_long_names_stays_on_the_page(count):
    with style.house_style():
        picture = style.new_figure(3.4, 2.0)
        picture.subplots()
        handles = [
            Line2D([], [], label=style.DrawnRun("x" * 90, "decoupled").name()) for _ in range(count)
        ]
        style.legend_below(picture, handles)
        picture.draw_without_rendering()
        (legend,) = picture.legends
        box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= picture.bbox.width
    assert box.y0 >= 0
    panel = picture.axes[0].get_window_extent()
    assert panel.height > 0.5 * picture.dpi, "the legend must not eat the panel"


def test_density_map_gets_darker_with_density():
    levels = [sum(style.DENSITY_MAP(level / 20)[:3]) for level in range(21)]
    assert levels == sorted(levels, reverse=True)


def test_colours_are_hexadecimal():
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in style.CYCLE)
    assert len(set(style.CYCLE)) == len(style.CYCLE)

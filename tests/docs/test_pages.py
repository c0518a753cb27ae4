"""Code of every page runs, the names on it exist, and its links resolve."""

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.docs.pages import CLI_PAGE, PAGES, ROOT, blocks, look_for, play, play_console
from tests.quick import quick  # noqa: F401

IDS = [page.name for page in PAGES]
each_page = pytest.mark.parametrize("page", PAGES, ids=IDS)
NAMED = re.compile(r"`([\w/]+\.py)::([\w.]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SHOWN = re.compile(r"<(?:img|a)\b[^>]*\b(?:src|href)=\"([^\"]+)\"")
REFERENCE = re.compile(r"^\[[^\]]+\]: (\S+)", re.MULTILINE)
IMAGE_SUFFIXES = (".png", ".jpg", ".gif", ".svg")


@pytest.fixture(autouse=True)
def _isolated_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DPVAE_DATA", raising=False)


@each_page
def test_code_runs(page):
    play(page)
    listed = CLI_PAGE.read_text(encoding="utf-8")
    left = {path.name for path in Path().glob("runs/*/*") if not path.is_symlink()}
    assert not {name for name in left if f"`{name}`" not in listed}, "docs/cli.md lists all files"


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_commands_of_the_tour_work():
    """Run the first `sh` block after "Tour" in a shell, in an empty folder."""
    page = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    block = re.search(r"^## Tour$.*?^```sh\n(.*?)^```$", page, re.M | re.S)[1]
    assert block.count("\ndpvae ") > 10
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path("codes.npz").is_file()


@each_page
def test_names_of_code_and_tests_exist(page):
    text = page.read_text(encoding="utf-8")
    assert len(NAMED.findall(text)) == text.count(".py::")
    for file, name in NAMED.findall(text):
        path = ROOT / file if file.startswith("tests/") else ROOT / "dpvae_cli" / file
        assert path.is_file(), path
        assert name in defined(path), f"{file} has no {name}"


def defined(path):
    """Return the dotted names of all functions and classes of a module."""
    names = set()

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                names.add(prefix + child.name)
                visit(child, f"{prefix}{child.name}.")

    visit(ast.parse(path.read_text(encoding="utf-8")), "")
    return names


def test_every_numbered_equation_has_a_row():
    page = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    found = re.findall(r"\((\d+)\)(?:-\((\d+)\))?", rows)
    numbers = {n for first, last in found for n in range(int(first), int(last or first) + 1)}
    assert numbers == set(range(1, 34))


def test_a_wrong_name_is_detected():
    here = Path(__file__)
    assert "test_a_wrong_name_is_detected" in defined(here)
    assert "test_another_name" not in defined(here)


NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.md"))
LINKED = [*PAGES, *NOTEBOOKS, ROOT / "CHANGELOG.md"]


def targets(page):
    """Return the relative targets of links and images, outside code blocks."""
    text = "".join(re.split(r"^```.*?^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S))
    text = re.sub(r"`[^`\n]*`", "", text)
    found = [*LINK.findall(text), *SHOWN.findall(text), *REFERENCE.findall(text)]
    return [target for target in found if "://" not in target and not target.startswith("mailto:")]


@pytest.mark.parametrize("page", LINKED, ids=[page.name for page in LINKED])
def test_links_resolve(page):
    for target in targets(page):
        file, _, anchor = target.partition("#")
        found = (page.parent / file) if file else page
        assert found.exists(), f"{page.name} links to {target}"
        assert found.resolve().is_relative_to(ROOT), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} links to {target}"


def anchors(page):
    """Return the anchors of headings as on GitHub; repeated names have a suffix such as -1."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    found: list[str] = []
    for heading in headings:
        named = re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        again = sum(re.fullmatch(rf"{named}(-\d+)?", other) is not None for other in found)
        found.append(f"{named}-{again}" if again else named)
    return set(found)


def test_figures_open_and_are_used():
    """Every image on a page opens, and every image in docs is on a page."""
    shown = {
        (page.parent / target).resolve()
        for page in LINKED
        for target in targets(page)
        if Path(target).suffix in IMAGE_SUFFIXES
    }
    for path in shown:
        if path.suffix == ".svg":
            ElementTree.parse(path)
        else:
            with Image.open(path) as image:
                image.verify()
    images = {path for path in (ROOT / "docs").rglob("*") if path.suffix in IMAGE_SUFFIXES}
    assert shown >= {path for path in images if ROOT / "docs" / "_build" not in path.parents}


def test_the_picture_of_the_layers_is_current():
    script = ROOT / "docs" / "draw_architecture.py"
    drawn = runpy.run_path(str(script))
    refresh = f"refresh it: python {script.relative_to(ROOT)}"
    assert drawn["FIGURE"].read_text(encoding="utf-8") == drawn["draw"](), refresh


def test_every_page_is_reachable_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        linked = [(page.parent / target.partition("#")[0]).resolve() for target in targets(page)]
        waiting += [path for path in linked if path.suffix == ".md" and path not in reached]
    assert reached >= set(LINKED)


def test_link_targets_and_anchors(tmp_path):
    page = tmp_path / "page.md"
    page.write_text('# A b\n# A b\n[x](a.md#b)\n<img src="p.png">\n`[y](z)`\n[r]: q.md\n')
    assert targets(page) == ["a.md#b", "p.png", "q.md"]
    assert anchors(page) == {"a-b", "a-b-1"}


@each_page
def test_blocks_have_a_language(page):
    assert all(block.language for block in blocks(page))


def test_console_blocks_are_run():
    play_console(
        "dpvae recipes ls\n...\nbeta_h_moons   beta-VAE-H with the decoupled prior on two moons\n"
    )
    play_console("$ dpvae recipes show nothing\nError: ...\n".replace("Error: ...", ERROR))
    with pytest.raises(AssertionError, match="not there"):
        play_console("dpvae recipes ls\nno such recipe\n")
    with pytest.raises(AssertionError, match="nothing"):
        play_console("dpvae recipes show nothing\n")
    with pytest.raises(AssertionError, match="without a command"):
        play_console("ls\n")


ERROR = "Error: nothing: there is no packaged recipe of that name"


def test_expected_lines_are_in_order():
    look_for(["a", "...", "c"], "a\nb\nc\n")
    with pytest.raises(AssertionError):
        look_for(["c", "a"], "a\nb\nc\n")

"""Every page's code runs, its names exist, and its links lead somewhere."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import CLI_PAGE, PAGES, ROOT, blocks, look_for, play, play_console

IDS = [page.name for page in PAGES]
each_page = pytest.mark.parametrize("page", PAGES, ids=IDS)
NAMED = re.compile(r"`([\w/]+\.py)::([\w.]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(autouse=True)
def _no_data_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DPVAE_DATA", raising=False)


@each_page
def test_code_runs(page):
    play(page)
    listed = CLI_PAGE.read_text(encoding="utf-8")
    left = {path.name for path in Path().glob("runs/*/*") if not path.is_symlink()}
    assert not {name for name in left if f"`{name}`" not in listed}, "docs/cli.md lists them all"


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


def test_every_numbered_equation_has_its_row():
    page = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    found = re.findall(r"\((\d+)\)(?:-\((\d+)\))?", rows)
    numbers = {n for first, last in found for n in range(int(first), int(last or first) + 1)}
    assert numbers == set(range(1, 34))


def test_a_wrong_name_would_be_noticed():
    here = Path(__file__)
    assert "test_a_wrong_name_would_be_noticed" in defined(here)
    assert "test_another_name" not in defined(here)


@each_page
def test_links_lead_somewhere(page):
    text = "".join(re.split(r"^```.*?^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S))
    for target in LINK.findall(text):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = (page.parent / file) if file else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} links to {target}"


def anchors(page):
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@each_page
def test_blocks_have_a_language(page):
    assert all(block.language for block in blocks(page))


def test_console_blocks_are_really_run():
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


def test_lines_are_looked_for_in_order():
    look_for(["a", "...", "c"], "a\nb\nc\n")
    with pytest.raises(AssertionError):
        look_for(["c", "a"], "a\nb\nc\n")

"""Configuration of the documentation site: `make docs`."""

import os
import re
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes

import dpvae_cli

DOCS = Path(__file__).parent
GENERATED = DOCS / "generated"

project = "dpvae"
author = copyright = "The dpvae developers"
version = release = dpvae_cli.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "results"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 1_200
nb_execution_in_temp = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
copybutton_prompt_text = "$ "
# inventories need the network; the workflow that publishes the site asks for them
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }
    if os.environ.get("DPVAE_INTERSPHINX")
    else {}
)
suppress_warnings = [
    "myst.xref_missing",  # links to files outside docs/, which tests/docs checks
    "misc.highlighting_failure",
    "myst-nb.lexer",  # cells of notebooks that were not run
]

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"dpvae {version}"
html_static_path = ["site"]
html_css_files = ["site.css"]


def write_command_reference() -> None:
    """Write the reference of all commands from the command line itself."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "dpvae_cli.cli.app",
        "utils",
        "docs",
        "--name",
        "dpvae",
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = re.sub(r"^# `dpvae`", "# Command reference", text)
    text = re.sub(r"^Examples:\n((?:  .*\n?)+)", _example_block, text, flags=re.M)
    GENERATED.mkdir(exist_ok=True)
    (GENERATED / "commands.md").write_text(text, encoding="utf-8")


def _example_block(match: re.Match[str]) -> str:
    lines = "\n".join(line.strip() for line in match[1].splitlines())
    return f"**Examples**:\n\n```sh\n{lines}\n```\n"


def write_api_reference() -> None:
    """Write a page with every public name."""
    groups: dict[str, list[str]] = {}
    for name in dpvae_cli.__all__:
        if name != "__version__":
            groups.setdefault(getattr(dpvae_cli, name).__module__, []).append(name)
    lines = ["# Python reference", "", "Everything here is importable from `dpvae_cli`.", ""]
    for module, names in sorted(groups.items()):
        lines += [f"## {module.removeprefix('dpvae_cli.')}", ""]
        for name in names:
            kind = "class" if isinstance(getattr(dpvae_cli, name), type) else "function"
            options = "   :members:\n   :exclude-members: model_config\n" if kind == "class" else ""
            lines += [f"```{{eval-rst}}\n.. auto{kind}:: {module}.{name}\n{options}```", ""]
    (GENERATED / "api.md").write_text("\n".join(lines), encoding="utf-8")


def plain_docstring(_app, _what, _name, _object, _options, lines: list[str]) -> None:
    """Read a docstring's `code` and |x| as they stand, not as reStructuredText."""
    for i, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [part.replace("|", r"\|").replace("*", r"\*") for part in parts[::2]]
        lines[i] = "``".join(parts)


def plain_annotations(_app, doctree) -> None:
    """Show `int`, not `Annotated[int, FieldInfo(...)]`; the recipes have the limits."""
    for node in doctree.findall(addnodes.desc_annotation):
        text = node.astext()
        if "Annotated[" in text:
            node.children = [nodes.Text(_without_metadata(text))]


def _without_metadata(annotation: str) -> str:
    before, found, rest = annotation.partition("Annotated[")
    if not found:
        return annotation
    depth, ends = 0, []
    for i, character in enumerate(rest):
        if depth == 0 and character in ",]":
            ends.append(i)
            if character == "]":
                break
        depth += (character in "[(") - (character in ")]")
    return before + _without_metadata(rest[: ends[0]]) + _without_metadata(rest[ends[-1] + 1 :])


def visit_math(translator, node) -> None:
    """Write a formula as MathML, which browsers draw without a script or the network."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    translator.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app) -> None:
    """Write the generated pages, and prepare docstrings before Napoleon reads them."""
    write_command_reference()
    write_api_reference()
    renderers = (visit_math, None)
    app.add_html_math_renderer("mathml", inline_renderers=renderers, block_renderers=renderers)
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)
    app.connect("doctree-read", plain_annotations)

"""Draw docs/figures/architecture.svg: the layers of pyproject.toml and the path of one run.

python docs/draw_architecture.py
"""

import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs" / "figures" / "architecture.svg"
WIDTH, ROW, MARGIN = 860, 34, 20
PATH = (
    (("recipe.yaml", "overrides"), "load_recipe"),
    (("Recipe", "frozen"), "data.load, model.build"),
    (("Dataset, VAE",), "training.train"),
    (("run folder", "checkpoint.pt"), "evaluation, sampling"),
    (("metrics.json", "samples.npz"), "plotting, pages"),
    (("figures", "reports"), ""),
)
"""What one run leaves at each stage, and what makes the next one of it."""


def layers() -> list[list[str]]:
    """Return the packages of each layer, the highest layer first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (rows,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.removeprefix("dpvae_cli.") for name in row.split(" | ")] for row in rows]


def box(x: float, y: float, width: float, height: float, *lines: str, style: str = "") -> str:
    """Return a rectangle with centred lines of text."""
    middle = y + height / 2 + 5 - 8 * (len(lines) - 1)
    texts = "".join(
        f'<text x="{x + width / 2:.0f}" y="{middle + 16 * i:.0f}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    shape = f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="5"/>'
    return f'<g class="{style}">{shape}{texts}</g>'


def draw() -> str:
    """Return the picture."""
    rows = layers()
    parts = []
    for i, row in enumerate(rows):
        width = (WIDTH - 2 * MARGIN - 6 * (len(row) - 1)) / len(row)
        parts += [
            box(MARGIN + j * (width + 6), MARGIN + i * ROW, width, ROW - 6, name)
            for j, name in enumerate(row)
        ]
    top = MARGIN + len(rows) * ROW + 60
    parts.append(f'<text x="{MARGIN}" y="{top - 24}" class="title">the path of one run</text>')
    step = (WIDTH - 2 * MARGIN + 24) / len(PATH)
    for i, (lines, verb) in enumerate(PATH):
        x = MARGIN + i * step
        parts.append(box(x, top, step - 24, 52, *lines, style="state"))
        if verb:
            end = x + step - 3
            parts.append(f'<path d="M{end - 20:.0f} {top + 26} H{end:.0f}"/>')
            words = verb.split(", ")
            parts += [
                f'<text x="{end - 10:.0f}" y="{top + 72 + 15 * k}" class="verb">{word}</text>'
                for k, word in enumerate(words)
            ]
    height = top + 110
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">
<title>The layers of dpvae_cli, and the path of one run</title>
<style>
  svg {{ background: #fff; font: 13px sans-serif; }}
  text {{ text-anchor: middle; fill: #1d2125; }}
  rect {{ fill: #e8f0f7; stroke: #00558c; }}
  .state rect {{ fill: #fdf3e3; stroke: #b36b00; }}
  path {{ stroke: #1d2125; fill: none; marker-end: url(#head); }}
  .title {{ text-anchor: start; font-weight: bold; }}
  .verb {{ font: italic 12px sans-serif; fill: #52585e; }}
</style>
<marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">
<path d="M1 1 L7 4 L1 7" style="marker-end: none"/></marker>
{"".join(f"{part}{chr(10)}" for part in parts)}</svg>
"""


if __name__ == "__main__":
    FIGURE.write_text(draw(), encoding="utf-8")

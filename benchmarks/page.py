"""Generate the tables and the figure of docs/performance.md from the newest results.

    python -m benchmarks.page

The text of the page is written by hand; the part between its two markers is generated.
"""

import argparse
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes

from benchmarks import growth, results
from benchmarks.__main__ import NAMES, devices
from benchmarks.measure import Ratio
from dpvae_cli.foundation.files import write_text
from dpvae_cli.foundation.text import replace_between
from dpvae_cli.plotting import style

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
FIGURE = Path("figures") / "growth.png"
CAPTION = (
    "Measured cost against size; the grey line is the cost of the arithmetic; "
    "the fitted exponents are in the titles"
)
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
NOT_YET = "not yet measured"
COLUMNS = 4
EXPONENTS = {axis.name: axis.exponent for axis in growth.AXES}
HEADINGS = {"cpu": "On a CPU", "gpu": "On a GPU"}
Record = dict[str, Any] | None
Results = dict[str, Any] | None


def update_page(page: str, found: dict[str, Results]) -> str:
    """Return the page with the part between its markers replaced."""
    sections = "\n\n".join(section(kind, found[kind]) for kind in HEADINGS)
    return replace_between(page, BEGIN, END, sections)


def section(kind: str, found: Results) -> str:
    """Return the section for one kind of device."""
    entries = {} if found is None else found["benchmarks"]
    parts = [f"## {HEADINGS[kind]}", circumstances(entries), *tables(rows(kind, entries))]
    if entries:
        parts += ["### Absolute values", figures(entries)]
    if kind == "cpu" and "growth" in entries:
        parts.append(f"![{CAPTION}]({FIGURE})")
    return "\n\n".join(parts)


def rows(kind: str, entries: dict[str, Any]) -> list[tuple[Ratio, Record]]:
    """Return the ratios for a kind of device, with their records if measured.

    For the CPU these are all ratios; for the GPU those that need one, and those measured on one.
    """
    found = []
    for name in NAMES:
        module = import_module(f"benchmarks.{name}")
        known = records(entries, name)
        everything = devices(module) == ("cuda",) if kind == "gpu" else "cpu" in devices(module)
        for ratio in (ratio for ratios in module.RATIOS.values() for ratio in ratios):
            if everything or ratio.what in known:
                found.append((ratio, known.get(ratio.what)))
    return found


def records(entries: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the record of each ratio of a benchmark."""
    trials = entries.get(name, {"trials": []})["trials"]
    return {record["what"]: record for trial in trials for record in trial["ratios"]}


def circumstances(entries: dict[str, Any]) -> str:
    """Return a sentence on hardware, versions and rounds; several if they differ."""
    said = dict.fromkeys(sentence(entry) for entry in entries.values())
    return " ".join(said) or f"{NOT_YET.capitalize()}."


def sentence(entry: dict[str, Any]) -> str:
    hardware, versions = entry["hardware"], entry["versions"]
    machine = ", ".join(filter(None, (hardware.get("gpu"), hardware["cpu"])))
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{machine}, {hardware['cores']} cores, {entry['threads']} threads; {entry['rounds']} "
        f"rounds on {entry['began'].split()[0]}; {shown}."
    )


def tables(found: list[tuple[Ratio, Record]]) -> list[str]:
    """Return a table of the ratios with a target, and one of those without."""
    aimed = [
        f"| {ratio.what} | {ratio.target} | {measured(record)} | {verdict(record)} |"
        for ratio, record in found
        if ratio.target != "-"
    ]
    other = [
        f"| {ratio.what} | {measured(record)} |" for ratio, record in found if ratio.target == "-"
    ]
    heads = (
        "| ratio | target | measured | |\n|---|---|---|---|",
        "| value | measured |\n|---|---|",
    )
    return [
        "\n".join([head, *lines])
        for head, lines in zip(heads, (aimed, other), strict=True)
        if lines
    ]


def measured(record: Record) -> str:
    if record is None:
        return NOT_YET
    if record["median"] is None:
        return f"not measured: {record['absent']}"
    return results.spread(record)


def verdict(record: Record) -> str:
    return "" if record is None else results.VERDICTS[record["met"]]


def figures(entries: dict[str, Any]) -> str:
    """Return the table of medians of all variants."""
    lines = ["| benchmark | variant | median |", "|---|---|---|"]
    for name, entry in entries.items():
        for trial in entry["trials"]:
            lines += [
                f"| {name}, {trial['name']} | {who} | {amount(median(values), trial['unit'])} |"
                for who, values in trial["contestants"].items()
            ]
    return "\n".join(lines)


def amount(value: float, unit: str) -> str:
    """Return a value in a readable unit."""
    base, _, rest = unit.partition(" ")
    if base == "s":
        base, factor = next(
            (u, f) for u, f in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if value * f >= 1 or f == 1e6
        )
        value *= factor
    return f"{value:.3g} {base} {rest}".strip()


@style.house_style()
def draw(entry: dict[str, Any], path: Path) -> None:
    """Plot cost relative to the smallest size, one panel per axis."""
    trials = entry["trials"]
    count = -(-len(trials) // COLUMNS)
    figure = style.new_figure(style.DOUBLE_COLUMN, 1.6 * count)
    panels = figure.subplots(count, COLUMNS, squeeze=False).ravel()
    for axes, trial in zip(panels, trials, strict=False):
        panel(axes, trial)
    for axes in panels[len(trials) :]:
        axes.set_axis_off()
    figure.supylabel("times the cost of the smallest")
    style.save(figure, path)


def panel(axes: Axes, trial: dict[str, Any]) -> None:
    """Plot one axis: medians, and a grey line with the exponent of the arithmetic."""
    costs = {int(size): median(values) for size, values in trial["contestants"].items()}
    sizes, least = list(costs), min(costs)
    arithmetic = [(size / least) ** EXPONENTS.get(trial["name"], 1) for size in sizes]
    axes.loglog(sizes, arithmetic, color=style.LIGHT_GREY)
    axes.loglog(sizes, [cost / costs[least] for cost in costs.values()], "o", color=style.BLUE)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
    axes.set_yticks(arithmetic, [f"{times:g}" for times in arithmetic])
    axes.minorticks_off()
    cost, _, size = trial["name"].partition(" with ")
    axes.set(title=f"{cost}: {growth.slope(costs):.2f}", xlabel=size)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.page", description=__doc__)
    parser.add_argument("--results", type=Path, default=results.FOLDER)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    found = {kind: results.newest(given.results, kind) for kind in HEADINGS}
    write_text(given.page, update_page(given.page.read_text(encoding="utf-8"), found))
    if found["cpu"] and "growth" in found["cpu"]["benchmarks"]:
        draw(found["cpu"]["benchmarks"]["growth"], given.page.parent / FIGURE)


if __name__ == "__main__":
    main()

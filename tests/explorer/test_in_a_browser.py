"""The page in a headless Chromium: what one drags is what the package computes.

Skips where there is no Chromium. No test may leave an error in the console, or a request.
"""

import json

import pytest
import torch

from dpvae_cli.explorer import content as contents
from dpvae_cli.explorer.page import explore_page
from dpvae_cli.exporter import ExportError
from dpvae_cli.runs.loaded_run import load_run
from dpvae_cli.sampling.traversal import line

POINT = "([name, space]) => [...explore.views[0].points[name][space]]"
PLACE = """([name, space]) => {
  const view = explore.views[0], [s, t] = view.planes[space].share(view.points[name][space]);
  const box = view.section.querySelector(`[data-panel="${space}"]`).getBoundingClientRect();
  return [box.left + 1 + s * (box.width - 2), box.top + 1 + (1 - t) * (box.height - 2)];
}"""
LINE = """(space) => {
  const view = explore.views[0], { z0 } = view.path[space];
  const share = (i) => [...view.planes.z0.share(z0.subarray(2 * i, 2 * i + 2))];
  return Array.from({ length: 201 }, (_, i) => share(i));
}"""


def wait_until(tab, condition, *, seconds=30):
    """Wait for a condition; the page's policy forbids the evaluation of wait_for_function."""
    for _ in range(20 * seconds):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(condition)


def lowest_log_q(runs, tab, space):
    """Return what `dpvae traverse` gives for the ends that the page has."""
    run = load_run(runs / "decoupled")
    start, end = (torch.tensor([tab.evaluate(POINT, [name, "z"])]) for name in ("A", "B"))
    path = line(run.model, run.encoded.aggregate_posterior(), start, end, space=space, steps=11)
    return path.lowest_log_q


def check_path(runs, tab):
    for space in ("z", "z0"):
        expected = lowest_log_q(runs, tab, space)
        measured = tab.evaluate("(space) => explore.views[0].path[space].lowestLogQ", space)
        assert measured == pytest.approx(expected, abs=1e-3)
        shown = tab.locator(f'[data-part="lowest-{space}"]').inner_text().replace("−", "-")
        assert float(shown) == pytest.approx(expected, abs=6e-3)
    first, *_, last = points = tab.evaluate(LINE, "z0")
    for i, (x, y) in enumerate(points):
        assert x == pytest.approx(first[0] + i / 200 * (last[0] - first[0]), abs=1e-5)
        assert y == pytest.approx(first[1] + i / 200 * (last[1] - first[1]), abs=1e-5)


def test_a_point_is_dragged_with_the_pointer(page, runs, opened):
    tab = opened(page)
    x, y = tab.evaluate(PLACE, ["A", "z0"])
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 60, y + 40, steps=6)
    tab.mouse.up()
    tab.wait_for_timeout(400)
    moved = tab.evaluate(PLACE, ["A", "z0"])
    assert moved == pytest.approx([x + 60, y + 40], abs=0.6)
    check_path(runs, tab)
    fragment = tab.evaluate("location.hash")
    again = opened(page, fragment=fragment)
    assert again.evaluate(POINT, ["A", "z"]) == pytest.approx(
        tab.evaluate(POINT, ["A", "z"]), abs=1e-5
    )


def test_a_path_that_takes_long_is_rough_only_while_points_move(page, runs, opened):
    tab = opened(page)
    is_rough = tab.evaluate("""async () => {
      const [view] = explore.views, z = Float64Array.from(view.points.A.z, (x) => x + 0.05);
      view.pathTime = 1e6;
      await explore.move(view, 'A', 'z', z);
      return view.path.z.logQ.length < 201;
    }""")
    assert is_rough
    wait_until(tab, "explore.views[0].path.z.logQ.length === 201")
    check_path(runs, tab)


def test_the_keyboard_alone_does_the_same(page, runs, opened):
    tab = opened(page)
    before = tab.evaluate(PLACE, ["A", "z0"])
    canvas = tab.locator('[data-panel="z0"]')
    for _ in range(30):
        tab.keyboard.press("Tab")
        if canvas.evaluate("(element) => element === document.activeElement"):
            break
    for key in ("a", "Shift+ArrowRight", "ArrowDown", "ArrowDown"):
        tab.keyboard.press(key)
        tab.wait_for_timeout(100)
    tab.wait_for_timeout(300)
    side = canvas.evaluate("(element) => element.clientWidth")
    expected = [before[0] + 0.1 * side, before[1] + 0.02 * side]
    assert tab.evaluate(PLACE, ["A", "z0"]) == pytest.approx(expected, abs=0.1)
    check_path(runs, tab)
    tab.keyboard.press("s")
    tab.wait_for_timeout(200)
    assert tab.locator('[data-part="where"]').inner_text()


def test_the_density_is_that_of_the_package(page, runs, opened):
    tab = opened(page)
    aggregate = load_run(runs / "decoupled").encoded.aggregate_posterior()
    z = aggregate.sample(100, generator=torch.Generator().manual_seed(0)) * 1.7
    computed = tab.evaluate(
        "(z) => [...explore.views[0].aggregate.logProbs(Float64Array.from(z))]",
        z.flatten().tolist(),
    )
    torch.testing.assert_close(
        torch.tensor(computed, dtype=torch.float64), aggregate.log_prob(z), atol=1e-3, rtol=0
    )


def test_controls_do_what_they_say(page, opened):
    tab = opened(page)
    tab.fill("#example-B", "3")
    tab.keyboard.press("Tab")
    tab.wait_for_timeout(300)
    ends = [tab.input_value(f"#example-{name}") for name in "AB"]
    assert ends[1] == "3"
    assert tab.locator("#command").inner_text() == (
        f"dpvae traverse decoupled --between {' '.join(ends)} --space both"
    )
    tab.fill("#code-A", "0.25, -0.5")
    tab.keyboard.press("Tab")
    tab.wait_for_timeout(300)
    assert tab.evaluate(POINT, ["A", "z"]) == [0.25, -0.5]
    tab.select_option('[data-option="shade"]', "prior")
    tab.check('[data-option="low"]')
    tab.select_option('[data-option="colour"]', "label")
    assert tab.locator("#legend").inner_text().split() == ["0", "1"]
    tab.click("#select")
    box = tab.locator('[data-panel="z"]').bounding_box()
    tab.mouse.move(box["x"] + 5, box["y"] + 5)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5, steps=3)
    tab.mouse.up()
    tab.wait_for_timeout(300)
    assert "selected codes" in tab.locator('[data-part="shown"]').inner_text()


def test_a_phone_needs_no_sideways_scrolling(page, opened, tmp_path):
    tab = opened(page, width=360)
    tab.screenshot(path=str(tmp_path / "phone.png"), full_page=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def check_slices(tab):
    """A plane that is chosen while a point moves arrives with its map, in both spaces."""
    tab.evaluate("""() => {
      const [view] = explore.views, point = Float64Array.from(view.points.probe.z, (x) => x + 0.1);
      explore.move(view, 'probe', 'z', point);
      explore.choose('plane', 'components');
    }""")
    view = "explore.views[0]"
    wait_until(
        tab, f"{view}.spaces.every((space) => {view}.planes[space].names[0] === 'component 1')"
    )
    map_error = """(space) => {
      const [view] = explore.views, plane = view.planes[space], map = view.maps[space];
      const z = plane.point([0.5 / map.cells, 0.5 / map.cells]);
      return Math.abs(map.logQ[0] - view.fewer.logProb(z));
    }"""
    assert tab.evaluate(map_error, "z") < 1e-3
    assert "After a move" in tab.locator('[data-part="slice-note"]').inner_text()


def test_every_kind_of_page_opens(runs, opened, monkeypatch):
    """Four dimensions, twins of which one has no z0, and a model that cannot be exported."""
    deep, decoupled, mixture = (load_run(runs / name) for name in ("deep", "decoupled", "mixture"))
    written = {
        "deep": explore_page([deep], names=["deep"])[0],
        "twins": explore_page([decoupled, mixture], names=["decoupled", "mixture"])[0],
    }

    def fail(model):
        raise ExportError("torch cannot export Mine")

    monkeypatch.setattr(contents, "pack_graphs", fail)
    written["pictures"] = explore_page([decoupled], names=["decoupled"])[0]
    for name, text in written.items():
        path = runs / f"{name}.html"
        path.write_text(text, encoding="utf-8")
        tab = opened(path)
        tab.wait_for_timeout(300)
        state = json.dumps(tab.evaluate("explore.views.map((view) => view.points.probe.logQ)"))
        assert "null" not in state
        if name == "deep":
            check_slices(tab)
        if name == "twins":
            tab.fill("#example-A", "5")
            tab.keyboard.press("Tab")
            example = "explore.views.map((view) => view.nearestExample(view.points.A.z))"
            wait_until(tab, f"{example}.join() === '5,5'")

# SPDX-License-Identifier: MIT
"""How the page looks: pictures for people in build/page, and what can be measured of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.page.conftest import PICTURES, STATES, unlock

Visit = Callable[..., Any]
WIDTHS = {"phone": 360, "desktop": 1280}
SAYS = {
    "healthy": "All stages work",
    "redis-down": "Redis is away: records wait, questions fail",
    "spool-filling": "Redis is away: records wait, questions fail",
}
_CONTRAST = """
([selector, property]) => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3)
    .map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((channels(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll(selector)].map((element) => {
    const [one, other] = [light(getComputedStyle(element)[property]), light(ground(element.parentElement))];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  });
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
@pytest.mark.parametrize("state", STATES)
def test_picture(sites: dict[str, Any], visit: Visit, state: str, device: str, scheme: str) -> None:
    page = visit(sites[state].url, scheme=scheme, width=WIDTHS[device])
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{state}-{device}-{scheme}.png", full_page=True)
    assert page.get_by_role("heading", level=1).inner_text() == SAYS[state]
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device]
    if state == "spool-filling":
        assert re.search(r"Fills: what waits takes \d\d% of spool.max_bytes.", page.locator("#stages").inner_text())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
def test_picture_of_search_and_report(sites: dict[str, Any], visit: Visit, device: str, scheme: str) -> None:
    page = visit(sites["healthy"].url, scheme=scheme, width=WIDTHS[device])
    unlock(page)
    page.get_by_role("button", name="Search").click()
    page.locator("#search .rows").wait_for()
    page.locator("#report select").first.select_option("account")
    page.get_by_role("button", name="Count").click()
    page.locator("#report .rows").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device]
    # a screenful of what was found is enough of a picture
    page.evaluate("document.querySelectorAll('#search tbody tr').forEach((row, at) => at > 7 && row.remove())")
    page.screenshot(path=PICTURES / f"jobs-{device}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_axe_does_not_measure_has_contrast(sites: dict[str, Any], visit: Visit, scheme: str) -> None:
    """WCAG 2: 4.5 for text, 3 for what carries meaning."""
    page = visit(sites["redis-down"].url, scheme=scheme)
    for selector, what, least in (
        (".plot text", "fill", 4.5),
        (".plot .line", "stroke", 3),
        (".plot .axis", "stroke", 3),
        (".sign", "color", 3),
        ("input", "borderTopColor", 3),
        (".state", "color", 4.5),
    ):
        ratios = page.evaluate(_CONTRAST, [selector, what])
        assert ratios, selector
        assert min(ratios) >= least, (selector, min(ratios))


def test_plots_have_axes_units_and_the_last_value(sites: dict[str, Any], visit: Visit) -> None:
    page = visit(sites["healthy"].url)
    figures = page.locator("figure").all()
    assert len(figures) == 6
    for figure in figures:
        labels = figure.locator("text").all_text_contents()
        clocks = [label for label in labels if re.fullmatch(r"\d\d:(00|15|30|45)", label)]
        values = [label for label in labels if label not in clocks]
        assert len(clocks) >= 3, labels
        assert 2 <= len(values) <= 5, labels
        assert values[0].startswith("0")
        assert figure.locator(".last b").first.inner_text()
        assert figure.locator("path.line").count() >= 1
    assert all("ms" in label for label in figures[4].locator("text").all_text_contents() if ":" not in label)
    # Redis was away for seven minutes: a backlog rose and fell
    document = page.evaluate("fetch('/api/history').then((answer) => answer.json())")
    waiting = [row[document["columns"].index("waiting")] for row in document["rows"]]
    assert max(waiting) > 500
    assert waiting[-1] == 0
    assert len(waiting) > 200


@pytest.mark.parametrize("width", WIDTHS.values())
@pytest.mark.parametrize("most", [0, 0.004, 0.7, 9.99, 99.6, 150, 9_999, 98_765, 123_456, 87_654_321])
def test_labels_fit_beside_a_plot_whatever_its_values(
    sites: dict[str, Any], browser: Any, width: int, most: float
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    columns = ["time", "received_s", "stored_s", "answered_s", "waiting", "oldest_s", "commit_ms", "answer_ms"]
    rows = [[1_700_000_000 + 10 * at, *[most * at / 360] * 7] for at in range(361)]
    document = {"step_s": 10, "columns": columns, "started": 1, "utc_offset_s": 19_800, "next": 361, "rows": rows}
    page.route("**/api/history*", lambda route: route.fulfill(json=document))
    page.goto(sites["healthy"].url)
    page.locator("#plots").wait_for(state="visible")
    labels = page.evaluate(
        """() => [...document.querySelectorAll(".plot text")].map((label) => {
          const [box, plot] = [label, label.ownerSVGElement].map((element) => element.getBoundingClientRect());
          return [label.textContent, box.left - plot.left, plot.right - box.right];
        })"""
    )
    context.close()
    assert len(labels) > 30
    assert not [label for label in labels if label[1] < 0 or label[2] < 0]
    assert not [label for label in labels if "NaN" in label[0] or "undefined" in label[0]]


def test_the_pointer_reads_a_plot(sites: dict[str, Any], visit: Visit) -> None:
    page = visit(sites["healthy"].url)
    figure = page.locator("figure").first
    last = figure.locator(".last").inner_text()
    figure.locator("svg").hover(position={"x": 150, "y": 60})
    assert re.search(r"\d\d:\d\d:\d\d", figure.locator(".last").inner_text())
    assert figure.locator(".cursor").count() == 1
    page.mouse.move(0, 0)
    assert figure.locator(".last").inner_text() == last

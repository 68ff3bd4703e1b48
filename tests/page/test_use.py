# SPDX-License-Identifier: MIT
"""Whether everybody can use the page: with a keyboard, a screen reader, without scripts; and that it stays fresh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.page.conftest import ARGUMENTS, CHROMIUM, unlock

Visit = Callable[..., Any]
_FOCUSED = """
() => {
  const at = document.activeElement;
  const style = getComputedStyle(at);
  const label = at.labels?.[0]?.textContent ?? at.getAttribute("aria-label") ?? at.textContent;
  const box = at.getBoundingClientRect();
  return {
    tag: at.tagName.toLowerCase(), id: at.id, name: label.trim(), outline: parseFloat(style.outlineWidth),
    style: style.outlineStyle, seen: box.bottom > 0 && box.top < innerHeight && box.width > 0,
  };
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("state", ["healthy", "redis-down"])
def test_axe_finds_nothing(sites: dict[str, Any], visit: Visit, state: str, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415

    page = visit(sites[state].url, scheme=scheme, width=width)
    found = Axe().run(page)
    assert found.response["passes"], "axe judged nothing"
    assert found.violations_count == 0, found.generate_report()
    if state == "healthy":
        unlock(page)
        for name in ("Search", "Count"):
            page.get_by_role("button", name=name).click()
        page.locator("#search .rows").wait_for()
        page.locator("#report .rows").wait_for()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def walk(page: Any, most: int = 60) -> list[dict[str, Any]]:
    """What Tab comes to, in order, until it is back at the start."""
    seen = []
    for _ in range(most):
        page.keyboard.press("Tab")
        at = page.evaluate(_FOCUSED)
        if at["tag"] == "body" or (seen and at["name"] == seen[0]["name"] and at["id"] == seen[0]["id"]):
            break
        seen.append(at)
    return seen


def test_a_keyboard_reaches_everything_and_shows_where_it_is(sites: dict[str, Any], visit: Visit) -> None:
    page = visit(sites["healthy"].url)
    stops = walk(page)
    assert stops[0]["name"] == "Skip to the state"
    assert [stop["tag"] for stop in stops].count("svg") == 6
    assert [stop["id"] for stop in stops if stop["tag"] == "input"] == ["token"]
    for stop in stops:
        assert stop["name"], stop
        assert stop["seen"], stop
        assert stop["outline"] >= 2, stop
        assert stop["style"] == "solid", stop


def test_the_skip_link_skips(sites: dict[str, Any], visit: Visit) -> None:
    page = visit(sites["healthy"].url)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_arrow_keys_read_a_plot(sites: dict[str, Any], visit: Visit) -> None:
    page = visit(sites["healthy"].url)
    plot = page.locator("figure svg").nth(1)
    plot.focus()
    texts = [plot.get_attribute("aria-valuetext")]
    for key in ("ArrowLeft", "ArrowLeft", "Home", "End"):
        page.keyboard.press(key)
        texts.append(plot.get_attribute("aria-valuetext"))
    assert len(set(texts[:4])) == 4
    assert texts[4] == texts[0]


def test_a_search_needs_no_mouse(sites: dict[str, Any], visit: Visit) -> None:
    page = visit(sites["healthy"].url)
    page.get_by_label("Token").focus()
    page.keyboard.type("a-token/that+nobody=knows")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'f-jobs'")
    page.keyboard.type("1-3")
    page.keyboard.press("Enter")
    page.locator("#search .rows").wait_for()
    assert page.locator("#search tbody th").all_inner_texts() == ["3", "2", "1"]


def test_without_scripts_the_state_is_there(sites: dict[str, Any], browser: Any) -> None:
    # the driver's own way of turning scripts off keeps what stands in noscript hidden
    plain = browser.browser_type.launch(
        executable_path=CHROMIUM, args=[*ARGUMENTS, "--blink-settings=scriptEnabled=false"]
    )
    try:
        look_without_scripts(plain.new_page(), sites["redis-down"].url)
    finally:
        plain.close()


def look_without_scripts(page: Any, url: str) -> None:
    page.goto(url)
    assert page.get_by_role("heading", level=1).inner_text() == "Redis is away: records wait, questions fail"
    rows = page.locator("#stages tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["Ring", "Spool", "Shipper", "Redis", "Queries"]
    assert page.locator("noscript .banner").is_visible()
    assert not page.locator("#plots").is_visible()
    assert not page.get_by_label("Token").is_visible()


def test_the_page_keeps_itself_fresh_and_says_when_it_can_not(visit: Visit, own_site: Any) -> None:
    page = visit(own_site.url)
    page.clock.install()
    page.reload()
    heading = page.get_by_role("heading", level=1)
    assert heading.inner_text() == "All stages work"
    own_site.redis.kill()
    _until(page, lambda: heading.inner_text().startswith("Redis is away"))
    assert page.title() == "Redis is away: records wait, questions fail · slurmjcd"
    own_site.redis.start()
    _until(page, lambda: heading.inner_text() == "All stages work")
    own_site.daemon.stop()
    _until(page, lambda: page.locator("#stale").is_visible())
    assert "slurmjcd gives no answer" in page.locator("#stale").inner_text()
    own_site.daemon.process.start()
    _until(page, lambda: not page.locator("#stale").is_visible())


def _until(page: Any, condition: Callable[[], bool]) -> None:
    """Let the page's clock go on until something is so."""
    for _ in range(120):
        page.clock.fast_forward(10_500)
        page.wait_for_timeout(250)
        if condition():
            return
    raise TimeoutError(page.content())


def test_names_are_text_whatever_is_in_them(sites: dict[str, Any], visit: Visit) -> None:
    page = visit(sites["healthy"].url)
    unlock(page)
    scripts = page.evaluate("document.scripts.length")
    page.get_by_label("Job name").fill("<script>alert(1)</script>")
    page.get_by_role("button", name="Search").click()
    page.locator("#search .rows").wait_for()
    assert page.locator("#search tbody td:nth-child(2)").first.inner_text() == "<script>alert(1)</script>"
    assert page.evaluate("document.scripts.length") == scripts


def test_a_search_that_makes_no_sense_is_told_beside_it(sites: dict[str, Any], visit: Visit) -> None:
    page = visit(sites["healthy"].url)
    unlock(page)
    page.route("**/api/jobs*", lambda route: route.fulfill(status=400, json={"error": "criterion 'job': not a job id"}))
    page.get_by_label("Job ids").fill("x")
    page.get_by_role("button", name="Search").click()
    alert = page.locator("#search [role=alert]")
    alert.wait_for()
    assert alert.inner_text() == "Criterion 'job': not a job id."


def test_the_token_is_in_this_tab_and_in_headers_only(sites: dict[str, Any], visit: Visit) -> None:
    page = visit(sites["healthy"].url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("Token").fill("not-the-token-at-all")
    page.get_by_role("button", name="Unlock").click()
    page.get_by_text("This is not the token.").wait_for()
    assert page.evaluate("Object.values(sessionStorage)") == []
    unlock(page)
    page.get_by_role("button", name="Search").click()
    page.locator("#search .rows").wait_for()
    assert any("/api/jobs?" in url for url in asked)
    assert not [url for url in asked if "nobody" in url]
    assert page.url == sites["healthy"].url
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert page.evaluate("Object.values(sessionStorage)") == ["a-token/that+nobody=knows"]
    page.reload()
    page.get_by_role("heading", name="Search").wait_for()
    other = page.context.new_page()
    other.goto(sites["healthy"].url)
    other.get_by_label("Token").wait_for()
    page.get_by_role("button", name="Forget the token").click()
    assert page.evaluate("Object.values(sessionStorage)") == []
    assert page.get_by_label("Token").is_visible()


def test_markup_and_scripts_that_come_from_elsewhere_do_nothing(sites: dict[str, Any], browser: Any) -> None:
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(sites["healthy"].url)
        assert page.evaluate(
            """() => {
              const script = document.createElement("script");
              try { script.textContent = "window.ran = true"; document.body.append(script); } catch { }
              let refused = false;
              try { document.body.innerHTML = "<img src=x onerror='window.ran = true'>"; } catch { refused = true; }
              return [refused, window.ran ?? false];
            }"""
        ) == [True, False]
    finally:
        context.close()


@pytest.fixture
def own_site(browser: Any) -> Any:
    """A site that a test may stop."""
    from tests.page.site import running_site  # noqa: PLC0415

    with running_site(hour=True) as site:
        yield site

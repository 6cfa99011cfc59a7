"""How the dashboard looks: no horizontal scroll, numbers that keep their width, contrast, and the README's picture."""

from __future__ import annotations

import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ..conftest import SESSION_LOOP
from ..services import ROOT
from ..support.server import AppServer
from .conftest import DASHBOARD, Opener, View, ask

pytestmark = SESSION_LOOP

PICTURE = ROOT / "docs" / "_static" / "dashboard.png"
UPDATE = "SAMOVAR_UPDATE_PICTURE"
POSTS = [
    ("Copper Heron", "Good morning! Is anybody watching the build machine?"),
    ("Smoky Lapsang", "Yes: the nightly job. It will be quiet in a minute."),
    ("curl", "deploy of api finished in 42 s"),
    ("Golden Teacup", "I cut my line on purpose. Look: nothing missed."),
]
PAGES = ["/", "/poll"]

CONTRAST = """() => {
  const probe = document.body.appendChild(document.createElement("i"));
  const light = name => {
    probe.style.color = `var(${name})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number)
      .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const pairs = [["--ink", "--card"], ["--ink", "--paper"], ["--soft", "--card"], ["--soft", "--paper"],
    ["--copper", "--card"], ["--copper", "--paper"], ["--on-copper", "--copper"], ["--good", "--card"],
    ["--wait", "--card"], ["--bad", "--card"]];
  const found = Object.fromEntries(pairs.map(([a, b]) => [`${a} on ${b}`, ratio(a, b)]));
  probe.remove();
  return found;
}"""

OUTSIDE = """() => [...document.querySelectorAll("body *")]
  .filter(element => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".people, .sr"))
  .map(element => element.outerHTML.slice(0, 80))"""

COPPER = """() => {
  const canvas = document.querySelector("[data-plot=cpu]");
  const dots = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let at = 0; at < dots.length; at += 4) {
    count += dots[at] > 120 && dots[at + 2] < 80 && dots[at + 3] > 200;
  }
  return count;
}"""


@pytest.mark.parametrize("path", PAGES)
async def test_nothing_scrolls_sideways(dashboard: AppServer, open_view: Opener, path: str) -> None:
    await ask(f"{dashboard.url}/feed", form={"text": "m" * 280, "name": "W" * 24})
    view = await open_view(dashboard.url + path)
    await view.has_points(2)
    for width in (320, 360, 768, 1024, 1280):
        await view.page.set_viewport_size({"width": width, "height": 740})
        assert await view.page.evaluate("document.documentElement.scrollWidth") <= width
        assert await view.page.evaluate(OUTSIDE) == [], f"at a width of {width}"


async def test_numbers_that_change_move_nothing(dashboard: AppServer, open_view: Opener) -> None:
    view = await open_view(dashboard.url)
    await view.has_points(2)
    places = await places_of_figures(view)
    await view.page.evaluate(
        "for (const n of document.querySelectorAll('.figure .n')) n.textContent = n.textContent.replace(/\\d/g, '8')"
    )
    assert await places_of_figures(view) == places


async def places_of_figures(view: View) -> list[list[float]]:
    places: list[list[float]] = await view.page.evaluate(
        "[...document.querySelectorAll('.figure, .card')].map(e => e.getBoundingClientRect())"
        ".map(({ left, top, right, bottom }) => [left, top, right, bottom])"
    )
    return places


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_its_ground(dashboard: AppServer, open_view: Opener, scheme: str) -> None:
    view = await open_view(dashboard.url, color_scheme=scheme)
    ratios = await view.page.evaluate(CONTRAST)
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}  # WCAG 2.2, 1.4.3


async def test_the_charts_are_drawn_and_move(dashboard: AppServer, open_view: Opener) -> None:
    view = await open_view(dashboard.url)
    await view.has_points(2)
    drawn = "document.querySelector('[data-plot=cpu]').toDataURL()"
    first = await view.page.evaluate(drawn)
    await view.until(f"(first) => {drawn} !== first", first)
    await view.until(f"({COPPER})() > 20")  # a line of copper, which grows with the points


async def test_the_readmes_picture_can_be_taken(
    serve: Callable[..., Awaitable[AppServer]], open_view: Opener, tmp_path: Path
) -> None:
    """``SAMOVAR_UPDATE_PICTURE=1`` takes a minute, for full charts, and writes ``docs/_static/dashboard.png``."""
    update = bool(os.environ.get(UPDATE))
    server = await serve(DASHBOARD, port=5000 if update else None)
    others = [await open_view(server.url, viewport={"width": 400, "height": 300}) for _ in range(2)]
    view = await open_view(server.url, device_scale_factor=2)
    await view.says("feed", "live")
    await view.has_points(4)
    if update:
        await fill(view, server)
    target = PICTURE if update else tmp_path / "dashboard.png"
    await view.page.screenshot(path=target)
    assert struct.unpack(">II", target.read_bytes()[16:24]) == (2 * 1280, 2 * 860)
    assert len(others) == 2


async def fill(view: View, server: AppServer) -> None:
    """A minute of charts, a few posts, and a cut that was caught up."""
    await view.until("window.dashboard.log.machine.length >= 200", timeout=90)
    await view.page.click("[data-cut]")
    for name, text in POSTS:
        await ask(f"{server.url}/feed", form={"name": name, "text": text})
    await view.says("charts", "nothing missed")
    await view.says("feed", "resumed, 4 posts caught up, nothing missed")
    await view.page.mouse.move(640, 10)
    await view.until("window.dashboard.log.machine.length >= 240", timeout=60)

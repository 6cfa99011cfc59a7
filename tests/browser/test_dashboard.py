"""The dashboard as its visitors see it, in a real browser."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest

from ..conftest import SESSION_LOOP, NginxStarter
from ..support.ports import free_port
from ..support.server import AppServer
from ..support.until import PATIENCE
from .conftest import DASHBOARD, Opener, ask

pytestmark = SESSION_LOOP

PAGES = ["/", "/poll"]
LINES = {"/": ["charts", "feed"], "/poll": ["all"]}


@pytest.mark.parametrize("path", PAGES)
async def test_charts_feed_and_presence_are_live(dashboard: AppServer, open_view: Opener, path: str) -> None:
    view = await open_view(dashboard.url + path)
    for line in LINES[path]:
        await view.says(line, "live")
    await view.has_points(4)
    await view.until("window.dashboard.log.traffic.length >= 1")
    await view.until("document.querySelector('[data-n=people]').textContent === '1'")
    assert float(await view.page.inner_text("[data-n=cpu]")) >= 0
    assert await view.page.locator("[data-people] li.you").count() == 1


async def test_the_page_comes_with_its_history(dashboard: AppServer, open_view: Opener) -> None:
    assert (await ask(f"{dashboard.url}/feed", form={"text": "said before"})).status == 201
    first = await open_view(dashboard.url)
    await first.has_points(3)
    html = (await ask(dashboard.url)).body.decode()
    assert "said before" in html
    assert html.count('"cpu":') >= 3


async def test_a_post_by_curl_and_by_form_is_seen_by_two_pages(
    dashboard: AppServer, open_view: Opener
) -> None:
    one, other = await open_view(dashboard.url), await open_view(f"{dashboard.url}/poll")
    await one.says("feed", "live")
    await other.says("all", "live")
    answer = await ask(f"{dashboard.url}/feed", form={"text": "hello from a shell"})
    assert (answer.status, answer.json()["name"]) == (201, "curl")
    await one.page.fill("#text", "hello from a page")
    await one.page.press("#text", "Enter")
    for view in (one, other):
        await view.until("window.dashboard.log.feed.length === 2")
        texts = await view.page.locator("[data-posts] li p").all_inner_texts()
        assert texts[1] == "curl hello from a shell"
        assert texts[0].endswith("hello from a page")
    assert await one.page.input_value("#text") == ""


@pytest.mark.parametrize("path", PAGES)
async def test_what_is_posted_is_shown_as_text(dashboard: AppServer, open_view: Opener, path: str) -> None:
    hostile = '<img src=x onerror="window.hit=1"> {{ 7*7 }} </script>'
    view = await open_view(dashboard.url + path)
    await view.says(LINES[path][-1], "live")
    await ask(f"{dashboard.url}/feed", form={"text": hostile, "name": "<b>eve</b>"})
    await view.until("window.dashboard.log.feed.length === 1")
    assert await view.page.inner_text("[data-posts] li p") == f"<b>eve</b> {hostile}"
    await view.page.reload()
    assert await view.page.inner_text("[data-posts] li p") == f"<b>eve</b> {hostile}"
    assert await view.page.evaluate("window.hit") is None


async def test_a_new_name_is_told_to_everybody(dashboard: AppServer, open_view: Opener) -> None:
    one, other = await open_view(dashboard.url), await open_view(dashboard.url)
    for view in (one, other):
        await view.until("document.querySelectorAll('[data-people] li').length === 2")
    await one.page.click(".me summary")
    await one.page.fill("#name", "Anna of the Hills")
    await one.page.press("#name", "Enter")
    for view in (one, other):
        await view.page.get_by_text("is now called Anna of the Hills").wait_for()
        await view.page.locator("[data-people] li", has_text="Anna of the Hills").wait_for()
        assert await view.page.locator("[data-people] li").count() == 2
    await one.page.fill("#text", "it is me")
    await one.page.press("#text", "Enter")
    await other.page.get_by_text("Anna of the Hills it is me").wait_for()


async def test_somebody_who_leaves_is_gone_from_the_others(
    serve: Callable[..., Awaitable[AppServer]], open_view: Opener
) -> None:
    server = await serve(DASHBOARD, env={"SAMOVAR_PRESENCE_GRACE": "0.5"})
    one, other = await open_view(server.url), await open_view(server.url)
    await one.until("document.querySelector('[data-n=people]').textContent === '2'")
    await other.page.close()
    await one.until("document.querySelector('[data-n=people]').textContent === '1'")


async def test_the_cut_button_shows_what_a_cut_does(dashboard: AppServer, open_view: Opener) -> None:
    view = await open_view(dashboard.url)
    await view.has_points(2)
    await view.page.evaluate("document.querySelector('[data-cut]').dataset.cut = 1")
    await view.page.click("[data-cut]")
    await view.says("charts", "cut off")
    await view.says("charts", "caught up, nothing missed")
    await view.says("feed", "resumed, 0 posts caught up, nothing missed")


async def test_without_scripts_the_feed_works_by_its_forms(dashboard: AppServer, open_view: Opener) -> None:
    view = await open_view(dashboard.url, java_script_enabled=False)
    await view.page.fill("#text", "plain old form")
    await view.page.click("[data-say] button")
    assert (await view.page.inner_text("[data-posts] li p")).endswith("plain old form")
    assert view.page.url == f"{dashboard.url}/"


async def test_a_new_life_of_the_server_is_a_gap_that_is_told(
    serve: Callable[..., Awaitable[AppServer]], open_view: Opener
) -> None:
    port = free_port()
    server = await serve(DASHBOARD, port=port)
    view = await open_view(server.url)
    await view.has_points(2)
    await view.says("feed", "live")
    await asyncio.to_thread(server.stop)
    await serve(DASHBOARD, port=port)
    await view.says("charts", "gap: an unknown number of points missing")
    await view.says("feed", "gap: an unknown number of posts missing")
    count = len(await view.received("machine"))
    await view.has_points(count + 2)


async def test_behind_a_bare_proxy_everything_comes_by_another_door(
    dashboard: AppServer, open_view: Opener, nginx: NginxStarter
) -> None:
    proxy = nginx.bare(dashboard.port)
    view = await open_view(proxy.url)
    await view.says("charts", "live")
    await view.says("feed", "live")
    assert await view.page.inner_text("[data-line=feed] [data-door]") != "Websocket"
    await view.has_points(2)
    await ask(f"{dashboard.url}/feed", form={"text": "through the proxy"})
    await view.page.get_by_text("through the proxy").wait_for()
    await view.until("document.querySelector('[data-n=people]').textContent === '1'")


@pytest.mark.parametrize("server", ["hypercorn", "uvicorn"])
async def test_ctrl_c_with_browsers_connected_ends(
    serve: Callable[..., Awaitable[AppServer]], open_view: Opener, server: str
) -> None:
    dashboard = await serve(DASHBOARD, arguments=["--server", server])
    for path in (*PAGES, "/"):
        await (await open_view(dashboard.url + path)).has_points(1)
    dashboard.process.signal(signal.SIGINT)
    code = await asyncio.to_thread(dashboard.process.wait, PATIENCE)
    output = dashboard.output()
    assert code in (0, 130, -signal.SIGINT), output
    assert "Traceback" not in output

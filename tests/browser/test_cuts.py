"""The line is cut for real, by a proxy that resets connections, while points and posts keep coming.

Afterwards what each page has handled is exactly what the server's history says: nothing lost, nothing doubled, in
order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from ..conftest import SESSION_LOOP
from ..support.proxy import Proxy
from ..support.server import AppServer
from ..support.until import until, until_async
from .conftest import Opener, View, ask, history

pytestmark = SESSION_LOOP


@dataclass(frozen=True)
class Door:
    """One way in: the page and the line that uses it, the channels that come by it, and what the chip calls it."""

    path: str
    line: str
    channels: tuple[str, ...]
    name: str


DOORS = {
    "sse": Door("/", "charts", ("machine", "traffic"), "Server-sent events"),
    "websocket": Door("/", "feed", ("feed",), "Websocket"),
    "long-poll": Door("/poll", "all", ("machine", "traffic", "feed"), "Long-poll"),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())
async def test_a_cut_loses_and_doubles_nothing(
    door: Door, dashboard: AppServer, open_view: Opener, tcp_proxy: Callable[[int], Awaitable[Proxy]]
) -> None:
    proxy = await tcp_proxy(dashboard.port)
    view = await open_view(f"http://127.0.0.1:{proxy.port}{door.path}")
    await view.says(door.line, "live")
    assert await view.page.inner_text(f"[data-line={door.line}] [data-door]") == door.name
    await view.has_points(2)
    for _ in range(
        3
    ):  # a slow machine may come back by the next door: two tries without a word are one too many
        before = await post(dashboard, 3)
        await view.has_received("feed", before[-1])
        during = await cut(proxy, dashboard)
        await view.says(door.line, "caught up, nothing missed")
        after = await post(dashboard, 3)
        for id in (*during, *after):
            await view.has_received("feed", id)
    for channel in door.channels:
        await nothing_lost_or_doubled(view, dashboard, channel)


async def cut(proxy: Proxy, server: AppServer) -> list[str]:
    """Reset every connection and let none in while posts and points go on; returns the ids of the posts."""
    proxy.refuse()
    proxy.cut()
    ids = await post(server, 5)
    head = (await ask(f"{server.url}/history/machine")).json()["cursor"]

    async def points_went_on() -> bool:
        body = (await ask(f"{server.url}/history/machine?since={head}")).json()
        return len(body["messages"]) >= 4

    await until_async(points_went_on, "a second of points while the line is cut")
    ids += await post(server, 2)
    proxy.restore()
    return ids


async def post(server: AppServer, count: int) -> list[str]:
    """Post to the server itself, past the proxy."""
    answers = [await ask(f"{server.url}/feed", form={"text": f"post {number}"}) for number in range(count)]
    return [answer.json()["id"] for answer in answers]


async def nothing_lost_or_doubled(view: View, server: AppServer, channel: str) -> None:
    received = await view.received(channel)
    kept = await history(server, channel, await view.since(channel))
    assert received == kept[: len(received)]
    assert len(received) >= 3


async def test_a_cut_in_the_middle_of_a_burst_loses_nothing(
    dashboard: AppServer, open_view: Opener, tcp_proxy: Callable[[int], Awaitable[Proxy]]
) -> None:
    proxy = await tcp_proxy(dashboard.port)
    views = [await open_view(f"http://127.0.0.1:{proxy.port}{path}") for path in ("/", "/poll")]
    await views[0].says("feed", "live")
    await views[1].says("all", "live")
    burst = asyncio.gather(*(post(dashboard, 10) for _ in range(10)))
    for _ in range(3):
        await cut_and_return(proxy)
    ids = {id for some in await burst for id in some}
    kept = await history(dashboard, "feed", await views[0].since("feed"))
    assert set(kept) == ids
    for view in views:
        await view.has_received("feed", kept[-1])
        assert await view.received("feed") == kept


async def cut_and_return(proxy: Proxy) -> None:
    """Reset every connection and wait until somebody is back."""
    accepted = proxy.accepted
    proxy.cut()
    await until(lambda: proxy.accepted > accepted, "somebody back after the cut")


HEAR = """() => {
  window.said = [];  // whatever a chip says, however briefly
  for (const chip of document.querySelectorAll("[data-line]")) {
    const hear = (records) => records.forEach(({ addedNodes }) => addedNodes.forEach((node) =>
      window.said.push(`${chip.dataset.line}: ${node.textContent}`)));
    new MutationObserver(hear).observe(chip.querySelector("[data-says]"), { childList: true });
  }
}"""

IMPATIENT_CHARTS = "() => { window.dashboard.lines[0].env.silence = 2; }"
IMPATIENT_FEED = "() => { Object.assign(window.dashboard.lines[1].env, { ping: 0.5, pong: 1.5 }); }"

PATIENT = """() => {
  const [charts, feed] = window.dashboard.lines;
  Object.assign(charts.env, { silence: 30 });
  Object.assign(feed.env, { ping: 20, pong: 10 });
}"""


async def said(view: View, line: str, words: str) -> None:
    """Wait until the chip of *line* has said *words*; it may say something else by now."""
    script = (
        "([line, words]) => window.said.some(text => text.startsWith(`${line}: `) && text.includes(words))"
    )
    await view.until(script, [line, words])


async def test_a_line_that_hangs_half_open_is_noticed_and_opened_anew(
    dashboard: AppServer, open_view: Opener, tcp_proxy: Callable[[int], Awaitable[Proxy]]
) -> None:
    proxy = await tcp_proxy(dashboard.port)
    view = await open_view(f"http://127.0.0.1:{proxy.port}/")
    await view.page.evaluate(HEAR)
    await view.page.evaluate(IMPATIENT_CHARTS)
    await view.has_points(len(await view.received("machine")) + 2)  # the limit holds from the next one on
    await view.page.evaluate(IMPATIENT_FEED)
    (first,) = await post(dashboard, 1)
    await view.has_received("feed", first)
    proxy.stall()
    await said(view, "charts", "cut off: nothing heard for 2 s")
    await said(view, "feed", "cut off: no answer to a ping in 1.5 s")
    (during,) = await post(dashboard, 1)
    await view.page.evaluate(PATIENT)  # a slow machine must not be cut off again
    proxy.restore()
    await view.has_received("feed", during)
    await said(view, "feed", "resumed, 1 post caught up, nothing missed")
    await said(view, "charts", "caught up, nothing missed")
    for channel in ("machine", "feed"):
        received = await view.received(channel)
        kept = await history(dashboard, channel, await view.since(channel))
        assert received == kept[: len(received)]

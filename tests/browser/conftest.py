"""The dashboard in a server of its own, pages that watch themselves, and plain HTTP beside them."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from ..conftest import StartProxy, proxies
from ..support.server import AppServer
from ..support.until import PATIENCE, until_async

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page, Request

DASHBOARD = "examples/dashboard/app"
CUT_NOISE = ("net::ERR_", "Failed to load resource", "WebSocket connection to")
"""What Chromium itself writes to the console when a line is cut; no script's error begins so."""


@pytest_asyncio.fixture(loop_scope="session")
async def tcp_proxy() -> AsyncIterator[StartProxy]:
    """The same as everywhere, in the loop of these tests."""
    async with proxies() as start:
        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def dashboard(serve: Callable[..., Awaitable[AppServer]]) -> AppServer:
    """The dashboard, served by ``samovar run``."""
    return await serve(DASHBOARD)


@dataclass
class View:
    """A page of the dashboard, with all that it must not do written down.

    Args:
        page: Playwright's.
        problems: errors of scripts and on the console, except what a cut line causes.
        hosts: every host and port it asked anything of.
    """

    page: Page
    problems: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(noise in message.text for noise in CUT_NOISE):
            self.problems.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.hosts.add(urllib.parse.urlsplit(request.url).netloc)

    async def says(self, line: str, words: str) -> None:
        """Wait until the chip of *line* says *words*."""
        try:
            await until_async(lambda: self._is_said(line, words), "the chip")
        except TimeoutError:
            raise TimeoutError(
                f"waited {PATIENCE:g} s for {words!r}, it says {await self.chip(line)!r}"
            ) from None

    async def _is_said(self, line: str, words: str) -> bool:
        return words in await self.chip(line)

    async def until(self, condition: str, argument: object = None, *, timeout: float = PATIENCE) -> None:
        """Wait until *condition*, a JavaScript expression or function of *argument*, is true."""
        await self.page.wait_for_function(condition, arg=argument, timeout=timeout * 1000, polling=50)

    async def chip(self, line: str) -> str:
        """What the chip of *line* says."""
        return await self.page.inner_text(f"[data-line={line}] [data-says]")

    async def received(self, channel: str) -> list[str]:
        """The ids of the messages that came live, in the order in which the page handled them."""
        ids: list[str] = await self.page.evaluate("channel => window.dashboard.log[channel]", channel)
        return ids

    async def since(self, channel: str) -> str:
        """The cursor that came with the page."""
        cursor: str = await self.page.evaluate("channel => window.dashboard.since[channel]", channel)
        return cursor

    async def has_received(self, channel: str, id: str) -> None:
        """Wait until message *id* was handled."""
        script = "([channel, id]) => window.dashboard.log[channel].includes(id)"
        await self.until(script, [channel, id])

    async def has_points(self, count: int) -> None:
        """Wait until so many points of the machine came live."""
        await self.until("n => window.dashboard.log.machine.length >= n", count)


Opener = Callable[..., Awaitable[View]]


@pytest_asyncio.fixture(loop_scope="session")
async def open_view(browser: Browser) -> AsyncIterator[Opener]:
    """Opens pages of the dashboard, each a visitor of its own; a script's error or another host fails the test."""
    views: list[View] = []
    async with AsyncExitStack() as stack:

        async def open_(url: str, **context: Any) -> View:
            visitor = await browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **context})
            stack.push_async_callback(visitor.close)
            view = View(await visitor.new_page())
            views.append(view)
            await view.page.goto(url)
            return view

        yield open_
    for view in views:
        assert view.problems == [], "the page had errors"
        assert len(view.hosts) <= 1, "the page asked another host"


@dataclass(frozen=True)
class Answer:
    """What a plain request got."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    url: str, *, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request as curl sends it: GET, or with *form* what ``curl -d`` posts."""
    data = None if form is None else urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(
        url, data, {"User-Agent": "curl/8.5.0", "Accept": "*/*", **(headers or {})}
    )

    def go() -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=2 * PATIENCE) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    return await asyncio.to_thread(go)


async def history(server: AppServer, channel: str, since: str) -> list[str]:
    """The ids of what *channel* keeps after *since*, by the plain GET of its history."""
    query = urllib.parse.urlencode({"since": since})
    ids: list[str] = []
    while True:
        body = (await ask(f"{server.url}/history/{channel}?{query}")).json()
        assert body.get("gaps", []) == [], "the test took longer than the history keeps"
        ids += [message["id"] for message in body["messages"]]
        if not body.get("more"):
            return ids
        query = urllib.parse.urlencode({"since": body["cursor"]})

"""The server ends a line: for good where coming back is of no use, else the page comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from ..conftest import SESSION_LOOP
from ..support.server import AppServer

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = SESSION_LOOP

DOORS = pytest.mark.parametrize("door", ["websocket", "sse"])
POST = "([url, body]) => fetch(url, {method: 'POST', body, headers: {'Content-Type': 'application/json'}})"
REACHED = "state => line.state === state"


async def open_line(page: Page, serve: Callable[..., Awaitable[AppServer]], door: str) -> None:
    server = await serve("tests.browser.guarded:app")
    await page.goto(f"{server.url}/{door}")
    await page.wait_for_function(REACHED, arg="live")


@pytest.mark.parametrize("door", ["websocket", "sse", "poll"])
async def test_a_kick_ends_the_line_for_good(
    door: str, page: Page, serve: Callable[..., Awaitable[AppServer]]
) -> None:
    await open_line(page, serve, door)
    await page.evaluate(POST, ["/kick", ""])
    await page.wait_for_function(REACHED, arg="closed")


@DOORS
async def test_a_refusal_ends_the_line_for_good(
    door: str, page: Page, serve: Callable[..., Awaitable[AppServer]]
) -> None:
    await open_line(page, serve, door)
    await page.evaluate(POST, ["/set", '{"refuses": true}'])
    await page.wait_for_function(REACHED, arg="closed")


@DOORS
async def test_after_a_rule_that_failed_the_page_comes_back(
    door: str, page: Page, serve: Callable[..., Awaitable[AppServer]]
) -> None:
    await open_line(page, serve, door)
    await page.evaluate(POST, ["/set", '{"fails": 1}'])
    await page.wait_for_function("() => seen.includes('waiting') && line.state === 'live'")

"""deploy/nginx.conf is a configuration that Nginx takes, and one that an EventSource survives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from ..services import Found
from ..support.http import get, open_stream
from ..support.nginx import Nginx
from ..support.ports import free_port
from .conftest import SHIPPED, shipped_config

if TYPE_CHECKING:
    from ..conftest import NginxStarter


def test_nginx_accepts_it_as_it_is_shipped(nginx_program: Found, tmp_path: Path) -> None:
    assert "test is successful" in Nginx(nginx_program, tmp_path, SHIPPED.read_text(), 8080).check()


async def test_an_event_source_is_told_to_come_back_while_the_app_is_down(nginx: NginxStarter) -> None:
    port = free_port()
    server = nginx(shipped_config(port, free_port()), port)
    waits = set()
    for _ in range(20):
        async with open_stream(f"{server.url}/events", headers={"Accept": "text/event-stream"}) as stream:
            assert stream.status == 200
            assert stream.headers["content-type"] == "text/event-stream"
            (line,) = await stream.block()
            waits.add(int(line.removeprefix("retry: ")))
            assert await stream.rest() == b""
    assert waits <= {1000, 1500, 2000, 2500, 3000}
    assert len(waits) > 1, "all clients would come back in the same moment"


async def test_everybody_else_sees_the_failure_while_the_app_is_down(nginx: NginxStarter) -> None:
    port = free_port()
    server = nginx(shipped_config(port, free_port()), port)
    response = await get(f"{server.url}/events", headers={"Accept": "text/html"})
    assert response.status == 502
    assert response.headers["content-type"] == "text/html"


async def test_workers_that_were_all_away_are_asked_as_soon_as_one_is_back(nginx: NginxStarter) -> None:
    port, back, away = free_port(), free_port(), free_port()
    server = nginx(shipped_config(port, back, away), port)
    for _ in range(4):
        assert (await get(f"{server.url}/")).status == 502

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nback")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", back):
        assert (await get(f"{server.url}/")).text == "back"

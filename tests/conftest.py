"""What every test may use: real servers, a real browser, a proxy that breaks, an app in a process of its own.

- ``browser``, ``page``: an async Playwright browser and a fresh page of it; an uncaught script error fails the test.
  It is one for the session, so a test that uses it has to be marked with ``SESSION_LOOP``
- ``nginx``: starts Nginx: ``nginx(config, port)`` or ``nginx.bare(app_port)``; ``module_nginx`` the same for a module
- ``serve``: ``server = await serve("tests.nginx.app:app")`` has ``url``, ``port``, ``output()``, ``stop()``
- ``module_serve``: ``server = module_serve("tests.nginx.app:app")``, for all tests of a module
- ``start_redis``: ``server = start_redis()`` has ``url()``, ``kill()``, ``start()``, ``call("CONFIG", "SET", …)``
- ``rabbitmq``: a RabbitMQ that all tests share, ``start_rabbitmq``: one of the test's own (tests/support/rabbitmq.py)
- ``tcp_proxy``: ``proxy = await tcp_proxy(port)`` has ``port``, ``cut()``, ``refuse()``, ``stall()``, ``restore()``

Every test has a time limit (``tests/support/limits.py``) and must leave nothing behind (``tests/support/leaks.py``).
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from .services import CHROMIUM, NGINX, RABBITMQ, REDIS, SERVICES, VALKEY, Found, Missing, Service
from .support.certificates import make_certificates
from .support.nginx import Nginx, start_bare
from .support.proxy import Proxy
from .support.rabbitmq import RabbitServer
from .support.redis import RedisServer
from .support.server import AppServer
from .support.until import PATIENCE

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job: what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SESSION_LOOP = pytest.mark.asyncio(loop_scope="session")
pytest_plugins = ["tests.support.limits", "tests.support.leaks", "tests.support.patience"]

BROWSER_ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    for service in SERVICES:
        parser.addoption(
            f"--no-{service.name}", action="store_true", help=f"leave out the tests that need {service.name}"
        )


def need(service: Service, config: pytest.Config) -> Found:
    """The service for a test; fails the test where it is missing, skips it where it was opted out of."""
    if config.getoption(f"--no-{service.name}"):
        pytest.skip(f"left out by --no-{service.name}")
    try:
        return service.need()
    except Missing as error:
        pytest.fail(f"{error}   (or leave it out: --no-{service.name})", pytrace=False)


@pytest.fixture(scope="session")
def nginx_program(request: pytest.FixtureRequest) -> Found:
    """The Nginx program of this machine."""
    return need(NGINX, request.config)


@pytest.fixture(scope="session")
def chromium_program(request: pytest.FixtureRequest) -> Found:
    """The Chromium program of this machine."""
    return need(CHROMIUM, request.config)


class NginxStarter:
    """Starts Nginx servers for one test and stops them after it."""

    def __init__(self, program: Found, folder: Path, stack: ExitStack) -> None:
        self.program = program
        self.folder = folder
        self.stack = stack
        self.count = 0

    def __call__(self, config: str, port: int) -> Nginx:
        """Nginx with a whole configuration that listens on *port* (take one from ``free_port``)."""
        return self._keep(Nginx(self.program, self._folder(), config, port).start())

    def bare(self, app_port: int) -> Nginx:
        """Nginx with nothing but ``proxy_pass`` to *app_port*."""
        return self._keep(start_bare(self.program, self._folder(), app_port))

    def _folder(self) -> Path:
        self.count += 1
        return self.folder / f"nginx{self.count}"

    def _keep(self, nginx: Nginx) -> Nginx:
        self.stack.callback(nginx.stop)
        return nginx


@pytest.fixture
def nginx(nginx_program: Found, tmp_path: Path) -> Iterator[NginxStarter]:
    """Starts Nginx in front of an app; see :class:`NginxStarter`."""
    with ExitStack() as stack:
        yield NginxStarter(nginx_program, tmp_path, stack)


@pytest.fixture(scope="module")
def module_nginx(nginx_program: Found, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxStarter]:
    """Starts Nginx for all tests of a module."""
    with ExitStack() as stack:
        yield NginxStarter(nginx_program, tmp_path_factory.mktemp("nginx"), stack)


@pytest.fixture(params=["redis", "valkey"])
def redis_program(request: pytest.FixtureRequest) -> Found:
    """The Redis program of this machine, and then its Valkey: a test that uses it runs with both."""
    return need({"redis": REDIS, "valkey": VALKEY}[request.param], request.config)


@pytest.fixture
def start_redis(redis_program: Found, tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts private servers; see :class:`tests.support.redis.RedisServer` for the arguments."""
    with ExitStack() as stack:

        def start(*, name: str = "redis", **options: object) -> RedisServer:
            server = RedisServer(redis_program, tmp_path / name, **options)  # type: ignore[arg-type]  # checked there
            stack.callback(server.close)
            server.start()
            return server

        yield start


@pytest.fixture(scope="session")
def rabbitmq_program(request: pytest.FixtureRequest) -> Found:
    """The RabbitMQ program of this machine."""
    return need(RABBITMQ, request.config)


@pytest.fixture(scope="session")
def rabbitmq_of_session(
    rabbitmq_program: Found, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RabbitServer]:
    """One server, with a TLS listener; it may have been killed by the test before."""
    certificates = make_certificates(tmp_path_factory.mktemp("tls"))
    server = RabbitServer(rabbitmq_program, tmp_path_factory.mktemp("rabbitmq"), certificates=certificates)
    yield server
    server.close()


@pytest.fixture
def rabbitmq(rabbitmq_of_session: RabbitServer) -> RabbitServer:
    """The session's server, running; see :mod:`tests.support.rabbitmq` for how to share it."""
    if not rabbitmq_of_session.running:
        rabbitmq_of_session.start()
    return rabbitmq_of_session


@pytest.fixture
def start_rabbitmq(rabbitmq_program: Found, tmp_path: Path) -> Iterator[Callable[..., RabbitServer]]:
    """Starts private servers; see :class:`tests.support.rabbitmq.RabbitServer` for the arguments."""
    with ExitStack() as stack:

        def start(*, name: str = "rabbitmq", **options: object) -> RabbitServer:
            server = RabbitServer(rabbitmq_program, tmp_path / name, **options)  # type: ignore[arg-type]  # checked there
            stack.callback(server.close)
            server.start()
            return server

        yield start


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium_program: Found) -> AsyncIterator[Browser]:
    """A headless Chromium, driven by Playwright; tests get contexts of their own, and carry ``SESSION_LOOP``."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_program.path,
            args=BROWSER_ARGUMENTS,
            env={**chromium_program.env},
            chromium_sandbox=False,
        )
        try:
            yield browser
        finally:
            await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page in a fresh context; the test fails when a script on it raised and nobody caught it."""
    context = await browser.new_context()
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(PATIENCE * 1000)
    yield page
    await context.close()
    assert errors == [], "a script of the page raised"


StartProxy = Callable[[int], Awaitable[Proxy]]


@asynccontextmanager
async def proxies() -> AsyncIterator[StartProxy]:
    """Starts proxies, and stops them in the end."""
    async with AsyncExitStack() as stack:

        async def start(target_port: int) -> Proxy:
            return await stack.enter_async_context(Proxy(target_port))

        yield start


@pytest.fixture
async def tcp_proxy() -> AsyncIterator[StartProxy]:
    """Starts proxies that break connections: ``proxy = await tcp_proxy(server.port)``."""
    async with proxies() as start:
        yield start


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Awaitable[AppServer]]]:
    """Runs an app in a process of its own; see :class:`tests.support.server.AppServer` for the arguments."""
    with ExitStack() as stack:

        async def start(app: str, **options: object) -> AppServer:
            server = AppServer(app, folder=tmp_path, **options)  # type: ignore[arg-type]  # checked there
            stack.callback(server.stop)
            await asyncio.to_thread(server.wait)
            return server

        yield start


@pytest.fixture(scope="module")
def module_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., AppServer]]:
    """Runs an app in a process of its own for all tests of a module; they must not see what others left in it."""
    with ExitStack() as stack:

        def start(app: str, **options: object) -> AppServer:
            server = AppServer(app, folder=tmp_path_factory.mktemp("served"), **options)  # type: ignore[arg-type]  # checked there
            stack.callback(server.stop)
            server.wait()
            return server

        yield start


@pytest.fixture
def python() -> str:
    """The Python that runs the tests, for subprocesses."""
    return sys.executable

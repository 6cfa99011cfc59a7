"""A private RabbitMQ that a test may kill, stop, restart, starve and wipe: its own node, ports, cookie and ``epmd``.

How to use it:

- The fixture ``rabbitmq`` is one server for all tests of a session (it takes 5 to 10 s to start and 140 MB). Keep to a
  stream of your own (``server.url("stream=…")``) or a vhost of your own (:meth:`RabbitServer.add_vhost`). A test may
  kill it; the next one finds it running again.
- The fixture ``start_rabbitmq`` starts one of the test's own, as ``start_redis`` does.
- ``server.url(query, user="name:password", vhost="v", port=proxy.port)``; ``server.secure_url(query)`` is the TLS
  listener, whose authority is ``server.certificates / "ca.crt"`` (``other.crt`` is a wrong one; ``server.crt`` and
  ``server.key`` can be shown as a client's).
- ``kill()``, ``stop()``, ``freeze()``, ``thaw()``, ``wipe()`` return at once or nearly so. Starting takes seconds:
  in a coroutine ``await server.up()`` (or ``await server.restart()``), so that the loop goes on; elsewhere ``start()``.
- The operator is quick: :meth:`RabbitServer.add_user`, :meth:`RabbitServer.allow`, :meth:`RabbitServer.set_password`,
  :meth:`RabbitServer.add_vhost`, :meth:`RabbitServer.define`, :meth:`RabbitServer.streams`,
  :meth:`RabbitServer.delete_queue`, :meth:`RabbitServer.close_connections` and everything else by
  :meth:`RabbitServer.eval` take milliseconds, since Erlang's own ``erl_call`` asks the node.
  ``server.ctl("stop_app")`` is the real ``rabbitmqctl``, about a second a call: in a coroutine ``await server.run(…)``.
- ``await server.memory_alarm()`` and ``await server.disk_alarm()`` raise an alarm, ``no_alarm()`` ends both; all return
  when the alarm is really there, or gone.

Its data lie in a folder of the system's temporary one, named after its port. They go with :meth:`RabbitServer.close`;
what tests that were killed left behind is removed by whoever makes the next server, since a port is claimed by a lock
that dies with its process. Server and ``epmd`` die with the tests on Linux, however those die.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ..services import Found
from .ports import claim_port, free_port, release_port
from .process import Process

START: Final = 120.0  # seconds that a start may take on a busy machine
HEADER: Final = b"AMQP\x00\x00\x09\x01"
# One thread for everything, and none that spins while it waits; nothing listens beyond this machine.
ERLANG: Final = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
DEFAULTS: Final = {
    "loopback_users": "none",
    "vm_memory_high_watermark.absolute": "1GB",
    "disk_free_limit.absolute": "50MB",
    "log.file.level": "info",
    "log.console": "false",
}


class CtlError(RuntimeError):
    """``rabbitmqctl`` failed; the message is what it said."""


class RabbitServer:
    """``server = RabbitServer(found, folder); server.start()``; ``close()`` ends it for good.

    Args:
        found: the program.
        folder: for its log and what it prints; kept. Made if it is not there.
        certificates: a folder of :func:`tests.support.certificates.make_certificates`, for a TLS listener.
        options: more lines of ``rabbitmq.conf``.
    """

    def __init__(
        self,
        found: Found,
        folder: Path,
        *,
        certificates: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.found = found
        self.folder = folder
        self.certificates = certificates
        self.options = {**DEFAULTS, **(options or {})}
        self.port, self.tls_port, self._dist, self._names = (free_port() for _ in range(4))
        self.node = f"samovar{self.port}@localhost"
        self.process: Process | None = None
        self._epmd: Process | None = None
        sweep()
        self.data = _data(self.port)
        shutil.rmtree(self.data, ignore_errors=True)
        (self.data / "home").mkdir(parents=True)
        cookie = self.data / "home/.erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"<RabbitServer port={self.port} {self.process}>"

    def url(self, query: str = "", *, user: str = "", vhost: str = "", port: int | None = None) -> str:
        """Where it is reached; *user* is ``name:password``, *port* that of a proxy in front of it."""
        return self._url("amqp", port or self.port, query, user, vhost)

    def secure_url(self, query: str = "", *, user: str = "", vhost: str = "", port: int | None = None) -> str:
        """Where it is reached by TLS."""
        return self._url("amqps", port or self.tls_port, query, user, vhost)

    def _url(self, scheme: str, port: int, query: str, user: str, vhost: str) -> str:
        login = f"{user}@" if user else ""
        path = quote(vhost, safe="")
        return f"{scheme}://{login}127.0.0.1:{port}/{path}{'?' if query else ''}{query}"

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it on its data and wait until it speaks AMQP; in a coroutine use :meth:`up`."""
        self.launch()
        self.wait()

    async def up(self) -> None:
        """Start it unless it runs, and wait, while the loop goes on, until it speaks AMQP."""
        if not self.running:
            self.launch()
        await asyncio.to_thread(self.wait)

    async def restart(self) -> None:
        """Kill it and start it."""
        self.kill()
        await self.up()

    @property
    def running(self) -> bool:
        """Its process is there; it may not be ready yet."""
        return self.process is not None and self.process.running

    def launch(self) -> None:
        """Start its process; it takes seconds until it is ready."""
        if self._epmd is None:
            command: list[str | Path] = [
                self._epmd_program(),
                "-port",
                str(self._names),
                "-address",
                "127.0.0.1",
            ]
            self._epmd = Process(command, log=self.folder / "epmd", env=self.found.env)
            self._epmd.wait_for_port(self._names)
        self._configure()
        self.process = Process([self.found.path], log=self.folder / "out", cwd=self.folder, env=self._env())

    def _epmd_program(self) -> str:
        """The one that goes with its Erlang.

        Raises:
            RuntimeError: that has none where one would be.
        """
        found = shutil.which("epmd", path=self._path()) or next(self._of_erlang("epmd"), None)
        if found is None:
            raise RuntimeError(f"no epmd on {self._path()}, nor beside erl")
        return found

    def _path(self) -> str:
        return self.found.env.get("PATH", os.environ.get("PATH", os.defpath))

    def _of_erlang(self, name: str) -> Iterator[str]:
        """Where a program of Erlang's own is when it is not on PATH."""
        if erlang := shutil.which("erl", path=self._path()):
            home = Path(erlang).resolve().parent.parent
            yield from map(
                str, sorted([*home.glob(f"erts-*/bin/{name}"), *home.glob(f"lib/erl_interface-*/bin/{name}")])
            )

    def _configure(self) -> None:
        lines = {"listeners.tcp.1": f"127.0.0.1:{self.port}", **self.options}
        if self.certificates is not None:
            lines["listeners.ssl.1"] = f"127.0.0.1:{self.tls_port}"
            for name, file in (
                ("cacertfile", "ca.crt"),
                ("certfile", "server.crt"),
                ("keyfile", "server.key"),
            ):
                lines[f"ssl_options.{name}"] = str(self.certificates / file)
            lines |= {"ssl_options.verify": "verify_peer", "ssl_options.fail_if_no_peer_cert": "false"}
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (self.data / "rabbitmq.conf").write_text(text)
        (self.data / "plugins").write_text("[].")

    def _env(self) -> dict[str, str]:
        """Variables of the server and of ``rabbitmqctl``: nothing of the machine's own set-up is to be seen."""
        data = str(self.data)
        return {
            **self.found.env,
            "HOME": f"{data}/home",
            "LC_ALL": "C.UTF-8",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_USE_LONGNAME": "false",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_MNESIA_BASE": f"{data}/mnesia",
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{data}/plugins",
            "RABBITMQ_PID_FILE": f"{data}/pid",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": f"{data}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{data}/advanced.config",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
            "RABBITMQ_CTL_ERL_ARGS": ERLANG,
            # The script replaces itself by the server then, so that signals reach it and it dies with the tests.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": os.devnull,
        }

    def wait(self) -> None:
        """Wait until it speaks AMQP; may be called in a thread."""
        assert self.process is not None
        self.process.wait_until(self._speaks, what="answer to the AMQP header", timeout=START)

    def _speaks(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                sock.sendall(HEADER)
                return bool(sock.recv(1))
        except OSError:
            time.sleep(0.1)
            return False

    def kill(self) -> None:
        """``kill -9``."""
        assert self.process is not None
        self.process.kill()

    def stop(self) -> None:
        """SIGTERM, as an upgrade does: it tells its clients and ends; about a second."""
        assert self.process is not None
        self.process.stop(timeout=30)

    def freeze(self) -> None:
        """SIGSTOP: its connections stay, and nobody answers, until :meth:`thaw`."""
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove its data, users and vhosts too; not while it runs."""
        shutil.rmtree(self.data / "mnesia", ignore_errors=True)

    def close(self) -> None:
        """End it with its ``epmd``, remove its data, and give its ports back; idempotent."""
        for process in (self.process, self._epmd):
            if process is not None:
                process.kill()
        shutil.rmtree(self.data, ignore_errors=True)
        for port in (self.port, self.tls_port, self._dist, self._names):
            release_port(port)

    def log(self) -> str:
        """What it wrote to its log."""
        return (self.folder / "log").read_text(errors="replace")

    # --- the operator -----------------------------------------------------------------------------------------------

    def ctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """What ``rabbitmqctl`` printed.

        Raises:
            CtlError: it failed.
        """
        command: list[str | Path] = [
            self.found.path.with_name("rabbitmqctl"),
            "-q",
            "-n",
            self.node,
            *arguments,
        ]
        done = subprocess.run(
            command,
            env={**os.environ, **self._env()},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise CtlError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    async def run(self, *arguments: str) -> str:
        """:meth:`ctl` while the loop goes on."""
        return await asyncio.to_thread(self.ctl, *arguments)

    def eval(self, code: str, timeout: float = 60.0) -> str:
        """The value of an Erlang expression on the node, as text.

        Raises:
            CtlError: it failed.
        """
        erl_call = shutil.which("erl_call", path=self._path()) or next(self._of_erlang("erl_call"), None)
        if erl_call is None:
            return self.ctl("eval", f"{code}.", timeout=timeout)
        done = subprocess.run(
            [erl_call, "-sname", self.node, "-e"],
            env={**os.environ, **self._env()},
            input=f"{code}.\n",
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode or not done.stdout.startswith("{ok, "):
            raise CtlError(f"{code}: {done.stdout}{done.stderr}")
        return done.stdout[5:-1]

    def define(self, **definitions: Any) -> None:
        """Make users, vhosts, permissions, policies, queues: lists of objects, as ``export_definitions`` writes them.

        Such as ``users=[{"name": "u", "password": "p", "tags": ""}]``, ``vhosts=[{"name": "v"}]``,
        ``permissions=[{"user": "u", "vhost": "v", "configure": "", "write": ".*", "read": ".*"}]``.

        Raises:
            CtlError: something in it is wrong.
        """
        path = self.data / "definitions.json"
        path.write_text(json.dumps(definitions))
        self.eval(f'{{ok, Json}} = file:read_file("{path}"), ok = rabbit_definitions:import_raw(Json)')

    def add_vhost(self, name: str) -> None:
        """A vhost in which guest may do everything."""
        right = {"user": "guest", "vhost": name, "configure": ".*", "write": ".*", "read": ".*"}
        self.define(vhosts=[{"name": name}], permissions=[right])

    def add_user(
        self,
        name: str,
        password: str,
        *,
        vhost: str = "/",
        configure: str = "",
        write: str = "",
        read: str = "",
    ) -> None:
        """A user with these permissions: regular expressions of what it may configure, write and read."""
        right = {"user": name, "vhost": vhost, "configure": configure, "write": write, "read": read}
        self.define(users=[{"name": name, "password": password, "tags": ""}], permissions=[right])

    def allow(
        self,
        user: str = "guest",
        *,
        vhost: str = "/",
        configure: str = ".*",
        write: str = ".*",
        read: str = ".*",
    ) -> None:
        """Set the permissions of a user anew; the node may go by the old ones for a few operations more."""
        rights = ", ".join(map(binary, (user, vhost, configure, write, read, "test")))
        self.eval(f"ok = rabbit_auth_backend_internal:set_permissions({rights})")

    def set_password(self, password: str, user: str = "guest") -> None:
        """Another password for a user, asked of new connections."""
        words = ", ".join(map(binary, (user, password, "test")))
        self.eval(f"ok = rabbit_auth_backend_internal:change_password({words})")

    def close_connections(self, reason: str = "closed by the operator") -> None:
        """Close all connections, as ``rabbitmqctl close_all_connections`` does."""
        close = (
            f'catch rabbit_networking:close_connection(C, "{reason}")'  # it may have gone by itself meanwhile
        )
        self.eval(f"[{close} || C <- rabbit_networking:connections()]")

    def streams(self, vhost: str = "/") -> list[str]:
        """The names of all stream queues; those of queues have no ``|``."""
        queues = f"rabbit_amqqueue:list({binary(vhost)})"
        names = "binary_to_list(element(4, amqqueue:get_name(Q)))"
        found = f"[{names} || Q <- {queues}, amqqueue:get_type(Q) == rabbit_stream_queue]"
        text = self.eval(f'lists:flatten(lists:join("|", {found}))').strip()
        return text.strip('"').split("|") if text != "[]" else []

    def delete_queue(self, name: str, vhost: str = "/") -> None:
        """Delete a queue or stream, whoever uses it."""
        find = f"rabbit_amqqueue:lookup(rabbit_misc:r({binary(vhost)}, queue, {binary(name)}))"
        self.eval(f"{{ok, Q}} = {find}, rabbit_amqqueue:delete(Q, false, false, {binary('test')})")

    # --- alarms -----------------------------------------------------------------------------------------------------

    async def memory_alarm(self) -> None:
        """No more memory: who publishes is blocked."""
        self.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.00001)")
        await self._alarm("memory", True)

    async def disk_alarm(self) -> None:
        """No more room on the disk: who publishes is blocked."""
        quick = (
            "rabbit_disk_monitor:set_min_check_interval(100), rabbit_disk_monitor:set_max_check_interval(100)"
        )
        self.eval(f"{quick}, rabbit_disk_monitor:set_disk_free_limit(1 bsl 60)")
        await self._alarm("disk", True)

    async def no_alarm(self) -> None:
        """There is enough of everything again."""
        memory = 'vm_memory_monitor:set_vm_memory_high_watermark({absolute, "1GB"})'
        self.eval(f"{memory}, rabbit_disk_monitor:set_disk_free_limit(50000000)")
        await self._alarm("memory", False)
        await self._alarm("disk", False)

    async def _alarm(self, resource: str, there: bool) -> None:
        asked = f"lists:any(fun(A) -> element(2, element(1, A)) == {resource} end, rabbit_alarm:get_alarms())"
        end = time.monotonic() + 60
        while (self.eval(asked).strip() == "true") != there:
            if time.monotonic() > end:
                raise TimeoutError(f"the {resource} alarm is {'not there' if there else 'still there'}")
            await asyncio.sleep(0.05)


def binary(text: str) -> str:
    """As Erlang writes it."""
    return f"<<{','.join(map(str, text.encode()))}>>"


# --- what was left behind -------------------------------------------------------------------------------------------


def _data(port: int) -> Path:
    return Path(tempfile.gettempdir(), f"samovar-rabbitmq-{os.getuid()}-{port}")


def sweep() -> None:
    """Remove the data of servers whose tests are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"samovar-rabbitmq-{os.getuid()}-*"):
        port = int(folder.name.rpartition("-")[2])
        if claim_port(port):
            shutil.rmtree(folder, ignore_errors=True)
            release_port(port)

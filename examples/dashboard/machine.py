"""What this machine is doing, by psutil: levels as they are, rates as the difference of two looks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Look:
    """The machine's counters at one moment.

    Args:
        at: seconds of the monotonic clock.
        time: milliseconds since 1970, for the charts' axis.
        cores: busy and total seconds of each core since boot.
        memory: bytes in use, and all there are.
        network: bytes received and sent since boot.
        disk: bytes read and written since boot; None where the system does not tell (some containers).
    """

    at: float
    time: int
    cores: tuple[tuple[float, float], ...]
    memory: tuple[int, int]
    network: tuple[int, int]
    disk: tuple[int, int] | None


def look() -> Look:
    """Read the counters; takes about a millisecond of system calls, so not on the event loop."""
    memory, network, disk = psutil.virtual_memory(), psutil.net_io_counters(), psutil.disk_io_counters()
    return Look(
        at=time.monotonic(),
        time=time.time_ns() // 1_000_000,
        cores=tuple(_busy(times) for times in psutil.cpu_times(percpu=True)),
        memory=(memory.total - memory.available, memory.total),
        network=(network.bytes_recv, network.bytes_sent),
        disk=None if disk is None else (disk.read_bytes, disk.write_bytes),
    )


def _busy(times: Any) -> tuple[float, float]:
    # Guests' time is in user's already (proc(5)); waiting for a disk leaves the core free.
    fields = {name: value for name, value in times._asdict().items() if not name.startswith("guest")}
    total = sum(fields.values())
    return total - fields["idle"] - fields.get("iowait", 0.0), total


def point(before: Look, after: Look) -> dict[str, Any]:
    """One point of the charts: what happened between two looks.

    Returns:
        ``t`` in ms; ``cpu`` and each of ``cores`` in per cent; ``memory`` in bytes used and total; ``network`` (in,
        out) and ``disk`` (read, written) in bytes a second, ``disk`` None where it is not known.
    """
    cores = [_share(a, b) for a, b in zip(before.cores, after.cores, strict=False)]
    seconds = max(after.at - before.at, 0.001)
    return {
        "t": after.time,
        "cpu": round(sum(cores) / max(len(cores), 1), 1),
        "cores": [round(core) for core in cores],
        "memory": list(after.memory),
        "network": _rates(before.network, after.network, seconds),
        "disk": _rates(before.disk, after.disk, seconds),
    }


def _share(before: tuple[float, float], after: tuple[float, float]) -> float:
    busy, total = after[0] - before[0], after[1] - before[1]
    return min(100.0, max(0.0, 100 * busy / total)) if total > 0 else 0.0


def _rates(before: tuple[int, int] | None, after: tuple[int, int] | None, seconds: float) -> list[int] | None:
    if before is None or after is None:
        return None
    return [max(0, round((b - a) / seconds)) for a, b in zip(before, after, strict=True)]

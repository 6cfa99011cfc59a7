"""How long to wait before trying a broker again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays(first: float = 0.05, most: float = 2.0) -> Iterator[float]:
    """Seconds to wait before each further attempt: doubling up to *most*, each between half of it and all of it.

    The jitter keeps the workers that lost one broker together from coming back together.
    """
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, most)

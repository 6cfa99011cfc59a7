"""What an EventSource is told that cannot be served at the moment: to come back.

It dies for good on every status but 200, so a 503 would keep a page from ever seeing the server that is well again.
"""

from __future__ import annotations

import random

from ..wrappers.request import Request
from ..wrappers.response import Response
from .frames import ServerSentEvent
from .sse import HEADERS

EVENT_STREAM = "text/event-stream"


def wants_events(request: Request) -> bool:
    """Tell whether *request* names ``text/event-stream`` among what it accepts; wildcards do not count."""
    return any(kind.lower() == EVENT_STREAM and quality for kind, quality in request.accept_mimetypes)


def come_back(response_class: type[Response], retry: float) -> Response:
    """An event stream that says only when to come back, and ends.

    Args:
        response_class: what it is made of.
        retry: milliseconds, spread by half either way, so that not all come at once.
    """
    word = ServerSentEvent(retry=int(retry * random.uniform(0.5, 1.5)), comment="not now").encode()
    return response_class(word, content_type=f"{EVENT_STREAM}; charset=utf-8", headers=HEADERS)

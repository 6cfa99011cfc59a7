"""What a test connection raises when the app ends, refuses or cuts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..wrappers.response import Response


class HTTPDisconnectError(Exception):
    """The response ended where the test wanted more: cut by the app, complete, or left by the test itself."""


class EventStreamError(Exception):
    """The answer is not an event stream (another status than 200, or another content type).

    Args:
        response: the whole answer; its body has been read.
    """

    def __init__(self, response: Response) -> None:
        kind = response.headers.get("content-type", "no content type")
        super().__init__(f"expected 200 text/event-stream, got {response.status_code} {kind}")
        self.response = response


class WebsocketResponseError(Exception):
    """The handshake was refused with an HTTP response, as a browser would see it.

    Args:
        response: the refusal: the app's denial response, 403 for a close before accept, 500 when the app
            returned without a word.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(f"the websocket was refused: {response.status_code}")
        self.response = response


class WebsocketDisconnectError(Exception):
    """The websocket is closed.

    Args:
        code: the close code (RFC 6455, section 7.4).
        reason: the close reason, possibly empty.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the websocket is closed: {code} {reason or 'without a reason'}")
        self.code = code
        self.reason = reason

"""The signals, on Blinker; each is sent only when somebody listens.

Receivers may be functions or coroutine functions; ``await send(signal, sender, …)`` calls both.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from blinker import NamedSignal, Namespace, Signal

from .utils import run_sync

F = TypeVar("F", bound=Callable[..., Any])

_signals = Namespace()

signals_available = True

heard: set[str] = set()
"""The names of those that anybody has ever listened to; while it is empty a request need not ask each of them."""


class _Signal(NamedSignal):
    """Remembers that somebody listens."""

    def connect(self, receiver: F, sender: Any = Signal.ANY, weak: bool = True) -> F:
        heard.add(self.name)
        return super().connect(receiver, sender, weak)


def _signal(name: str) -> NamedSignal:
    signal = _signals[name] = _Signal(name)
    return signal


appcontext_pushed: NamedSignal = _signal("appcontext-pushed")
appcontext_popped: NamedSignal = _signal("appcontext-popped")
appcontext_tearing_down: NamedSignal = _signal("appcontext-tearing-down")
before_render_template: NamedSignal = _signal("before-render-template")
template_rendered: NamedSignal = _signal("template-rendered")
message_flashed: NamedSignal = _signal("message-flashed")
request_started: NamedSignal = _signal("request-started")
request_finished: NamedSignal = _signal("request-finished")
request_tearing_down: NamedSignal = _signal("request-tearing-down")
got_request_exception: NamedSignal = _signal("got-request-exception")
websocket_started: NamedSignal = _signal("websocket-started")
websocket_finished: NamedSignal = _signal("websocket-finished")
websocket_received: NamedSignal = _signal("websocket-received")
websocket_sent: NamedSignal = _signal("websocket-sent")
websocket_tearing_down: NamedSignal = _signal("websocket-tearing-down")
got_websocket_exception: NamedSignal = _signal("got-websocket-exception")
got_background_exception: NamedSignal = _signal("got-background-exception")
got_serving_exception: NamedSignal = _signal("got-serving-exception")


def _in_thread(func: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    return run_sync(func)


async def send(signal: Signal, sender: Any, **kwargs: Any) -> None:
    """Send *signal* to its receivers and wait for them; plain functions run in a thread.

    Callers on the hot path ask ``if signal.receivers`` first.
    """
    await signal.send_async(sender, _sync_wrapper=_in_thread, **kwargs)

"""The signals, on Blinker; each is sent only when somebody listens.

Receivers may be functions or coroutine functions; ``await send(signal, sender, …)`` calls both.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from blinker import Namespace, Signal

from .utils import run_sync

_signals = Namespace()

signals_available = True

appcontext_pushed = _signals.signal("appcontext-pushed")
appcontext_popped = _signals.signal("appcontext-popped")
appcontext_tearing_down = _signals.signal("appcontext-tearing-down")
before_render_template = _signals.signal("before-render-template")
template_rendered = _signals.signal("template-rendered")
message_flashed = _signals.signal("message-flashed")
request_started = _signals.signal("request-started")
request_finished = _signals.signal("request-finished")
request_tearing_down = _signals.signal("request-tearing-down")
got_request_exception = _signals.signal("got-request-exception")
websocket_started = _signals.signal("websocket-started")
websocket_finished = _signals.signal("websocket-finished")
websocket_received = _signals.signal("websocket-received")
websocket_sent = _signals.signal("websocket-sent")
websocket_tearing_down = _signals.signal("websocket-tearing-down")
got_websocket_exception = _signals.signal("got-websocket-exception")
got_background_exception = _signals.signal("got-background-exception")
got_serving_exception = _signals.signal("got-serving-exception")


def _in_thread(func: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    return run_sync(func)


async def send(signal: Signal, sender: Any, **kwargs: Any) -> None:
    """Send *signal* to its receivers and wait for them; plain functions run in a thread.

    Callers on the hot path ask ``if signal.receivers`` first.
    """
    await signal.send_async(sender, _sync_wrapper=_in_thread, **kwargs)

"""The signals, on Blinker; each is sent only when somebody listens.

Receivers may be functions or coroutine functions; ``await send(signal, sender, …)`` calls both.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from blinker import NamedSignal, Namespace, Signal

from .utils import run_sync

_signals = Namespace()

signals_available = True

appcontext_pushed: NamedSignal = _signals.signal("appcontext-pushed")
appcontext_popped: NamedSignal = _signals.signal("appcontext-popped")
appcontext_tearing_down: NamedSignal = _signals.signal("appcontext-tearing-down")
before_render_template: NamedSignal = _signals.signal("before-render-template")
template_rendered: NamedSignal = _signals.signal("template-rendered")
message_flashed: NamedSignal = _signals.signal("message-flashed")
request_started: NamedSignal = _signals.signal("request-started")
request_finished: NamedSignal = _signals.signal("request-finished")
request_tearing_down: NamedSignal = _signals.signal("request-tearing-down")
got_request_exception: NamedSignal = _signals.signal("got-request-exception")
websocket_started: NamedSignal = _signals.signal("websocket-started")
websocket_finished: NamedSignal = _signals.signal("websocket-finished")
websocket_received: NamedSignal = _signals.signal("websocket-received")
websocket_sent: NamedSignal = _signals.signal("websocket-sent")
websocket_tearing_down: NamedSignal = _signals.signal("websocket-tearing-down")
got_websocket_exception: NamedSignal = _signals.signal("got-websocket-exception")
got_background_exception: NamedSignal = _signals.signal("got-background-exception")
got_serving_exception: NamedSignal = _signals.signal("got-serving-exception")


def _in_thread(func: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    return run_sync(func)


async def send(signal: Signal, sender: Any, **kwargs: Any) -> None:
    """Send *signal* to its receivers and wait for them; plain functions run in a thread.

    Callers on the hot path ask ``if signal.receivers`` first.
    """
    await signal.send_async(sender, _sync_wrapper=_in_thread, **kwargs)

"""Samovar: a Flask-style async web framework on a broadcast layer that loses nothing in silence."""

if __name__ != "samovar":  # the directory is src/, the package is samovar
    raise ImportError(f"import this package as 'samovar', not {__name__!r} (run: pip install -e .)")

from markupsafe import Markup, escape

from .broadcast import ChannelRule, Gap, Hub, Message, Position, latest
from .core import json as json  # ``from samovar import json``, as Flask's; not in a star import
from .core.app import Samovar
from .core.blueprints import Blueprint
from .core.config import Config
from .core.ctx import (
    after_this_request,
    copy_current_app_context,
    copy_current_request_context,
    copy_current_websocket_context,
    has_app_context,
    has_request_context,
    has_websocket_context,
)
from .core.globals import current_app, g, hub, request, session, websocket
from .core.helpers import (
    abort,
    flash,
    get_flashed_messages,
    make_push_promise,
    make_response,
    redirect,
    send_file,
    send_from_directory,
    stream_with_context,
    url_for,
)
from .core.json import jsonify
from .core.realtime import Access, ServerSentEvent, event_stream, long_poll
from .core.signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    before_render_template,
    got_request_exception,
    got_websocket_exception,
    message_flashed,
    request_finished,
    request_started,
    request_tearing_down,
    signals_available,
    template_rendered,
    websocket_finished,
    websocket_received,
    websocket_sent,
    websocket_started,
    websocket_tearing_down,
)
from .core.templating import (
    get_template_attribute,
    render_template,
    render_template_string,
    stream_template,
    stream_template_string,
)
from .core.typing import ResponseReturnValue
from .core.wrappers import Request, Response, Websocket
from .errors import SamovarError

__all__ = [
    "Access",
    "Blueprint",
    "ChannelRule",
    "Config",
    "Gap",
    "Hub",
    "Markup",
    "Message",
    "Position",
    "Request",
    "Response",
    "ResponseReturnValue",
    "Samovar",
    "SamovarError",
    "ServerSentEvent",
    "Websocket",
    "abort",
    "after_this_request",
    "appcontext_popped",
    "appcontext_pushed",
    "appcontext_tearing_down",
    "before_render_template",
    "copy_current_app_context",
    "copy_current_request_context",
    "copy_current_websocket_context",
    "current_app",
    "escape",
    "event_stream",
    "flash",
    "g",
    "get_flashed_messages",
    "get_template_attribute",
    "got_request_exception",
    "got_websocket_exception",
    "has_app_context",
    "has_request_context",
    "has_websocket_context",
    "hub",
    "jsonify",
    "latest",
    "long_poll",
    "make_push_promise",
    "make_response",
    "message_flashed",
    "redirect",
    "render_template",
    "render_template_string",
    "request",
    "request_finished",
    "request_started",
    "request_tearing_down",
    "send_file",
    "send_from_directory",
    "session",
    "signals_available",
    "stream_template",
    "stream_template_string",
    "stream_with_context",
    "template_rendered",
    "url_for",
    "websocket",
    "websocket_finished",
    "websocket_received",
    "websocket_sent",
    "websocket_started",
    "websocket_tearing_down",
]

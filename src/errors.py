"""Every error Samovar raises, in one tree.

::

    SamovarError
    ├── ConfigError (ValueError)
    ├── MissingDependency (ImportError)
    ├── ContextError (RuntimeError)
    ├── BroadcastError
    │   ├── InvalidChannel (ValueError)
    │   ├── InvalidCursor (ValueError)
    │   ├── InvalidRule (ValueError)
    │   ├── InvalidPayload (ValueError)
    │   ├── InvalidEnvelope (ValueError)
    │   ├── AlreadySubscribed (RuntimeError)
    │   ├── HubClosed (RuntimeError)
    │   ├── SlowSubscriber
    │   ├── PublishError
    │   │   ├── PublishRejected
    │   │   │   └── MessageTooLarge (ValueError)
    │   │   └── PublishUnknown
    │   └── BackendError
    │       ├── UnknownBackend (ValueError)
    │       ├── UnsupportedByBackend
    │       └── BackendUnavailable
    ├── WebsocketClosed
    └── LifespanError (RuntimeError)

HTTP errors stay Werkzeug's (``werkzeug.exceptions``). ``tests/test_errors.py`` holds this drawing to the code.
"""

from __future__ import annotations


class SamovarError(Exception):
    """The root: catch this to catch whatever Samovar itself raises."""


class ConfigError(SamovarError, ValueError):
    """A setting has a value that cannot work; the message names the setting and what it takes."""


class MissingDependency(SamovarError, ImportError):
    """An optional library is not installed, or too old; the message has the command that installs it."""


class ContextError(SamovarError, RuntimeError):
    """A proxy such as ``request`` was used where no such context is active."""


class BroadcastError(SamovarError):
    """Everything the broadcast layer raises."""


class InvalidChannel(BroadcastError, ValueError):
    """A channel name is empty, too long, or has characters outside ``A-Z a-z 0-9 _ . : / @ ~ -``."""


class InvalidCursor(BroadcastError, ValueError):
    """A cursor does not read as ``epoch:offset`` or ``channel=epoch:offset,…``."""


class InvalidRule(BroadcastError, ValueError):
    """A channel rule's pattern or options cannot work, or it ties with another rule."""


class InvalidPayload(BroadcastError, ValueError):
    """Data cannot be published: not JSON (NaN and Infinity included), or of an unknown kind."""


class InvalidEnvelope(BroadcastError, ValueError):
    """A record of a channel is no message this worker can read: garbage, foreign, or of a later version."""


class AlreadySubscribed(BroadcastError, RuntimeError):
    """The same subscription asked for the same channel twice."""


class HubClosed(BroadcastError, RuntimeError):
    """The hub was not started yet, or was stopped; the message says which and what to do."""


class SlowSubscriber(BroadcastError):
    """A subscriber under the ``disconnect`` policy exceeded its bounds and was let go."""


class PublishError(BroadcastError):
    """A publish did not (certainly) succeed. ``id`` is the message's id, good for a retry."""

    def __init__(self, message: str, *, id: str = "") -> None:
        super().__init__(message)
        self.id = id


class PublishRejected(PublishError):
    """The message is certainly not in the channel."""


class MessageTooLarge(PublishRejected, ValueError):
    """The payload exceeds the limit; the message names both sizes and the setting."""


class PublishUnknown(PublishError):
    """The message may or may not be in the channel; a retry with the same ``id`` cannot double it."""


class BackendError(BroadcastError):
    """A backend cannot be had or cannot do what was asked."""


class UnknownBackend(BackendError, ValueError):
    """No backend is registered for the URL's scheme."""


class UnsupportedByBackend(BackendError):
    """The chosen backend lacks a feature that the app declares; raised at start-up."""


class BackendUnavailable(BackendError):
    """The broker cannot be reached at the moment; trying again later may work."""


class WebsocketClosed(SamovarError):
    """A websocket was used after it closed.

    Args:
        code: the close code (RFC 6455, section 7.4), 1006 when the peer went without one.
        reason: the close reason, possibly empty.
        initiator: ``"peer"``, ``"app"`` or ``"server"``.
    """

    def __init__(self, code: int, reason: str = "", initiator: str = "peer") -> None:
        super().__init__(
            f"the websocket is closed: {code} {reason or 'without a reason'} (by the {initiator})"
        )
        self.code = code
        self.reason = reason
        self.initiator = initiator


class LifespanError(SamovarError, RuntimeError):
    """Start-up or shut-down failed in a test or a server; the cause is chained."""

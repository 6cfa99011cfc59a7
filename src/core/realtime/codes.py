"""Every websocket close code Samovar sends: its reason, and whether a client should come back.

1000 to 1015 are RFC 6455's (section 7.4.1) and IANA's registry; 4000 to 4999 are the application's, and ours keep the
last two digits of the HTTP status that says the same. A client comes back after what is temporary, and does not after
what would only be refused again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CloseCode:
    """One row of the table.

    Args:
        code: on the wire.
        reason: sent with it when nothing better is known; at most 123 bytes.
        retry: whether the client should connect again, from its cursor.
    """

    code: int
    reason: str
    retry: bool


NORMAL = CloseCode(1000, "", False)
POLICY = CloseCode(1008, "policy violation", False)
TOO_BIG = CloseCode(1009, "message too big", False)
INTERNAL_ERROR = CloseCode(1011, "internal error", True)
RESTART = CloseCode(1012, "restarting: come back", True)
UNAVAILABLE = CloseCode(1013, "not available at the moment: come back", True)
SLOW = CloseCode(4008, "too slow: come back and catch up", True)
GAP = CloseCode(4009, "messages were missed", True)
BAD_REQUEST = CloseCode(4400, "bad request", False)
SIGNED_OUT = CloseCode(4401, "signed out", False)
DENIED = CloseCode(4403, "denied", False)

TABLE: dict[int, CloseCode] = {
    row.code: row
    for row in (
        NORMAL,
        POLICY,
        TOO_BIG,
        INTERNAL_ERROR,
        RESTART,
        UNAVAILABLE,
        SLOW,
        GAP,
        BAD_REQUEST,
        SIGNED_OUT,
        DENIED,
    )
}

NO_CLOSE_FRAME = 1006
"""Never sent: what is reported when the peer went without a close frame."""

SENDABLE_RESERVED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def for_status(status: int) -> int:
    """The code for what would be an HTTP answer of *status*, from 400 on, were the handshake not over."""
    if status < 500:
        return 4000 + status
    return UNAVAILABLE.code if status == 503 else INTERNAL_ERROR.code


def check_close(code: int, reason: str) -> None:
    """Refuse a close that RFC 6455 does not let an endpoint send (sections 5.5, 7.4.2).

    Raises:
        ValueError: the code is reserved or out of range, or the reason has more than 123 bytes.
    """
    if code not in SENDABLE_RESERVED and not 3000 <= code <= 4999:
        raise ValueError(f"a close code is 1000 to 1014 (but 1004 to 1006) or 3000 to 4999, not {code}")
    if len(reason.encode()) > 123:
        raise ValueError(f"a close reason has at most 123 bytes, not {len(reason.encode())}")

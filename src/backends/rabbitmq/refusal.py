"""What the broker's refusals mean: whether trying again helps, and if not which setting does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..keeping import Unusable
from .link import Lost
from .options import Options

OLDEST = (3, 10)


def check_server(properties: Mapping[str, Any]) -> str:
    """The server's name and version, for logs.

    Raises:
        Unusable: it is none that can be used.
    """
    product, text = str(properties.get("product", "?")), str(properties.get("version", "?"))
    name = f"{product} {text}"
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if product != "RabbitMQ" or version < OLDEST:
        raise Unusable(f"the server is {name}; RabbitMQ 3.10 or later is needed, which has stream queues")
    capabilities = properties.get("capabilities") or {}
    for needed in ("publisher_confirms", "consumer_cancel_notify", "connection.blocked"):
        if not capabilities.get(needed):
            raise Unusable(f"the server {name} lacks the capability {needed}")
    return name


def refusal(lost: Lost, options: Options) -> Lost | Unusable:
    """What *lost* means: :class:`Lost` where trying again helps, else :class:`Unusable`.

    The codes are those of AMQP 0-9-1, section 1.2; the words are RabbitMQ's.
    """
    text = str(lost)
    said = f"({text:.200})"
    vhost = f"virtual host {options.vhost!r}"
    if lost.code == 403 and "login" in text.lower():
        return Unusable(f"RabbitMQ does not accept the user and password of the URL {said}")
    if lost.code == 403:
        return Unusable(
            f"the user {options.user!r} lacks rights in {vhost}: rabbitmqctl set_permissions, as in the documentation "
            f"{said}"
        )
    if lost.code == 530 and "not found" in text:
        return Unusable(f"there is no {vhost}, the path of the URL: rabbitmqctl add_vhost {said}")
    if lost.code == 530:
        return Unusable(
            f"RabbitMQ refuses the user {options.user!r} in {vhost}: rabbitmqctl set_permissions {said}"
        )
    if lost.code == 406 and "x-stream-offset" in text:
        queue = re.search(r"for queue '([^']*)'", text)
        return Unusable(f"{no_stream(queue[1] if queue else options.stream)} {said}")
    if lost.code in (404, 406, 540) and "feature flag" in text:
        return Unusable(f"streams are not enabled: rabbitmqctl enable_feature_flag stream_queue {said}")
    if lost.code == 541:
        return Lost(
            f"the server failed, as it may do while it creates or recovers a stream {said}", lost.code
        )
    return lost


def no_stream(queue: str) -> str:
    """What to do about a queue of another kind."""
    return f"the queue {queue!r} is no stream: delete it, or name another by the URL's stream="

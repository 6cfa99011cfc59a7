"""RabbitMQ: ``amqp://``, ``amqps://``."""

from .backend import RabbitBackend
from .options import Options

__all__ = ["Options", "RabbitBackend"]

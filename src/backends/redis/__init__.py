"""Redis and Valkey: ``redis://``, ``rediss://``, ``unix://``."""

from .backend import DurableRedisBackend, RedisBackend
from .options import Options

__all__ = ["DurableRedisBackend", "Options", "RedisBackend"]

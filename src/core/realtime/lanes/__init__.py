"""The ways from a connection's outbox to its server; ``plain`` goes through ASGI's ``send``."""

from .plain import Closed, LaneState, PlainLane

__all__ = ["Closed", "LaneState", "PlainLane"]

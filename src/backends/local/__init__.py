"""The workers of one host through a unix socket: ``local://``; see :mod:`.worker` and :mod:`.hub`."""

from .worker import LocalBackend

__all__ = ["LocalBackend"]

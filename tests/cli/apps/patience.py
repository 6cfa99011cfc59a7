"""Lets a server under test wait longer before it cuts a client, or less long before it is given up."""

from __future__ import annotations

import os

from samovar.core.cli import hypercorn_server, options, uvicorn_server


def be_patient() -> None:
    """Take ``TEST_GRACE`` and ``TEST_HOOKS``, in seconds, from the environment in place of the server's constants."""
    if grace := os.environ.get("TEST_GRACE"):
        for module in (hypercorn_server, uvicorn_server):
            vars(module)["GRACE"] = float(grace)
    if hooks := os.environ.get("TEST_HOOKS"):
        vars(options)["HOOKS"] = float(hooks)

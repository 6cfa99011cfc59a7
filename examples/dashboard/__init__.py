"""The dashboard: this machine, live, by websocket, server-sent events and long-poll. ``app.py`` is where to start."""

"""``python -m samovar``: the same as the ``samovar`` command."""

from .core.cli import main

if __name__ == "__main__":
    main()

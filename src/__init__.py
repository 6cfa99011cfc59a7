"""Samovar: a Flask-style async web framework on a broadcast layer that loses nothing in silence."""

if __name__ != "samovar":  # the directory is src/, the package is samovar
    raise ImportError(f"import this package as 'samovar', not {__name__!r} (run: pip install -e .)")

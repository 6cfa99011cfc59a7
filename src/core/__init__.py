"""The Flask-style framework: what carries requests, and channels, to clients."""

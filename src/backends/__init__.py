"""The doors to brokers: one file a broker, each an implementation of ``broadcast.backend.Backend``."""

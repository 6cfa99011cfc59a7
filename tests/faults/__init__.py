"""Delivery under faults: real brokers, a bad network, dying workers, and a checker that misses nothing."""

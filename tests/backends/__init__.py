"""Tests of the doors to brokers."""

import pytest

pytest.register_assert_rewrite("samovar.backends.contract")

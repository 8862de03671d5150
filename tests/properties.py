"""How properties are tried: bounded, and the same examples every time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# the examples follow from the test's code, so that a red test is red again; fixtures are shared by all examples
BOUNDED = settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

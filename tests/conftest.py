"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Machines that do other things meanwhile are slow now and then: that turns no test red.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

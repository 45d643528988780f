"""Driving with hidden physics and unforeseen events. Declared in `family`, simulated in `simulation`."""

from mrl_tasks.driving.family import Driving

__all__ = ["Driving"]

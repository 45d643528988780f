"""Six MuJoCo robots with hidden physics and goals. Declared in `family`, played in `gait`, moved by `cpu`."""

from mrl_tasks.locomotion.family import Locomotion

__all__ = ["Locomotion"]

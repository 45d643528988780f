"""Six MuJoCo robots with hidden physics and goals: declared in `family`, stepped in `environment`.

The simulation is `cpu` (MuJoCo) or `gpu` (MuJoCo Warp).
"""

from mrl_tasks.locomotion.family import Locomotion

__all__ = ["Locomotion"]

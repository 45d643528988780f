"""CartPole with hidden physics. Declared in `family`, simulated in `simulation`."""

from mrl_tasks.cartpole.family import CartPole

__all__ = ["CartPole"]

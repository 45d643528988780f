"""CartPole with hidden physics: declared in `family`, simulated in `environment`."""

from mrl_tasks.cartpole.family import CartPole

__all__ = ["CartPole"]

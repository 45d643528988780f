"""Parameters and options of CartPole. Only `make` imports the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mrl_bench.family import Param
from mrl_bench.types import EnvSpec, TaskBatch

if TYPE_CHECKING:
    import torch

    from mrl_tasks.cartpole.environment import CartPoleEnv

DT = 0.02  # [s] per control step, which is one integration step
TRACK_LIMIT = 2.4  # [m] largest distance of the cart from the middle of the track

# The defaults are those of Gymnasium's CartPole-v1, which has the first five parameters only. The bounds are wide:
# in some corners the pole cannot be balanced, so a scenario must choose its ranges.
_PARAMS: Mapping[str, Param] = {
    "gravity": Param(9.8, 0.1, 50.0, "m/s^2", "acceleration of free fall"),
    "cart_mass": Param(1.0, 0.05, 20.0, "kg", "mass of the cart"),
    "pole_mass": Param(0.1, 0.005, 5.0, "kg", "mass of the pole, spread evenly along it"),
    "pole_half_length": Param(0.5, 0.05, 5.0, "m", "distance from the hinge to the middle of the pole"),
    "force_magnitude": Param(10.0, 0.1, 100.0, "N", "force on the cart at a full action"),
    "wiring": Param(1.0, -1.0, 1.0, "1", "-1 if the motor is reversed, else 1", values=(-1.0, 1.0)),
    "cart_friction": Param(0.0, 0.0, 10.0, "N", "Coulomb friction between cart and track"),
    "pole_friction": Param(0.0, 0.0, 0.1, "N m s", "viscous friction in the hinge"),
    "actuator_delay": Param(
        default=0.0,
        low=0.0,
        high=10.0,
        unit="control steps",
        doc="delay from an action to its force; the motor gets 0 until the first action arrives",
        values=tuple(map(float, range(11))),
    ),
    "wind_force": Param(0.0, -20.0, 20.0, "N", "constant force on the cart, to the right if positive"),
}
_TARGET: Mapping[str, Param] = {
    "target_position": Param(0.0, -2.0, 2.0, "m", "position on the track where the reward is highest"),
}


@dataclass(frozen=True)
class CartPole:
    """Keep a pole upright on a cart that moves along a track (Barto, Sutton & Anderson 1983).

    With default parameters and `control="bang_bang"` it is Gymnasium's CartPole-v1.
    Observation (4,): x [m], x_dot [m/s], theta [rad, 0 is upright, positive to the right], theta_dot [rad/s].
    Action (1,). The episode terminates once |x| > 2.4 m or |theta| > 12 degrees.
    """

    # Control steps of a full episode.
    horizon: int = 500
    # "force" scales the action to newtons; "bang_bang" always gives full force, to the right if the action is > 0.
    control: Literal["force", "bang_bang"] = "force"
    # "balance" gives 1 a step; "target" gives max(0, 1 - |x - target_position| / 2 m).
    reward: Literal["balance", "target"] = "balance"

    @property
    def params(self) -> Mapping[str, Param]:
        return {**_PARAMS, **_TARGET} if self.reward == "target" else _PARAMS

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(obs_dim=4, act_dim=1, horizon=self.horizon, dt=DT, obs_scale=(1.0, 1.0, 0.125, 1.0))

    @property
    def reward_range(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def simulator(self) -> str:
        return "cartpole 1"

    def make(
        self, tasks: TaskBatch, episodes: int, device: torch.device, dtype: torch.dtype | None = None
    ) -> CartPoleEnv:
        """B x E instances on `device`, in float32 or float64.

        Raises:
            UsageError: a parameter with listed values has another value.
        """
        from mrl_tasks.cartpole.environment import CartPoleEnv

        return CartPoleEnv(self, tasks, episodes, device, dtype)

"""The worked examples of docs/algorithms.md: every number in its tables, recomputed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mrl_agents.dqn import Dqn, DqnConfig
from torch import Tensor
from torch.func import grad

from mrl_bench.types import EnvSpec

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text()


def printed(corner: str) -> dict[str, tuple[str, ...]]:
    """The table whose first cell says `corner`: the first cell of each row -> the others."""
    lines = PAGE[PAGE.index(f"| {corner} |") :].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    table = {row[0]: tuple(row[1:]) for row in rows}
    assert len(table) == len(lines), "two rows have one name"
    return table


def says(cell: str, value: float) -> bool:
    """Whether a printed number is this value, to the digits that it is printed with."""
    decimals = len(cell.partition(".")[2])
    return abs(float(cell) - value) <= 0.5 * 10.0**-decimals + 1e-9


def check(corner: str, computed: dict[str, tuple[float | None, ...]]) -> None:
    """Compares a table with numbers; None is an empty cell."""
    table = printed(corner)
    assert set(table) == set(computed)
    for name, values in computed.items():
        for cell, value in zip(table[name], values, strict=True):
            right = cell == "" if value is None else cell != "" and says(cell, value)
            assert right, f"{corner}, {name}: {cell} is printed, {value} was computed"


def prose(pattern: str) -> list[str]:
    """The groups of a pattern that occurs once in the page."""
    found = re.findall(pattern, " ".join(PAGE.split()))
    assert len(found) == 1, f"{pattern!r} is there {len(found)} times"
    return list(found[0]) if isinstance(found[0], tuple) else [found[0]]


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_a_misprint_is_found() -> None:
    assert says("0.54", 0.54)
    assert says("1.2273", 27 / 22)
    assert not says("1.2274", 27 / 22)
    assert not says("-0.5", 0.5)
    with pytest.raises(AssertionError, match="is printed"):
        check("linear MAML", dict.fromkeys(printed("linear MAML"), (0.0, 0.0, 0.0)))


# -- MAML ---------------------------------------------------------------------------------------------------------


def test_two_lines() -> None:
    theta, alpha, rows = number(0.0), 0.05, {}
    for x, y in ((1.0, 1.0), (2.0, 2.0)):

        def loss(theta: Tensor, x: float = x, y: float = y) -> Tensor:
            return 0.5 * (y - theta * x) ** 2

        def step(theta: Tensor, loss: Callable[[Tensor], Tensor] = loss) -> Tensor:
            return theta - alpha * grad(loss)(theta)

        def after(
            theta: Tensor, loss: Callable[[Tensor], Tensor] = loss, step: Callable[[Tensor], Tensor] = step
        ) -> Tensor:
            return loss(step(theta))

        values = {
            "gradient before": grad(loss)(theta),
            "adapted": step(theta),
            "bracket": 1 - alpha * grad(grad(loss))(theta),
            "first-order gradient": grad(loss)(step(theta)),
            "second-order gradient": grad(after)(theta),
        }
        for name, value in values.items():
            rows.setdefault(name, []).append(value.item())
    sums = {name: sum(values) if "gradient" in name else None for name, values in rows.items()}
    check("linear MAML", {name: (*values, sums[name]) for name, values in rows.items()})
    first, second = prose(
        r"rate 0\.1 leads to ([\d.]+) by the first-order gradient, and to ([\d.]+) by the second"
    )
    assert says(first, -0.1 * sum(rows["first-order gradient"]))
    assert says(second, -0.1 * sum(rows["second-order gradient"]))


# -- MAML-MBML ----------------------------------------------------------------------------------------------------

ALPHA, BETA, RHO, BIAS = 0.3, 0.2, 0.8, 0.5


def real_loss(theta: Tensor) -> Tensor:
    return 0.5 * (theta - 1) ** 2


def imagined_return(theta: Tensor, bias: float) -> Tensor:
    return -0.5 * (theta - 1 - bias) ** 2


def sequential(theta: Tensor, bias: float, sign: float = 1.0) -> Tensor:
    """A real step, then `sign` times an imagined one from where it led."""
    stepped = theta - ALPHA * grad(real_loss)(theta)
    return stepped + sign * BETA * grad(imagined_return)(stepped, bias)


def joint(theta: Tensor, bias: float, sign: float = 1.0) -> Tensor:
    """Both gradients at the same weights."""
    return theta - ALPHA * grad(real_loss)(theta) + sign * BETA * grad(imagined_return)(theta, bias)


def settled(update: Callable[[Tensor], Tensor]) -> float:
    theta = number(0.0)
    for _ in range(300):
        theta = update(theta)
    assert math.isclose(update(theta).item(), theta.item(), abs_tol=1e-12)
    return theta.item()


def test_the_combined_update() -> None:
    adapted_bias = (number(BIAS) - RHO * grad(lambda b: 0.5 * b**2)(number(BIAS))).item()
    updates: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {
        "sequential, as the agent does": (BIAS, lambda x: sequential(x, BIAS)),
        "sequential, adapted model": (adapted_bias, lambda x: sequential(x, adapted_bias)),
        r"joint, $\theta - \alpha \nabla L + \beta \nabla \hat J$": (BIAS, lambda x: joint(x, BIAS)),
        "sequential with the wrong sign": (BIAS, lambda x: sequential(x, BIAS, sign=-1)),
        "joint with the wrong sign": (BIAS, lambda x: joint(x, BIAS, sign=-1)),
    }
    check(
        "combined update",
        {
            name: (bias, update(number(0.0)).item(), settled(update))
            for name, (bias, update) in updates.items()
        },
    )


def test_what_the_page_says_of_the_combined_update() -> None:
    start = number(0.0)
    gap = sequential(start, BIAS) - joint(start, BIAS)
    predicted = -ALPHA * BETA * grad(grad(imagined_return))(start, BIAS) * grad(real_loss)(start)
    assert gap.item() == pytest.approx(predicted.item())
    assert says(prose(r"here \$0\.54 - 0\.6 = (-[\d.]+)\$")[0], gap.item())
    factor = prose(r"shrinks by \$\(1 - 0\.3\)\(1 \+ 0\.2\) = ([\d.]+)\$")[0]
    assert says(factor, grad(lambda x: sequential(x, BIAS, sign=-1))(start).item())
    product, constant = prose(
        r"is \$\(1 - 0\.2\)\(1 - 0\.3\) = ([\d.]+)\$; with imagination held constant it is ([\d.]+)\."
    )
    assert says(product, grad(sequential)(start, BIAS).item())
    assert says(constant, grad(lambda x: x - ALPHA * grad(real_loss)(x))(start).item())


def test_many_imagined_steps_settle_at_the_models_optimum() -> None:
    theta = number(0.0)
    for _ in range(200):
        theta = theta + BETA * grad(imagined_return)(theta, BIAS)
    assert theta.item() == pytest.approx(1 + BIAS)


# -- DQN ----------------------------------------------------------------------------------------------------------

ETA, GAMMA = 0.5, 0.9
# What s_1 pays: (tasks, left and right).
MIRRORED = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
UNEQUAL = torch.tensor([[-1.0, 1.0], [1.0, -3.0]], dtype=torch.float64)


def q_learned(pays: Tensor, sweeps: int) -> tuple[float, float, float]:
    """Q(s_1, left), Q(s_1, right) and Q(s_0) after sweeps over a batch of tasks (tasks, 2) that Q cannot tell apart."""
    first, second = number(0.0), torch.zeros(2, dtype=torch.float64)
    for _ in range(sweeps):
        second = second + ETA * (pays - second).mean(0)
        first = first + ETA * (0 + GAMMA * second.max() - first)
    return second[0].item(), second[1].item(), first.item()


def test_one_q_function_of_two_tasks() -> None:
    check(
        "mirrored tasks",
        {
            "task 1 known: one sweep": q_learned(MIRRORED[:1], 1),
            "task 1 known: two sweeps": q_learned(MIRRORED[:1], 2),
            "task 1 known: settled": q_learned(MIRRORED[:1], 100),
            "task unknown: settled": q_learned(MIRRORED, 100),
        },
    )
    check(
        "unequal tasks",
        {
            "task 1 known: settled": q_learned(UNEQUAL[:1], 100),
            "task 2 known: settled": q_learned(UNEQUAL[1:], 100),
            "task unknown: one sweep": q_learned(UNEQUAL, 1),
            "task unknown: settled": q_learned(UNEQUAL, 100),
        },
    )


def q_of_the_agent(pays: Tensor, horizon: int) -> Tensor:
    """Where `Dqn` settles when the task is unknown, (s_0 and s_1, left and right), with a table for a network."""
    spec = EnvSpec(obs_dim=2, act_dim=1, horizon=horizon, dt=1.0)
    agent = Dqn(spec, DqnConfig(hidden_sizes=(), action_bins=2, gamma=GAMMA), 0, torch.device("cpu"))
    table = {key: torch.zeros_like(x) for key, x in agent.learner["weights"].items()}
    second, ended = torch.eye(2)[1], torch.ones(5)
    batch = {  # one step from s_0, and the four from s_1
        "obs": torch.eye(2)[[0, 1, 1, 1, 1]][None],
        "action": torch.tensor([-1.0, -1.0, 1.0, -1.0, 1.0])[None, :, None],
        "next_obs": second.expand(1, 5, 2),
        "reward": torch.cat([torch.zeros(1), pays.flatten().float()])[None],
        "terminated": torch.cat([torch.zeros(1), ended[1:]])[None],
    }
    for _ in range(1500):
        gradient, _ = agent._gradient(table, batch, agent._target(table, batch))
        table["w0"] = table["w0"] - gradient["w0"]
    return table["w0"][0] * agent.unit


@pytest.mark.parametrize("pays", [MIRRORED, UNEQUAL])
def test_the_agent_settles_where_the_example_does(pays: Tensor) -> None:
    left, right, first = q_learned(pays, 100)
    q = q_of_the_agent(pays, horizon=10)
    torch.testing.assert_close(q[1], torch.tensor([left, right]), atol=1e-3, rtol=0)
    assert q[0, 0].item() == pytest.approx(first, abs=1e-3)


def test_hubers_loss_settles_short_of_a_mean_of_distant_payments() -> None:
    settled, mean = prose(r"going right settles at \$(-[\d.]+)\$ instead of \$(-[\d.]+)\$")
    q = q_of_the_agent(UNEQUAL, horizon=2)
    assert q[1, 1].item() == pytest.approx(float(settled), abs=1e-3)
    assert says(mean, UNEQUAL[:, 1].mean().item())

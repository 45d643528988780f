"""What the harness demands of an agent while it plays: broken promises raise ContractError, with the promise's name.

The checks that need the whole agent are in `mrl_bench.checks`; those here are cheap enough for every evaluation.
"""

from __future__ import annotations

import inspect
import logging
import random
import zlib
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves

from mrl_bench.agent import Act, MetaAgent
from mrl_bench.errors import ContractError, kind_of
from mrl_bench.types import Memory, State

METHODS = {
    "meta_train": "(training)",
    "initial_state": "(num_tasks)",
    "start_episode": "(state, num_envs)",
    "act": "(state, memory, step, explore, rng)",
    "adapt": "(state, memory, rollout, rng)",
    "state_dict": "()",
    "load_state_dict": "(tensors)",
}


def require_methods(agent: Any) -> None:
    """Refuses an object that lacks a method of `MetaAgent`."""
    for name, arguments in METHODS.items():
        if not callable(getattr(agent, name, None)):
            raise ContractError(f"{type(agent).__name__} has no method {name}{arguments}")


def require_state(state: State, tasks: int, method: str) -> State:
    """Returns the state that `method` gave, if it is a tree of tensors that lead with B = `tasks`."""
    return _require_tree(state, (tasks,), "(B, ...)", f"{method} returned a state with", f"{method} returned")


def require_memory(memory: Memory, tasks: int, num_envs: int) -> Memory:
    """Returns the memory that `start_episode` gave, if it is a tree of tensors that lead with (B, E)."""
    name = "start_episode returned"
    return _require_tree(memory, (tasks, num_envs), "(B, E, ...)", f"{name} a memory with", name)


def _require_tree(tree: Any, lead: tuple[int, ...], axes: str, having: str, returned: str) -> Any:
    if tree is None:
        raise ContractError(f"{returned} None, not a tree of tensors {axes}; nothing to keep is {{}} or ()")
    for leaf in tree_leaves(tree):
        if not isinstance(leaf, Tensor):
            raise ContractError(
                f"{having} a leaf that is {kind_of(leaf)}; every leaf must be a tensor {axes}"
            )
        if leaf.shape[: len(lead)] != lead:
            found = tuple(leaf.shape)
            raise ContractError(f"{having} a tensor of shape {found}; every leaf must lead with {lead}")
    return tree


class CheckedAct:
    """An agent's `act`, with what it returns brought into the form that the harness needs.

    Args:
        act: the agent's.
        shape: (B, E, A) of its actions.
        strict: whether an action that is not finite is refused too, instead of failing its episode.
    """

    def __init__(self, act: Act, shape: tuple[int, int, int], strict: bool) -> None:
        self._act, self._shape, self._strict = act, shape, strict

    def __call__(self, *arguments: Any) -> tuple[Tensor, Memory]:
        """Returns: actions (B, E, A) as the agent chose them, in the dtype of the observations, and its memory."""
        returned, step = self._act(*arguments), arguments[2]
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise ContractError(f"act must return (action, memory), and returned {kind_of(returned)}")
        action, memory = returned
        if not isinstance(action, Tensor):
            raise ContractError(f"act must return its action as a tensor, and returned {kind_of(action)}")
        if action.shape != self._shape:
            raise ContractError(
                f"act returned actions of shape {tuple(action.shape)}, not (B, E, A) = {self._shape}"
            )
        if action.is_complex():
            raise ContractError("act returned complex actions; they must be real")
        if self._strict and not action.isfinite().all():
            raise ContractError(f"act returned an action that is not finite at t = {step.t}")
        return action.detach().to(step.obs), memory


def keep_ended(alive: Tensor, before: Memory, after: Memory) -> Memory:
    """The memory after a step: new where an instance (B, E) took part in the step, and else as it was before."""
    old, form = tree_flatten(before)
    new, new_form = tree_flatten(after)
    if form != new_form or any(_form(a) != _form(b) for a, b in zip(old, new, strict=True)):
        raise ContractError(
            "act returned a memory of another form than start_episode's: its tree, shapes and dtypes must stay"
        )
    kept = [
        torch.where(alive.view(*alive.shape, *[1] * (now.ndim - 2)), now, then)
        for now, then in zip(new, old, strict=True)
    ]
    return form.unflatten(kept)


def _form(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else type(leaf)


class Unchanged:
    """Refuses an agent that `initial_state`, `start_episode`, `act` or `adapt` has changed since this was made.

    Attributes of the agent and of its class are compared, down to tensors, arrays, containers and random generators.
    """

    def __init__(self, agent: MetaAgent) -> None:
        self._agent, self._before = agent, fingerprint(agent)

    def check(self) -> None:
        now = fingerprint(self._agent)
        for name in [*self._before, *now]:
            if self._before.get(name) != now.get(name):
                raise ContractError(
                    f"initial_state, start_episode, act or adapt changed the agent's {name}: what it learns on a task "
                    "belongs in state or memory, and its random numbers come from rng"
                )


def fingerprint(agent: Any) -> dict[str, Any]:
    """Path of an attribute -> something that changes with its value, for the agent and its class."""
    inherited = [vars(cls) for cls in reversed(type(agent).__mro__[:-1])]
    shared = {
        name: value for members in inherited for name, value in members.items() if _is_data(name, value)
    }
    seen: dict[int, Any] = {}
    return {
        f"{kind} {path}": summary
        for kind, members in (("attribute", vars(agent)), ("class attribute", shared))
        for name, value in members.items()
        for path, summary in _walk(value, name, seen)
    }


def _is_data(name: str, value: Any) -> bool:
    code = inspect.isroutine(value) or inspect.isdatadescriptor(value) or isinstance(value, type)
    return not (name.startswith("__") or name == "_abc_impl" or code)


def _walk(value: Any, path: str, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    if id(value) in seen:
        return
    if isinstance(value, int | float | complex | str | bytes | None):
        yield path, repr(value)
        return
    seen[id(value)] = value  # keeps it alive, so that no other object gets its id
    if (summary := _summary(value)) is not None:
        yield path, summary
    for name, part in _parts(value):
        yield from _walk(part, f"{path}.{name}", seen)


def _summary(value: Any) -> Any:
    """Something that changes with the value of a tensor, an array or a generator; None for anything else."""
    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return str(value.dtype), tuple(value.shape), zlib.crc32(raw.data)
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, zlib.crc32(np.ascontiguousarray(value).tobytes())
    if isinstance(value, torch.Generator):
        return zlib.crc32(value.get_state().numpy().data)
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, bytearray | memoryview):
        return zlib.crc32(value)
    return repr(value.getstate()) if isinstance(value, random.Random) else None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The named parts of a container or an object."""
    if isinstance(value, Tensor | np.ndarray | type | ModuleType | logging.Logger):
        return
    if isinstance(value, Mapping):
        yield from ((str(name), part) for name, part in value.items())
    elif isinstance(value, Collection):
        yield from ((f"{number}", part) for number, part in enumerate(value))
    else:
        slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
        yield from ((name, getattr(value, name)) for name in slots if hasattr(value, name))
    yield from getattr(value, "__dict__", {}).items()


def seed_global_generators(seed: int) -> None:
    """Makes what follows reproducible for agents that draw from global generators. They should draw from rng."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

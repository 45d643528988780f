"""Off-screen rendering of the robots, with the materials of Gymnasium's models.

Images show limb lengths and a crippled leg. They do not show a slope, which is simulated by tilting gravity.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from importlib import reload

import mujoco
import numpy as np
from numpy.typing import NDArray

from mrl_bench.errors import MissingPart
from mrl_bench.types import TaskBatch
from mrl_tasks.locomotion.cpu import quiet
from mrl_tasks.locomotion.physics import task_models
from mrl_tasks.locomotion.robots import Robot, model_path

_TRIAL = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""
_GEOMETRY = (
    *("body_pos", "body_quat", "geom_pos", "geom_quat", "geom_size", "geom_aabb", "geom_rbound"),
    *("jnt_pos", "jnt_axis", "qpos0"),
)


class Renderer:
    """Renders the robot of one task. The camera follows its torso."""

    def __init__(self, robot: Robot, task: TaskBatch, width: int, height: int) -> None:
        """Raises: MissingPart: off-screen rendering does not work on this machine."""
        start_graphics()
        with quiet():  # about a deprecated attribute of half_cheetah.xml
            self._model = _model(robot, task, width, height)
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, height, width)
        self._camera = mujoco.MjvCamera()
        self._camera.distance = 3.5  # [m]
        self._camera.azimuth, self._camera.elevation = 90.0, -15.0
        self._by_height = robot.root.height is not None
        if not self._by_height:
            self._camera.elevation = -60.0  # the swimmer moves in a horizontal plane

    def render(self, positions: NDArray[np.float64]) -> NDArray[np.uint8]:
        """An image of the robot at these coordinates (nq,), (height, width, 3)."""
        self._data.qpos[:] = positions
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        # The camera keeps its height, so that jumps are visible.
        self._camera.lookat[:2] = self._data.xpos[1, :2]
        self._camera.lookat[2] = 0.6 if self._by_height else 0.0
        self._renderer.update_scene(self._data, self._camera)
        image: NDArray[np.uint8] = self._renderer.render()
        return image

    def close(self) -> None:
        self._renderer.close()


def _model(robot: Robot, task: TaskBatch, width: int, height: int) -> mujoco.MjModel:
    """The robot with its materials and a task's geometry, on an infinite floor."""
    spec = mujoco.MjSpec.from_file(str(model_path(robot)))
    spec.compiler.settotalmass = -1.0
    spec.visual.global_.offwidth = max(width, spec.visual.global_.offwidth)
    spec.visual.global_.offheight = max(height, spec.visual.global_.offheight)
    spec.visual.quality.shadowsize = 1024  # the models ask for more, which is slow without a GPU
    model = spec.compile()
    (built,) = task_models(robot, task)
    for name in _GEOMETRY:
        getattr(model, name)[:] = getattr(built, name)
    floor = model.geom("floor")
    floor.size[:2] = 0.0
    material = model.mat(floor.matid.item())
    material.texuniform[:], material.texrepeat[:] = True, 0.5
    material.reflectance[:] = 0.0
    return model


@cache
def start_graphics() -> None:
    """Selects MuJoCo's off-screen backend: the one in MUJOCO_GL, or else the first that works.

    Raises:
        MissingPart: no backend works.
    """
    given = os.environ.get("MUJOCO_GL")
    for name in (given,) if given else ("egl", "osmesa"):
        if _draws(name):
            os.environ["MUJOCO_GL"] = name
            # MuJoCo read the variable when it was imported.
            reload(sys.modules[mujoco.Renderer.__module__].gl_context)
            return
    tried = f"MUJOCO_GL={given}" if given else "neither EGL nor OSMesa"
    raise MissingPart(
        f"{tried} can render on this machine: install libegl1 and libgl1-mesa-dri, or libosmesa6 (Debian)"
    )


def _draws(name: str) -> bool:
    """Whether a backend can render. Tried in a new process, which a wrong driver may abort."""
    command, environment = [sys.executable, "-c", _TRIAL], os.environ | {"MUJOCO_GL": name}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        ran = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0

"""Pictures of the robots, with the looks of Gymnasium's models, drawn without a screen.

Limb lengths and a crippled leg are seen; a slope is not, since gravity is what leans.
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
from mrl_tasks.locomotion.models import model_path
from mrl_tasks.locomotion.physics import task_models
from mrl_tasks.locomotion.robots import Robot

_PROBE = """
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
    """Takes pictures of one task's robot, the camera going along with its torso."""

    def __init__(self, robot: Robot, task: TaskBatch, width: int, height: int) -> None:
        """Raises: MissingPart: nothing here can draw without a screen."""
        start_graphics()
        with quiet():  # half_cheetah.xml sets its mass in a way that is warned of
            self._model = _model(robot, task, width, height)
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, height, width)
        self._camera = mujoco.MjvCamera()
        self._camera.distance = 3.5  # [m]
        self._camera.azimuth, self._camera.elevation = 90.0, -15.0
        self._by_height = robot.root.height is not None
        if not self._by_height:
            self._camera.elevation = -60.0  # a swimmer moves in the plane that it lies in

    def render(self, positions: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The robot with these coordinates (nq,); (height, width, 3)."""
        self._data.qpos[:] = positions
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        # The height stays, so that a jump is seen to be one.
        self._camera.lookat[:2] = self._data.xpos[1, :2]
        self._camera.lookat[2] = 0.6 if self._by_height else 0.0
        self._renderer.update_scene(self._data, self._camera)
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def close(self) -> None:
        self._renderer.close()


def _model(robot: Robot, task: TaskBatch, width: int, height: int) -> mujoco.MjModel:
    """The robot with its looks and a task's geometry, on ground without end."""
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
    """Makes MuJoCo draw off screen, by what MUJOCO_GL names if it is set, else by what works.

    Raises:
        MissingPart: nothing does.
    """
    given = os.environ.get("MUJOCO_GL")
    for name in (given,) if given else ("egl", "osmesa"):
        if _draws(name):
            os.environ["MUJOCO_GL"] = name
            # It had read the variable when it was imported.
            reload(sys.modules[mujoco.Renderer.__module__].gl_context)
            return
    tried = f"MUJOCO_GL={given}" if given else "neither EGL nor OSMesa"
    raise MissingPart(f"{tried} can draw here: install libegl1 and libgl1-mesa-dri, or libosmesa6 (Debian)")


def _draws(name: str) -> bool:
    """Whether a picture can be drawn with it; tried in a process of its own, since a wrong driver may abort."""
    command, environment = [sys.executable, "-c", _PROBE], os.environ | {"MUJOCO_GL": name}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        ran = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0

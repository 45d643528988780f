"""A headless Chromium, driven over its DevTools protocol: what a page looks like, asks for and complains about."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PHONE, DESK = 375, 1280  # widths of windows [px]
COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


# [ratio, text] of every text whose contrast with what is behind it is under 4.5.
LOW_CONTRAST = """(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = rgb => rgb.slice(0, 3)
    .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = numbers(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, words = walker.currentNode.data.trim();
    if (!words || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const front = numbers(element.closest("svg") ? style.fill : style.color);
    const pair = [luminance(front), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5 || front[3] < 1) low.push([ratio, words]);
  }
  return low;
})()"""


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page at a time. `complaints` and `requests` are those since it was opened."""

    def __init__(self, command: Any, events: Any) -> None:
        self._command, self._events = command, events
        self._calls = 0
        self._buffer = b""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": params}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        self._command.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, path: Path, width: int, dark: bool) -> None:
        """Loads a file in a window of this width, in light or dark mode."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.complaints, self.requests = [], []
        self.call("Page.navigate", url=path.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._events.fileno(), 2**16)
            assert piece, "the browser has closed"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if message.get("method") in COMPLAINTS:
            self.complaints.append(json.dumps(message["params"]))
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        return message


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """A running browser with an empty profile. Chromium reads commands from descriptor 3 and answers on 4."""
    read_command, write_command = os.pipe()
    read_event, write_event = os.pipe()
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as profile,  # its processes end a little later
        open(write_command, "wb", buffering=0) as command,
        open(read_event, "rb", buffering=0) as events,
    ):
        process = subprocess.Popen(
            [
                # A shell gives the pipes the numbers that Chromium expects.
                "bash", "-c", f'exec "$@" 3<&{read_command} 4>&{write_event}', "bash", program,
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                "--no-first-run", f"--user-data-dir={profile}", "--remote-debugging-pipe",
            ],
            pass_fds=(read_command, write_event),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_command)
        os.close(write_event)
        try:
            yield Browser(command, events)
        finally:
            process.kill()
            process.wait()

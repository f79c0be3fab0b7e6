"""Drive Chromium over a pipe (Chrome DevTools Protocol) with the standard library."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

KEYS = {"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13}


class Page:
    """One open page. Messages are JSON, each ended by a zero byte; each waits for its answer."""

    def __init__(self, to: Any, answers: Any) -> None:
        self.to, self.answers, self.n, self.session = to, answers, 0, {}
        target = self.send("Target.createTarget", url="about:blank")
        self.session = self.send("Target.attachToTarget", **target, flatten=True)

    def read(self) -> dict:
        return json.loads(b"".join(iter(lambda: self.answers.read(1) or b"\0", b"\0")))

    def send(self, method: str, **params: Any) -> dict:
        self.n += 1
        message = {"id": self.n, "method": method, "params": params, **self.session}
        self.to.write(json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.n:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path, width: int, dark: bool = False) -> None:
        """Show a page on a screen of this width and wait until all pictures are loaded."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.enable")
        assert "errorText" not in self.send("Page.navigate", url=path.as_uri()), path
        while self.read().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        event = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, **event)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextmanager
def chromium() -> Iterator[Page]:
    """Run a new headless browser, which ends with the block."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "install chromium, or leave out -m browser"
    (read_here, write_there), (read_there, write_here) = os.pipe(), os.pipe()
    flags = f"--headless=new --no-sandbox --remote-debugging-pipe 3<&{read_there} 4>&{write_there}"
    command = ["bash", "-c", f'exec "$0" {flags}', program]
    with ExitStack() as stack:
        to = stack.enter_context(open(write_here, "wb", buffering=0))
        answers = stack.enter_context(open(read_here, "rb"))
        pipes = {"pass_fds": (read_there, write_there), "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, **pipes)
        os.close(read_there)
        os.close(write_there)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        yield Page(to, answers)

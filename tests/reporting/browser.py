"""A small WebDriver client (W3C WebDriver over HTTP) for headless Chromium, so that tests need no library."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


class Browser:
    """Headless Chromium; use as a context."""

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        assert DRIVER is not None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.profile = tempfile.mkdtemp(prefix="gcsam-med-chromium-")
        self.driver = subprocess.Popen(
            [DRIVER, f"--port={self.port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self.profile},
        )
        self.session = ""
        self._wait_until_ready()
        options = {
            "binary": CHROMIUM,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={self.profile}"],
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        made = self._call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/{made['sessionId']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.session:
                self._call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(20)
            shutil.rmtree(self.profile, ignore_errors=True)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("chromedriver did not start")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/session{self.session}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310
            return json.load(response)["value"]

    def open(self, page: Path | str) -> None:
        """Open a file or an address, and wait until it is loaded."""
        self._call("POST", "/url", {"url": page if isinstance(page, str) else page.resolve().as_uri()})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def view(self, width: int, height: int = 900, *, scheme: str = "light", media: str = "screen") -> None:
        """Set the window's size, the reader's colour scheme and the medium."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", media=media, features=features)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return its result."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str) -> Any:
        """Run JavaScript that calls its last argument when it is done."""
        return self._call("POST", "/execute/async", {"script": script, "args": []})

    def allow_scripts(self, seconds: float) -> None:
        """Let `run_async` take so long."""
        self._call("POST", "/timeouts", {"script": int(1000 * seconds)})

    def logs(self, kind: str) -> list[dict[str, Any]]:
        """Return and clear the log ``browser`` or ``performance``."""
        entries: list[dict[str, Any]] = self._call("POST", "/se/log", {"type": kind})
        return entries

    def axe(self) -> tuple[list[tuple[str, str]], int]:
        """Check the page with axe-core: serious violations (rule, element), and how many rules passed."""
        package = importlib.util.find_spec("axe_playwright_python")
        assert package is not None
        assert package.origin is not None
        self.run(Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
        found = self.run_async("axe.run().then(arguments[arguments.length - 1])")
        serious = [
            (v["id"], v["nodes"][0]["html"][:120])
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        return serious, len(found["passes"])

    def screenshot(self, path: Path) -> None:
        """Take a picture of the whole page."""
        size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """Print the page to PDF as the style sheet says (A4)."""
        self.devtools("Emulation.setEmulatedMedia", media="", features=[])
        return base64.b64decode(self.devtools("Page.printToPDF", preferCSSPageSize=True)["data"])

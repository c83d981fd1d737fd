"""How the local page takes 2,000 cases: time until its rooms are drawn, and the longest pause of scrolling.

    python benchmarks/view.py [N]

It makes N tiny synthetic cases, an evaluated run and predictions of them, opens both rooms in headless
Chromium (with chromedriver), and scrolls through each by a fifth of the window at every frame. A pause is the
time between two frames (requestAnimationFrame). Thumbnails are made as they come into sight.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gcsam_med.evaluation import evaluate_run, evaluation_folder
from gcsam_med.files import write_json
from gcsam_med.inference import predict
from gcsam_med.reporting.tables import frame_to_csv
from gcsam_med.reporting.write import metrics_json
from gcsam_med.view.library import Library
from gcsam_med.view.rooms import routes
from gcsam_med.view.server import application, listen
from tests.builders import make_prepared, make_run, reseal
from tests.reporting.browser import Browser

PAINTED = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
SCROLL = """
const done = arguments[arguments.length - 1];
let last = performance.now();
const gaps = [];
function step(now) {
  gaps.push(now - last); last = now;
  if (scrollY + innerHeight >= document.documentElement.scrollHeight - 2)
    return done([gaps, [...document.images].filter(i => i.complete && i.naturalWidth).length]);
  scrollBy(0, innerHeight / 5);
  requestAnimationFrame(step);
}
requestAnimationFrame(now => { last = now; requestAnimationFrame(step); });
"""


def prepared(root: Path, n: int) -> Path:
    """An evaluated run of n test cases, and predictions of n images inside it."""
    data = make_prepared(root / "data", n=n + 60, classes=("benign", "malignant"), with_masks=False)
    table = data.manifest.assign(split=np.where(np.arange(n + 60) < 60, data.manifest["split"], "test"))
    table.to_csv(data.root / "manifest.csv", index=False)
    data = reseal(data.root)
    run = make_run(root / "runs", data, "classification", name="calls")
    report = evaluate_run(run, device="cpu", resamples=100)
    folder = evaluation_folder(report, run)
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", metrics_json(report))
    (folder / "cases.csv").write_text(frame_to_csv(report.cases), encoding="utf-8")
    images = root / "images"
    images.mkdir()
    for number, pixels in enumerate(data.images(np.arange(n))):
        Image.fromarray(pixels).save(images / f"{number:05d}.png")
    predict(run, images, run / "predictions/all", device="cpu", threshold=0.5)
    return root / "runs"


def main(n: int) -> None:
    with tempfile.TemporaryDirectory() as folder, listen(0) as opened:
        runs, port = prepared(Path(folder), n), opened.getsockname()[1]
        served = application(routes(Library(runs)), port, "once")
        server = uvicorn.Server(uvicorn.Config(served, log_level="critical", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        with Browser() as browser:
            browser.view(1200)
            browser.allow_scripts(600)
            browser.open(f"http://127.0.0.1:{port}/?token=once")
            for room in ("cases", "predictions"):
                for visit in ("first", "second"):
                    browser.open("about:blank")
                    browser.open(f"http://127.0.0.1:{port}/{room}")
                    cards = browser.run("return document.querySelectorAll('.grid li').length")
                    print(f"{room}: {cards} cards, {visit} visit: drawn after {browser.run(PAINTED):.0f} ms")
                    sys.stdout.flush()
                gaps, shown = browser.run_async(SCROLL)
                middle, high, longest = np.percentile(gaps, (50, 95, 100))
                print(
                    f"  scrolled in {len(gaps)} frames, {shown} thumbnails; frames are {middle:.0f} ms "
                    f"apart (median), {high:.0f} (95 %), {longest:.0f} at most"
                )
        server.should_exit = True
        thread.join(20)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)

"""Look at a built site in headless Chromium: `python docs/check_browser.py build/html`.

The start page, an API page, a notebook and a search are opened at the width of a desktop and of a phone. A page must
have a title and text, its images must load, nothing may be wider than the window, and the search must find pages.
Without Chromium the check is skipped, which is said. `--screenshots FOLDER` saves pictures.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PAGES = (
    "docs/index.html",
    "docs/generated/polygene_scverse.tl.train.html",
    "tutorials/01_train_and_predict.html",
    "search.html?q=confidence",
)
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
FRAMES = "_frames.html"
"""Page that opens the others in frames; it is made here, not in the site."""
SCRIPT = """
<!DOCTYPE html><meta charset="utf-8"><pre id="found"></pre><script>
const found = [];
async function look(page, name, width, height) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = height + "px"; frame.src = page;
  const loaded = new Promise(done => frame.onload = done);
  document.body.append(frame);
  await loaded;
  await new Promise(done => setTimeout(done, 3000));
  const inside = frame.contentDocument, root = inside.documentElement;
  found.push({
    page: page, size: name, title: inside.title, letters: inside.body.innerText.length,
    beyond: root.scrollWidth - root.clientWidth,
    broken: [...inside.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
    results: inside.querySelectorAll("#search-results li").length,
  });
  frame.remove();
}
(async () => {
  for (const [page, name, width, height] of WANTED) await look(page, name, width, height);
  document.getElementById("found").textContent = "FOUND" + JSON.stringify(found) + "END";
})();
</script>
"""


class Handler(SimpleHTTPRequestHandler):
    """Files of the site, and the page with the frames."""

    def do_GET(self) -> None:
        """Answer a request."""
        if self.path != f"/{FRAMES}":
            super().do_GET()
            return
        wanted = [[f"/{page}", name, *size] for page in PAGES for name, size in SIZES.items()]
        body = SCRIPT.replace("WANTED", json.dumps(wanted)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def run(browser: str, *arguments: str) -> str:
    """What headless Chromium prints, with a profile of its own."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless=new", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, check=True).stdout


def faults(found: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the pages, as sentences."""
    wrong = []
    for entry in found:
        where = f"{entry['page']} ({entry['size']})"
        if not entry["title"] or entry["letters"] < 200:
            wrong.append(f"{where}: no title or no text")
        if entry["beyond"] > 0:
            wrong.append(f"{where}: {entry['beyond']} pixels wider than the window")
        wrong += [f"{where}: {source} does not load" for source in entry["broken"]]
        if "search" in entry["page"] and not entry["results"]:
            wrong.append(f"{where}: nothing is found")
    return wrong


def main() -> None:
    """Open the pages, and fail if something is wrong with one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--screenshots", type=Path, help="folder for pictures of the pages")
    arguments = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"skipped: none of {list(BROWSERS)} is installed")
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(arguments.site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        text = run(browser, "--virtual-time-budget=60000", "--dump-dom", f"{address}/{FRAMES}")
        for page in PAGES if arguments.screenshots else ():
            for name, (width, height) in SIZES.items():
                file = arguments.screenshots.resolve() / f"{re.split(r'[/.]', page)[-2]}_{name}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                options = ("--virtual-time-budget=10000", f"--window-size={width},{height}", f"--screenshot={file}")
                run(browser, *options, f"{address}/{page}")
    finally:
        server.shutdown()
    match = re.search(r"FOUND(.*?)END", text, re.DOTALL)
    if match is None:
        sys.exit("Chromium has not opened the pages")
    found = json.loads(html.unescape(match[1]))
    if wrong := faults(found):
        sys.exit("\n".join(wrong))
    print(f"{len(found)} views are as they should be: {len(PAGES)} pages, {', '.join(SIZES)}")


if __name__ == "__main__":
    main()

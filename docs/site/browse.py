"""Looks at every page of the built site in Chromium, as wide as a phone and as a desktop.

    pip install playwright
    scripts/docs && python docs/site/browse.py [--screenshots DIRECTORY]

Fails if a page logs an error, requests anything of another site, is wider than the window, or if
the search finds nothing. Uses the system's chromium: on Debian, apt install chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import itertools
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, Request, ViewportSize, sync_playwright

SITE = Path(__file__).resolve().parents[2] / "build" / "docs" / "site"
WINDOWS: dict[str, ViewportSize] = {
    "phone": {"width": 390, "height": 844},
    "desktop": {"width": 1280, "height": 800},
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SHOWN = ("index.html", "docs/broker.html", "docs/benchmarks.html", "api/hosts.html")

# How far the page reaches beyond the window.
OVERFLOW = """() => {
    const root = document.documentElement;
    return Math.max(root.scrollWidth, document.body.scrollWidth) - root.clientWidth;
}"""


@contextlib.contextmanager
def served() -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Watch:
    """Collects what goes wrong on the pages of a tab."""

    def __init__(self, page: Page, base: str) -> None:
        self.faults: list[str] = []
        self._base = base
        page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on("request", self._see_request)
        page.on("requestfailed", self._see_failure)

    def _see_request(self, request: Request) -> None:
        if not request.url.startswith((self._base, "data:", "blob:")):
            self.faults.append(f"requests {request.url}")

    def _see_failure(self, request: Request) -> None:
        # What the next page has interrupted is no failure.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"{request.failure}: {request.url}")


def look(browser: Browser, base: str, screenshots: Path | None) -> list[str]:
    faults = []
    paths = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    for (kind, size), scheme in itertools.product(WINDOWS.items(), SCHEMES):
        context = browser.new_context(viewport=size, color_scheme=scheme)
        page = context.new_page()
        watch = Watch(page, base)
        for path in paths:
            page.goto(base + path, wait_until="load")
            if (beyond := page.evaluate(OVERFLOW)) > 0:
                watch.faults.append(f"{beyond} pixels wider than the window")
            faults += [f"{path}, {kind}, {scheme}: {fault}" for fault in watch.faults]
            watch.faults.clear()
            if screenshots is not None and path in SHOWN:
                name = f"{path.replace('/', '-').removesuffix('.html')}-{kind}-{scheme}.png"
                page.screenshot(path=screenshots / name, full_page=kind == "desktop")
        if kind == "desktop":
            faults += search(page, base)
        context.close()
    print(f"{len(paths)} pages, {len(faults)} faults")
    return faults


def search(page: Page, base: str) -> list[str]:
    page.goto(base + "index.html")
    page.fill("input[name=query]", "reattach")
    try:
        page.wait_for_selector(".md-search-result__item a", timeout=10_000)
    except Exception as error:
        return [f"the search finds nothing: {error}"]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenshots", type=Path, metavar="DIRECTORY")
    arguments = parser.parse_args()
    if arguments.screenshots is not None:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
    with served() as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        faults = look(browser, base, arguments.screenshots)
        browser.close()
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""Builds the site from the pages of the repository; see scripts/docs.

build/docs/source gets the pages, where they are in the repository so that links work there and on
the site alike, and the reference. What mkdocs warns of is an error; then every link of the site is
followed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "docs" / "site"
SOURCE = ROOT / "build" / "docs" / "source"
SITE = ROOT / "build" / "docs" / "site"

PAGES = ("*.md", "docs/*.md", "examples/*/README.md", "bench/README.md")
FILES = ("docs/assets/*.svg", "docs/assets/*/*.svg", "docs/site/extra.css")

LINK = re.compile(r"\]\(([^)#:\s]+)")

# The pages of the reference: a title, a sentence, and what they describe.
REFERENCE = {
    "hosts": (
        "Hosts",
        "Imported from `pygo_plugin`, but `utils`. [Launching](../docs/launching.md) is a guide.",
        """client.Client client.Address client.cleanup_clients config.ClientConfig config.Cmd
        config.HandshakeConfig config.ReattachConfig security.SecureConfig security.TLSConfig
        utils""",
    ),
    "plugins": (
        "Plugins",
        "Imported from `pygo_plugin`. [Serving](../docs/serving.md) is a guide.",
        """serve Server config.ServeConfig config.ServeTestConfig Plugin service Service
        ServicePlugin""",
    ),
    "errors": ("Errors", "[Launching](../docs/launching.md#errors) has an overview.", "errors"),
    "aio": ("asyncio", "[asyncio](../docs/asyncio.md) is the guide.", "aio"),
    "broker": ("The broker", "[The broker](../docs/broker.md) is the guide.", "broker"),
    "rpc": ("rpc", "[gRPC without plugins](../docs/rpc.md) is the guide.", "rpc"),
    "netrpc": ("netrpc", "[net/rpc](../docs/netrpc.md) is the guide.", "netrpc"),
    "gob": ("gob", "[gob](../docs/gob.md) is the guide.", "gob"),
    "runners": ("Runners", "[Runners](../docs/runners.md) is the guide.", "runners"),
    "supervise": (
        "Supervision",
        "[Supervision](../docs/supervision.md) is the guide.",
        "supervise",
    ),
    "pool": ("Pools", "[Pools](../docs/pools.md) is the guide.", "pool"),
    "dask": ("Dask", "[Dask](../docs/dask.md) is the guide.", "dask"),
    "testing": ("Testing", "[Testing](../docs/testing.md) is the guide.", "testing"),
    "stubs": ("Types of stubs", "[Types](../docs/typing.md) is the guide.", "stubs"),
}


def stage() -> None:
    """Copies pages, what they link to, and what they show to SOURCE."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    pages = [path for pattern in PAGES for path in ROOT.glob(pattern)]
    others = [path for pattern in FILES for path in ROOT.glob(pattern)]
    for page in pages:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            if path.is_file() and path.suffix != ".md" and path.is_relative_to(ROOT):
                others.append(path)
    for path in {*pages, *others}:
        copy = SOURCE / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    (SOURCE / "api").mkdir()
    for name, (title, sentence, objects) in REFERENCE.items():
        described = "\n".join(f"::: pygo_plugin.{found}\n" for found in objects.split())
        (SOURCE / "api" / f"{name}.md").write_text(f"# {title}\n\n{sentence}\n\n{described}")


class Page(HTMLParser):
    """What a page of the site links to and loads, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.anchors.update(value for key, value in attributes if key in ("id", "name") and value)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(values.get("href") or "")
        elif values.get("src"):
            self.loaded.append(values["src"] or "")


def broken_links() -> Iterator[str]:
    pages = {path: Page(path) for path in SITE.rglob("*.html") if path.name != "404.html"}
    for path, page in pages.items():
        where = path.relative_to(SITE)
        for target in page.loaded:
            if urlsplit(target).scheme or urlsplit(target).netloc:
                yield f"{where} loads {target} from elsewhere"
        for target in page.links + page.loaded:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                yield f"{where} links to {target}, which is not there"
            elif file in pages and unquote(parts.fragment) not in {"", *pages[file].anchors}:
                yield f"{where} links to {target}, which has no such anchor"


def main() -> int:
    stage()
    environment = {**os.environ, "PYTHONPATH": str(HERE), "NO_MKDOCS_2_WARNING": "true"}
    command = [sys.executable, "-m", "mkdocs", "-q", "build", "--strict", "-f", "mkdocs.yml"]
    if subprocess.run(command, cwd=HERE, env=environment, check=False).returncode != 0:
        return 1
    broken = sorted(set(broken_links()))
    print(*broken, sep="\n", end="\n" if broken else "")
    pages = sum(1 for _ in SITE.rglob("*.html"))
    print(f"{pages} pages in {SITE.relative_to(ROOT)}, {len(broken)} broken links")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""The licences of what a core is made of.

A release of grpcio has its own licence only, not those of the libraries inside. Their sources begin
with notices, which are the licence, or name one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

# Licences that the sources refer to and that the release does not have.
STORED = Path(__file__).resolve().parent / "licences"
# Where only these files count: the others refer to them, or are not compiled.
NOTICES = {"zlib": "zlib.h"}

COMMENT = re.compile(r"\s*(/\*.*?\*/|(?:[ \t]*//[^\n]*\n)+)", re.S)
MARKS = re.compile(r"^[ \t]*(?:/\*+|\*+/|\*(?!/)|//)?[ \t]?|[ \t]*\*+/[ \t]*$", re.M)


def notices(name: str, folder: Path) -> Iterator[str]:
    """The comments at the beginning of sources that speak of copyright, each once."""
    seen = set()
    for file in sorted(folder.rglob(NOTICES.get(name, "*.[ch]*"))):
        if not file.is_file() or file.suffix not in (".c", ".cc", ".h", ".inc"):
            continue
        text = file.read_text(errors="replace")
        position = 0
        while match := COMMENT.match(text, position):
            position = match.end()
            notice = MARKS.sub("", match[1]).strip()
            words = " ".join(notice.split())
            if re.search(r"copyright", notice, re.I) and words not in seen:
                seen.add(words)
                yield notice + "\n"


def licence(name: str, folder: Path) -> str:
    """The text to hand on with a library of the given name, whose sources are in the folder."""
    files = [*sorted(folder.glob("LICEN[CS]E*")), *sorted(folder.glob("COPYING*"))]
    texts = [file.read_text(errors="replace") for file in files]
    if (stored := STORED / f"{name}.txt").is_file() and not texts:
        texts.append(stored.read_text())
    return f"\n{'-' * 72}\n\n".join(texts or notices(name, folder))

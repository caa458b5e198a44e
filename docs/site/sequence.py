"""Sequence diagrams in mermaid's language as SVG, without JavaScript.

It knows what the documentation uses:

    sequenceDiagram
        participant H as Host
        H->>P: a call, drawn as a solid arrow
        P-->>H: an answer, drawn as a dashed arrow
        H->>H: what one side does by itself
        Note over H: a box

Anything else is an error. As a program it draws a file: sequence.py launch.mmd launch.svg
"""

from __future__ import annotations

import re
import sys
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

CHARACTER = 7.2  # the width of one, in pixels, of the font below at 14 pixels
LINE = 18  # the height of a line of text
WRAP = 38  # characters
GAP = 14  # between two steps
MARGIN = 12
HEAD = 34  # the height of a participant's box

PARTICIPANT = re.compile(r"participant (\w+) as (.+)")
ARROW = re.compile(r"(\w+)(--?)>>(\w+): (.+)")
NOTE = re.compile(r"Note over (\w+): (.+)")

# Standing alone, a drawing has a ground of its own, to be readable anywhere. In a page of the
# site, the same classes are styled by extra.css.
STYLE = """
svg { --ground: #ffffff; --ink: #1f2937; --line: #64748b; --fill: #eef2ff; --accent: #4338ca; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #161b26; --ink: #e5e7eb; --line: #94a3b8; --fill: #283152; --accent: #a5b4fc; }
}
.ground { fill: var(--ground); }
.box { fill: var(--fill); stroke: var(--accent); }
.life { stroke: var(--line); stroke-dasharray: 3 4; }
.arrow { stroke: var(--accent); stroke-width: 1.6; fill: none; }
.answer { stroke-dasharray: 6 4; }
.head { fill: var(--accent); }
text { fill: var(--ink); font: 14px system-ui, sans-serif; text-anchor: middle; }
.name { font-weight: 600; }
"""


@dataclass
class Step:
    sender: str
    receiver: str
    text: list[str]
    is_answer: bool = False
    is_note: bool = False


def parse(source: str) -> tuple[dict[str, str], list[Step]]:
    """The participants' names, from left to right, and what happens."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    if not lines or lines[0] != "sequenceDiagram":
        raise ValueError(f"not a sequence diagram: {source!r}")
    names: dict[str, str] = {}
    steps = []
    for line in lines[1:]:
        if match := PARTICIPANT.fullmatch(line):
            names[match[1]] = match[2]
        elif match := ARROW.fullmatch(line):
            text = textwrap.wrap(match[4], WRAP)
            steps.append(Step(match[1], match[3], text, is_answer=match[2] == "--"))
        elif match := NOTE.fullmatch(line):
            text = textwrap.wrap(match[2], WRAP)
            steps.append(Step(match[1], match[1], text, is_note=True))
        else:
            raise ValueError(f"not understood in a sequence diagram: {line!r}")
    return names, steps


def draw(source: str, *, title: str, style: str = "") -> str:
    names, steps = parse(source)
    longest = max(len(line) for step in steps for line in step.text)
    lane = longest * CHARACTER + 3 * MARGIN
    side = lane / 2 + MARGIN  # a note is as wide as its text
    place = {name: side + lane * index for index, name in enumerate(names)}
    width = 2 * side + lane * (len(names) - 1)
    parts: list[str] = []
    y = MARGIN + HEAD + GAP
    for step in steps:
        y = _draw_step(parts, step, place, y)
    height = y + HEAD + MARGIN
    lives = [
        f'<line class="life" x1="{x:.0f}" y1="{MARGIN}" x2="{x:.0f}" y2="{height - MARGIN:.0f}"/>'
        for x in place.values()
    ]
    boxes = [
        _box(x, top, len(name) * CHARACTER + 4 * MARGIN, HEAD, [name], "name")
        for name, x in zip(names.values(), place.values())
        for top in (MARGIN, height - MARGIN - HEAD)
    ]
    ground = f"<style>{style}</style>" if style else ""
    ground += '<rect class="ground" width="100%" height="100%" rx="8"/>' if style else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sequence" role="img" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">'
        f"<title>{escape(title)}</title>{ground}{''.join(lives)}{''.join(boxes)}{''.join(parts)}"
        "</svg>"
    )


def _draw_step(parts: list[str], step: Step, place: dict[str, float], y: float) -> float:
    """Draws it below |y|. Returns: where it ends."""
    x, target = place[step.sender], place[step.receiver]
    high = LINE * len(step.text)
    if step.is_note or x == target:
        width = max(map(len, step.text)) * CHARACTER + 2 * MARGIN
        parts.append(_box(x, y, width, high + MARGIN, step.text, "note"))
        return y + high + MARGIN + GAP
    parts.append(_text((x + target) / 2, y, step.text, "label"))
    y += high + 6
    toward = 1 if target > x else -1
    kind = "arrow answer" if step.is_answer else "arrow"
    tip = target - 2 * toward
    parts.append(
        f'<path class="{kind}" d="M{x:.0f} {y:.0f}H{tip - 8 * toward:.0f}"/>'
        f'<path class="head" d="M{tip:.0f} {y:.0f}l{-10 * toward} -5v10z"/>'
    )
    return y + GAP


def _box(x: float, y: float, width: float, height: float, text: list[str], kind: str) -> str:
    top = y + (height - LINE * len(text)) / 2
    return (
        f'<rect class="box" x="{x - width / 2:.0f}" y="{y:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" rx="6"/>{_text(x, top, text, kind)}'
    )


def _text(x: float, y: float, lines: list[str], kind: str) -> str:
    return "".join(
        f'<text class="{kind}" x="{x:.0f}" y="{y + LINE * index + 14:.0f}">{escape(line)}</text>'
        for index, line in enumerate(lines)
    )


def fence(source: str, language: str, css: str, options: Any, md: Any, **more: Any) -> str:
    """For pymdownx.superfences: a block of mermaid becomes a drawing in the page."""
    return f'<div class="diagram">{draw(source, title="Sequence diagram")}</div>'


def standing_alone(source: str) -> str:
    """A whole file, of which the first line is a comment that is the drawing's title."""
    comment, _, rest = source.partition("\n")
    return draw(rest, title=comment.removeprefix("%%").strip(), style=STYLE) + "\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(standing_alone(Path(sys.argv[1]).read_text()))

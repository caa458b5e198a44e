"""The diagrams of the documentation. The stage `docs` of scripts/test builds the site itself."""

from __future__ import annotations

import sys

import pytest
from snippets import ROOT, blocks, pages

sys.path.append(str(ROOT / "docs" / "site"))

import sequence


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "assets").glob("*.mmd")))
def test_stored_diagrams_are_up_to_date(path):
    drawn = sequence.standing_alone(path.read_text())
    assert path.with_suffix(".svg").read_text() == drawn, (
        f"run python docs/site/sequence.py {path.relative_to(ROOT)} "
        f"{path.with_suffix('.svg').relative_to(ROOT)}"
    )


def test_diagrams_in_pages():
    diagrams = [block for page in pages() for block in blocks(page) if block.language == "mermaid"]
    assert diagrams
    for block in diagrams:
        names, steps = sequence.parse(block.text)
        drawn = sequence.draw(block.text, title="a diagram")
        assert all(name in drawn for name in names.values())
        assert drawn.count('class="head"') == sum(
            not step.is_note and step.sender != step.receiver for step in steps
        )


def test_what_a_diagram_cannot_show():
    with pytest.raises(ValueError, match="loop forever"):
        sequence.parse("sequenceDiagram\n    loop forever")

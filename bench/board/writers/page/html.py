"""The page as one file: style, script and data within, and a policy that lets the browser ask nothing of anybody."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from bench.board.contents import Contents
from bench.board.writers.page.document import document
from bench.board.writers.page.sections import Section

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = (  # in this order one script
    *("elements", "format", "data", "state", "tooltip", "filters", "table", "columns", "board"),
    *("scales", "pareto", "fits", "main"),
)
# within a script element these could end it, or begin a comment
ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def page(contents: Contents, sections: Sequence[Section] = ()) -> str:
    """HTML, the same for the same records."""
    style, script = _asset("page.css"), "".join(_asset(f"{name}.js") for name in SCRIPTS)
    return Template(_asset("page.html")).substitute(
        policy=f"default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'",
        style=style,
        script=script,
        data=embedded(document(contents, sections)),
    )


def embedded(data: Any) -> str:
    """JSON that no string in it can end, whatever a record has in it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(ESCAPED)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """As a content security policy names what it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"

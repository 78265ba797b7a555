"""index.html: the board as one file that opens from disk, asks nothing of a network and is read with keys or by ear."""

from bench.board.page.document import document
from bench.board.page.html import page
from bench.board.page.sections import Section, sections

__all__ = ["Section", "document", "page", "sections"]

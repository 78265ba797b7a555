"""index.html: the board as one file that opens from disk, asks nothing of a network and is read with keys or by ear."""

from bench.board.writers.page.document import document
from bench.board.writers.page.html import page
from bench.board.writers.page.sections import Section, sections

__all__ = ["Section", "document", "page", "sections"]

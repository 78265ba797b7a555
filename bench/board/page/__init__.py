"""index.html: the board as one file that opens from disk, asks nothing of a network and is read with keys or by ear."""

from bench.board.page.document import Section, document
from bench.board.page.html import page

__all__ = ["Section", "document", "page"]

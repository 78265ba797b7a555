"""Boards as Markdown, CSV, JSON, LaTeX and a page."""

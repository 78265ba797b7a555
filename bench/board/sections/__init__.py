"""The sections of a board, each made from records."""

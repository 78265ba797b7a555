"""Loss surfaces around a trained cell. What measures them is imported from its file: it needs an engine."""

from bench.landscape.settings import Landscape

__all__ = ["Landscape"]

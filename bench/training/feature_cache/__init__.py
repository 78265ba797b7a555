"""The feature cache: what the frozen layers below all training give, computed once per example and kept on disk."""

from bench.training.feature_cache.cache import Features, open_features

__all__ = ["Features", "open_features"]

"""Metrics that are measured once, at the end of a training, on the weights that are kept."""

from aesearch.scores.base import Score, Trained

__all__ = ["Score", "Trained"]

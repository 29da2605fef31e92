"""Metrics that are measured once, at the end of a training, on the weights that are kept."""

from aesearch.scores.base import Score, Trained
from aesearch.scores.detection import Detection, anomaly_scores, score_split
from aesearch.scores.labels import FineTuned, Probe
from aesearch.scores.pictures import PCA, Denoising

__all__ = ["PCA", "Denoising", "Detection", "FineTuned", "Probe", "Score", "Trained", "anomaly_scores", "score_split"]

"""Scores: metrics of trained replicas, beside the losses.

Scores on codes can be measured at any epoch. The others are measured once, at the end, on the weights that are kept.
"""

from aesearch.scores.anomalies import Detection, anomaly_scores, score_split
from aesearch.scores.comparisons import UDR, Comparison, ModelCentrality
from aesearch.scores.declared import check_declared, check_measures, check_scores
from aesearch.scores.disentanglement import CodeScore, Disentanglement
from aesearch.scores.images import PCA, Denoising, Frechet, Quality
from aesearch.scores.labels import FineTuned, Probe
from aesearch.scores.likelihood import Likelihood
from aesearch.scores.measuring import measure, protocols, references
from aesearch.scores.score import Reference, Score, Trained, drawn
from aesearch.scores.source import Posterior, Source

__all__ = [
    "PCA",
    "UDR",
    "CodeScore",
    "Comparison",
    "Denoising",
    "Detection",
    "Disentanglement",
    "FineTuned",
    "Frechet",
    "Likelihood",
    "ModelCentrality",
    "Posterior",
    "Probe",
    "Quality",
    "Reference",
    "Score",
    "Source",
    "Trained",
    "anomaly_scores",
    "check_declared",
    "drawn",
    "measure",
    "protocols",
    "references",
    "score_split",
]

# A metric without a description would let ``use --best`` choose wrongly, so it is an error here.
check_measures()
check_scores(globals()[name] for name in __all__)

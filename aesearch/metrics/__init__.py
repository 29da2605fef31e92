"""Metrics: numbers about a trained model, as pure functions on NumPy arrays.

They can be used without the rest of aesearch.
"""

from aesearch.metrics.activity import active_codes, active_units, perplexity, sparsity
from aesearch.metrics.chen import mig_chen
from aesearch.metrics.dci import DCI, dci, dci_from_importances
from aesearch.metrics.downstream import knn_accuracy, labelled, probe_accuracy
from aesearch.metrics.explicitness import explicitness
from aesearch.metrics.frechet import frechet, frechet_gaussian, random_conv_features
from aesearch.metrics.gaps import dcimig, mig_sup, modularity, modularity_from_information
from aesearch.metrics.infomec import InfoMEC, infomec
from aesearch.metrics.irs import irs
from aesearch.metrics.kinds import MetricKind
from aesearch.metrics.mig_sap import mig, mutual_information, sap, sap_mixed, sap_svm
from aesearch.metrics.quality import bits_per_dimension, pca_mse, psnr, ssim
from aesearch.metrics.registry import metric_of
from aesearch.metrics.roc import auroc, average_precision, fpr_at_tpr, threshold
from aesearch.metrics.unlabelled import (
    mean_mutual_information,
    model_centrality,
    total_correlation,
    udr,
    wasserstein_dependence,
)
from aesearch.metrics.votes import beta_vae_score, chance_of_votes, factor_vae_score, grid_factors, votes_of_groups

__all__ = [
    "DCI",
    "InfoMEC",
    "MetricKind",
    "active_codes",
    "active_units",
    "auroc",
    "average_precision",
    "beta_vae_score",
    "bits_per_dimension",
    "chance_of_votes",
    "dci",
    "dci_from_importances",
    "dcimig",
    "explicitness",
    "factor_vae_score",
    "fpr_at_tpr",
    "frechet",
    "frechet_gaussian",
    "grid_factors",
    "infomec",
    "irs",
    "knn_accuracy",
    "labelled",
    "mean_mutual_information",
    "metric_of",
    "mig",
    "mig_chen",
    "mig_sup",
    "model_centrality",
    "modularity",
    "modularity_from_information",
    "mutual_information",
    "pca_mse",
    "perplexity",
    "probe_accuracy",
    "psnr",
    "random_conv_features",
    "sap",
    "sap_mixed",
    "sap_svm",
    "sparsity",
    "ssim",
    "threshold",
    "total_correlation",
    "udr",
    "votes_of_groups",
    "wasserstein_dependence",
]

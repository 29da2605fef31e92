"""Numbers about a trained model: pure functions on NumPy arrays, usable without the rest of aesearch."""

from aesearch.metrics.codes import active_units
from aesearch.metrics.disentanglement import mig, mutual_information, sap, sap_svm

__all__ = ["active_units", "mig", "mutual_information", "sap", "sap_svm"]

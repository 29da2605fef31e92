"""Studies: one question each, written as a Python file.

The file ends with ``study = Study(...)``.
"""

from aesearch.study.goals import Adaptive, AtLeast, AtMost, Constraint, Maximize, Metric, Minimize
from aesearch.study.loading import load_study, size
from aesearch.study.space import PROBES, SAMPLERS, contains
from aesearch.study.spec import check_spec, describe_study
from aesearch.study.stopping import ASHA, Hyperband, Judge, Median, Pareto, Plateau, Rule
from aesearch.study.study import Best, Study

__all__ = [
    "ASHA",
    "PROBES",
    "SAMPLERS",
    "Adaptive",
    "AtLeast",
    "AtMost",
    "Best",
    "Constraint",
    "Hyperband",
    "Judge",
    "Maximize",
    "Median",
    "Metric",
    "Minimize",
    "Pareto",
    "Plateau",
    "Rule",
    "Study",
    "check_spec",
    "contains",
    "describe_study",
    "load_study",
    "size",
]

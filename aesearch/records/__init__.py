"""Records: what trials leave, as files and as tables."""

from aesearch.records.record import Record, medians, merged, summary, write_json
from aesearch.records.results import Results, from_records, local_results, spread

__all__ = [
    "Record",
    "Results",
    "from_records",
    "local_results",
    "medians",
    "merged",
    "spread",
    "summary",
    "write_json",
]

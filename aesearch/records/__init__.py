"""Records: what trials leave, as files and as tables.

Only the files are imported here: the process that writes them needs no pandas.
"""

from aesearch.records.record import (
    JSON_FILES,
    MOST_REASON,
    Record,
    epoch_line,
    failure_of,
    join_replicas,
    medians,
    merged,
    summary,
    write_json,
)

__all__ = [
    "JSON_FILES",
    "MOST_REASON",
    "Record",
    "epoch_line",
    "failure_of",
    "join_replicas",
    "medians",
    "merged",
    "summary",
    "write_json",
]

"""Answer a study: ask for trials, train them, and note how they ended.

This is the only room that imports Ray.
"""

import os

# Ray reads these when it is imported: its own snapshots, loggers and tables are not used.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "auto")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray gives its workers the niceness 15, with which they come to a standstill beside programs of others.
os.environ.setdefault("RAY_worker_niceness", "0")

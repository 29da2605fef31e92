"""Run a whole study with a ledger and an MLflow store.

Ray is real, and there where a test is of what it does.
"""

from pathlib import Path

from helpers.stores import new_store

from aesearch import Study
from aesearch.search.cluster import Where
from aesearch.search.driver import run_study
from aesearch.search.ledger import Ledger
from aesearch.tracking import Tracker


def search(
    study: Study, folder: Path, data_root: Path, retry: bool = False, by_ray: bool = False
) -> tuple[Ledger, str]:
    """Search in this process, which is much quicker, or by the Ray that is there."""
    uri = new_store(folder / "mlflow.db")
    ledger = Ledger.open(study, folder / "home")
    if retry:
        assert ledger.retry_failed() > 0
    tracker = Tracker(uri, ledger.describe(), ledger.folder / "trials")
    tracker.open()
    run_study(ledger, Where(None, data_root, alone=not by_ray), tracker.notify, lambda shares: None)
    tracker.close("FINISHED")
    ledger.close()
    assert tracker.problem == ""
    return ledger, uri

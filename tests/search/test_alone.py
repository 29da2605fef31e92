import os
import signal

import pytest

from aesearch.search.alone import interrupts_kept


class Interrupted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_a_destructor_is_not_lost():
    before = signal.getsignal(signal.SIGINT)
    with interrupts_kept() as check:
        check()
        interrupted = Interrupted()
        del interrupted
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before

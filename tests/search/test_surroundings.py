"""What goes wrong around a study: limits of the shell, disks that are full or read-only, a stop of its processes."""

import gc
import resource
import subprocess
import sys
import time

import psutil
import pytest
from helpers.disks import disk, fill, remount
from helpers.small import TINY

from aesearch.datasets import contents_checked
from aesearch.errors import UserError
from aesearch.search.state import take_lock
from aesearch.search.surroundings import FILES, check_folder, check_temporary


def limited(limit: int, value: int, *command: str) -> subprocess.CompletedProcess[str]:
    def lower() -> None:
        resource.setrlimit(limit, (value, value))

    whole = [sys.executable, *command]
    return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=60, preexec_fn=lower)


@pytest.mark.parametrize(("most", "refused"), [(64, True), (83, True), (84, False), (4096, False)])
def test_too_few_open_files_for_the_workers_are_refused(most, refused):
    """benchmarks/faults.py holds that a study runs with the limit that the error names."""
    code = "from aesearch.search import surroundings; surroundings.check_open_files(2, 2)"
    done = limited(resource.RLIMIT_NOFILE, most, "-c", code)
    said = f"must be allowed 84 open files for trials on 2 CPUs, 2 at once, but this one is allowed {most}; raise the "
    assert (said in done.stderr, done.returncode) == (refused, int(refused))
    assert FILES + 4 * (2 + 2 + 1) == 84


def test_too_little_address_space_is_one_line_before_imports(in_tmp):
    done = limited(resource.RLIMIT_AS, 4 * 10**9, "-m", "aesearch", "run", "missing.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "aesearch: a process must be allowed 8 GB of address space, and more with a GPU, but this one is allowed "
        "4.0 GB; raise the limit: ulimit -v unlimited\n"
    )


def test_a_full_temporary_disk_is_refused_before_ray_starts(short, monkeypatch):
    with disk(short / "tmp", "1m") as folder:
        monkeypatch.setenv("TMPDIR", str(folder))
        with pytest.raises(UserError, match=rf"Ray must have 16 MiB to write, but the disk of {folder} has [01] MiB; "):
            check_temporary()
        remount(folder, "size=20m")
        check_temporary()


def test_a_folder_that_cannot_be_written_is_one_line(in_tmp, short, monkeypatch):
    """What is mended goes on: the last check passes."""
    with disk(in_tmp / "home", "1m") as home:
        folder = home / "s"
        folder.mkdir()
        take_lock(folder).release()
        check_folder(folder)
        for harm, heal, said in (
            (lambda: remount(home, "ro"), lambda: remount(home, "rw"), f"{folder} is read-only; mend that"),
            (lambda: fill(home), (home / "filling").unlink, f"the disk of {folder} is full; free some"),
            (
                lambda: folder.rename(home / "t"),
                lambda: (home / "t").rename(folder),
                f"{folder} was moved or removed; ",
            ),
        ):
            harm()
            with pytest.raises(UserError, match="the same command goes on with what is missing") as caught:
                check_folder(folder)
            assert said in str(caught.value)
            heal()
            check_folder(folder)
    with disk(short / "tmp", "64k") as tmp:
        fill(tmp)
        monkeypatch.setenv("TMPDIR", str(tmp))
        take_lock(in_tmp).release()
        with pytest.raises(UserError, match=f"the disk of {tmp} is full"):
            check_folder(in_tmp)


@pytest.mark.parametrize("option", ["--home", "--data"])
def test_a_read_only_folder_is_one_line(here, in_tmp, option):
    with disk(in_tmp / "disk", "1m") as folder:
        remount(folder, "ro")
        done = here("run", "small.py", option, str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"aesearch: Read-only file system: {folder}/")
    assert done.stderr.endswith("; mend that, and give the same command again\n")
    assert done.stderr.count("\n") == 1


def test_data_load_from_a_read_only_folder_that_has_them(in_tmp):
    with disk(in_tmp / "disk", "64m") as folder:
        digest = TINY.load(folder).digest()
        gc.collect()
        remount(folder, "ro")
        with contents_checked():
            assert TINY.load(folder).digest() == digest


LIMITED = """
import sys, time
from aesearch.search import time_limit
time_limit.PART_SECONDS = 0.1
with time_limit.limited(float(sys.argv[1]), lambda: print("ended", flush=True)):
    print("begun", flush=True)
    for _ in range(int(sys.argv[2])):
        time.sleep(0.1)
"""


def test_time_in_which_a_process_is_stopped_does_not_count():
    """Ctrl-Z stops the workers with the driver: no trial may be taken for hung when they go on."""
    told = []
    for stopped in (0.0, 4.0):
        command = [sys.executable, "-c", LIMITED, "3", "5" if stopped else "40"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            running.stdout.readline()
            process = psutil.Process(running.pid)
            process.suspend()
            time.sleep(stopped)
            process.resume()
            told.append(running.communicate(timeout=30)[0])
    assert told == ["ended\n", ""]

"""Time the import of aesearch and its --help, over a bare interpreter.

python benchmarks/startup.py [--rounds 11]
"""

import argparse
import subprocess
import sys
import time
from statistics import median

from table import print_table

COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import aesearch": ["-c", "import aesearch"],
    "python -m aesearch --help": ["-m", "aesearch", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    bare = median(seconds["bare interpreter"])
    print_table(
        ["what", f"median of {rounds}", "over the bare interpreter", "asked"],
        [
            [
                name,
                f"{median(taken):.3f} s",
                f"{median(taken) - bare:.3f} s",
                "" if median(taken) == bare else "under 0.3 s",
            ]
            for name, taken in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()

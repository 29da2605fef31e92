"""Find the Python of the pages, and check its types.

python tests/helpers/doc_blocks.py
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
# What the pages' text says that the reader has.
GIVEN = "import numpy as np\nimages: np.ndarray[tuple[int, ...], np.dtype[np.float32]]\nrun_id: str\n"


class Block(NamedTuple):
    """Python in a page, below its ``line``."""

    page: str
    line: int
    code: str


def blocks(page: str) -> list[Block]:
    """List the Python of a page, whose path is below the repository's root."""
    text = (ROOT / page).read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [Block(page, text[: match.start(1)].count("\n"), match[1]) for match in found]


def check_types() -> int:
    """Run mypy on all blocks, and print page and line of what it finds.

    Each block is a module of its own.
    """
    with tempfile.TemporaryDirectory() as name:
        pages = {}
        for block in (block for page in PAGES for block in blocks(page)):
            path = Path(name) / f"{Path(block.page).stem}_{block.line}.py"
            # Empty lines before it: mypy's line is the page's.
            path.write_text(GIVEN + "\n" * (block.line - GIVEN.count("\n")) + block.code)
            pages[str(path)] = block.page
        command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", *pages]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    said = done.stdout
    for path, page in pages.items():
        said = said.replace(path, page)
    print(said, end="")
    return done.returncode


if __name__ == "__main__":
    sys.exit(check_types())

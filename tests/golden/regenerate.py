"""Rewrites `expected/` of all golden cases, or of those named. Read the difference before you
commit it: what stands there afterwards is what the rules are held to.

Run from the repository: python -m tests.golden.regenerate [case ...]
"""

import sys
import tempfile
from pathlib import Path

from tests.golden.golden import CASES, NAMES, run_case


def main(names: list[str]) -> None:
    """Run the cases and write what came of them."""
    for name in names or NAMES:
        folder = CASES / name / "expected"
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as workspace:
            found = run_case(name, Path(workspace))
        for old in folder.iterdir():
            old.unlink()
        for table, text in found.items():
            (folder / table).write_text(text)
        print(name, *sorted(found))


if __name__ == "__main__":
    main(sys.argv[1:])

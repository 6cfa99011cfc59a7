"""Type checkers of users know every type of the public interface: ``python -m tests.types``.

Pyright reads an installed package without inferring what it does not say, so each of its types has to be written.
This asks Pyright (by its distribution basedpyright, which brings all it needs) how complete they are, and prints what
is not.
"""

from __future__ import annotations

import re
import subprocess
import sys


def main() -> int:
    """Print what type checkers do not know; returns the exit code."""
    command = ["basedpyright", "--verifytypes", "samovar", "--ignoreexternal"]
    told = subprocess.run(command, capture_output=True, text=True).stdout
    complete = re.search(r"completeness score: ([\d.]+)%", told)
    if complete is None:
        print(told, file=sys.stderr)
        return 1
    if complete[1] == "100":
        return 0
    print(*re.findall(r"^.*error:.*\n.*$", told, re.MULTILINE), sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""What importing costs: processor time and modules of ``import samovar``, beside ``import quart``.

    python benchmarks/imports.py
    python benchmarks/imports.py --rounds 31 samovar quart flask

Each figure is that of a fresh interpreter, whose own start is not counted; byte code is compiled before the first
round, into a folder of this run's own. The rounds alternate, so that a noisy minute hits all alike: printed are the
medians, and the median of the rounds' ratios to the last package named.
"""

from __future__ import annotations

# ruff: noqa: T201  # it prints its figures
import argparse
import ast
import os
import statistics
import subprocess
import sys
import tempfile

SCRIPT = """
import sys, time
before, start = len(sys.modules), time.process_time()
import {package}
print((time.process_time() - start, len(sys.modules) - before))
"""


def import_once(package: str, cache: str) -> tuple[float, int]:
    """Processor seconds of importing *package* in a fresh interpreter, and the modules it brought.

    Args:
        package: its name.
        cache: the folder of the byte code.
    """
    env = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", SCRIPT.format(package=package)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    seconds, modules = ast.literal_eval(run.stdout)
    return seconds, modules


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("packages", nargs="*", default=["samovar", "quart"])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    packages: list[str] = args.packages
    times: dict[str, list[float]] = {package: [] for package in packages}
    with tempfile.TemporaryDirectory() as cache:
        modules = {package: import_once(package, cache)[1] for package in packages}
        for number in range(args.rounds):
            for package in packages if number % 2 else reversed(packages):
                times[package].append(import_once(package, cache)[0])
    last = times[packages[-1]]
    print(f"{'import':<12}{'CPU ms':>8}{'modules':>9}{'ratio':>7}")
    for package, own in times.items():
        ratio = statistics.median(mine / other for mine, other in zip(own, last, strict=True))
        print(f"{package:<12}{statistics.median(own) * 1000:>8.0f}{modules[package]:>9}{ratio:>7.2f}")


if __name__ == "__main__":
    main()

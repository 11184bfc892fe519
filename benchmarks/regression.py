"""Fail if speed relative to a dense BERT has dropped: `python benchmarks/regression.py`; takes some minutes.

Runs `benchmarks/speed.py --genes 512 --quick` and compares each ratio with the one in `benchmarks/results/speed.md`.
Both sides of a ratio are measured in the same run, so it depends much less on the machine than times do. The tolerance
allows for the remaining differences: a ratio may drop to half of the committed one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
KEYS = ("genes", "network", "step")
"""Columns that name a row."""
Row = tuple[str, ...]


def ratios(text: str) -> dict[Row, float]:
    """Ratio of each row of a table that `speed.py` printed.

    Parameters
    ----------
    text
        A page with one table in markdown.
    """
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    head, *rows = (line for line in lines if not set("".join(line)) <= set("-: "))
    at = [head.index(key) for key in (*KEYS, "ratio")]
    return {tuple(row[i] for i in at[:-1]): float(row[at[-1]]) for row in rows}


def fallen(
    committed: Mapping[Row, float], measured: Mapping[Row, float], share: float
) -> dict[Row, tuple[float, float]]:
    """Rows whose ratio is below a share of the committed one, with both ratios.

    Parameters
    ----------
    committed, measured
        Ratios by row.
    share
        Fraction of the committed ratio that is tolerated.

    Raises
    ------
    KeyError
        If no row is in both.
    """
    common = [row for row in measured if row in committed]
    if not common:
        raise KeyError(f"none of the measured rows {list(measured)} is among the committed ones.")
    return {row: (committed[row], measured[row]) for row in common if measured[row] < share * committed[row]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--committed", type=Path, default=HERE / "results" / "speed.md")
    parser.add_argument("--measured", type=Path, help="a table of speed.py; by default it is run")
    parser.add_argument("--share", type=float, default=0.5, help="fraction of the committed ratio that is tolerated")
    arguments = parser.parse_args()
    measured = arguments.measured or HERE.parent / "build" / "speed.md"
    if arguments.measured is None:
        measured.parent.mkdir(exist_ok=True)
        command = [sys.executable, str(HERE / "speed.py"), "--genes", "512", "--quick", "--output", str(measured)]
        subprocess.run(command, check=True)
    committed, found = (ratios(path.read_text(encoding="utf-8")) for path in (arguments.committed, measured))
    for row, ratio in found.items():
        print(f"{', '.join(row)}: {ratio:g} (committed {committed.get(row, float('nan')):g})")
    if bad := fallen(committed, found, arguments.share):
        listed = "\n".join(f"{', '.join(row)}: {now:g}, committed {before:g}" for row, (before, now) in bad.items())
        sys.exit(f"Below {arguments.share:g} of the committed ratio:\n{listed}")


if __name__ == "__main__":
    main()

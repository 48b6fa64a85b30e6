"""How a benchmark tells its result: one flat JSON object, kept under bench/results."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def p50(seconds: Sequence[float]) -> float:
    """Return the median in milliseconds."""
    return round(statistics.median(seconds) * 1000, 1)


def tell(name: str, result: Mapping[str, float | int | str]) -> None:
    """Print the result as the last line and keep it."""
    line = json.dumps(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(line + "\n")
    print(line)

"""The table of docs/performance.md, written from the newest result of each comparison.

python -m benchmarks.performance_page            write it
python -m benchmarks.performance_page --check    exit 1 where the page is not what the data say
"""

import json
from typing import Any

from benchmarks.pages import rows, write_or_check
from benchmarks.record import RESULTS

COMPARED = ("training", "training-to_quality", "top_k", "evaluation", "report", "peers", "peers-quality")


def newest() -> list[dict[str, Any]]:
    """The latest file of each comparison, number of threads and kind of processor; names sort by the date, their end."""
    found: dict[tuple[str, int, bool], dict[str, Any]] = {}
    for name in COMPARED:
        for path in sorted(RESULTS.glob(f"{name}-threads*.json")):
            result = json.loads(path.read_text())
            found[name, result["threads"], result["bfloat16"]] = result
    return list(found.values())


def table(results: list[dict[str, Any]]) -> str:
    """A row for each comparison."""
    if not results:
        return "Not measured yet."
    cells = [["what", "beside", "threads", "ours", "theirs", "ours / theirs", "goal", "ours / floor", "measured"]]
    for result in results:
        for number, c in enumerate(result["comparisons"]):
            floor = f"{result['floor']['ours_over_floor']:.2f}" if "floor" in result and not number else ""
            own = [c["what"], result["reference"], str(result["threads"]), f"{c['ours']:,.4g} {c['unit']}"]
            own += [f"{c['theirs']:,.4g} {c['unit']}", f"{c['ratio']:.3f}", f"at most {c['goal']:.2f}", floor]
            kind = "" if result["bfloat16"] else ", trained in float32"
            cells.append([*own, f"{result['date']}, {result['machine']}{kind}"])
    return rows(cells)


def main() -> int:
    """Write or check."""
    return write_or_check("performance_page", __doc__, {"docs/performance.md": {"comparisons": lambda: table(newest())}})


if __name__ == "__main__":
    raise SystemExit(main())

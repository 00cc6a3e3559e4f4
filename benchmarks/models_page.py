"""The tables of docs/models.md and README.md, written from `results/quality_*.json`.

python -m benchmarks.models_page            write them
python -m benchmarks.models_page --check    exit 1 where a page is not what the data say, or they are not of the defaults
"""

import json
from functools import partial
from statistics import fmean
from typing import Any

from benchmarks.pages import rows, write_or_check
from benchmarks.quality import BENCHMARKS
from benchmarks.record import RESULTS
from recsys_ae.models import MODELS

PAGES = {"docs/models.md": tuple(BENCHMARKS), "README.md": ("movielens-small", "ml-1m")}


def results(name: str) -> dict[str, Any]:
    """The result file of one set."""
    found: dict[str, Any] = json.loads((RESULTS / f"quality_{name}.json").read_text())
    return found


def table(result: dict[str, Any]) -> str:
    """Means over the seeds, best first, and how it was measured."""
    metrics = [m for m in result["metrics"] if m not in ("capped_recall@50",)]
    reference = result["reference"]
    less = [f"{metrics[0]} less that of `{reference}`"] if reference else []
    head = ["model", *metrics, *less, "epoch", "CPU time of the fit", "peak memory"]
    entries = sorted(result["entries"].items(), key=lambda pair: -mean(pair[1], metrics[0]))
    cells = [head]
    for name, entry in entries:
        runs = list(entry["seeds"].values())
        own = [f"`{name}`"] + [f"{mean(entry, m):.4f}" for m in metrics]
        if reference:
            own.append("" if name == reference else f"{fmean(r['less_reference'][metrics[0]]['mean'] for r in runs):+.4f}")
        epochs = [r["best_epoch"] for r in runs]
        own.append("" if not any(epochs) else _range(epochs))
        own.append(f"{fmean(r['cpu_seconds'] for r in runs):,.1f} s")
        own.append(f"{max(r['peak_bytes'] for r in runs) / 2**20:,.0f} MiB")
        cells.append(own)
    cells += [[f"`{name}`", f"not measured: {why}", *[""] * (len(head) - 2)] for name, why in result["not_measured"].items()]
    return rows(cells) + "\n\n" + caption(result)


def caption(result: dict[str, Any]) -> str:
    """One line of what, how, where and when."""
    entries = result["entries"].values()
    seeds = sorted({len(entry["seeds"]) for entry in entries})
    data = result["data"]
    said = [
        f"{result['protocol']}. {data['users']:,} users, {data['items']:,} items, {data['interactions']:,} interactions",
        f"means over {' or '.join(map(str, seeds))} split{'s' if seeds[-1] > 1 else ''}",
        "; ".join(sorted({entry["machine"] for entry in entries})),
        " to ".join(sorted({min(e["date"] for e in entries), max(e["date"] for e in entries)})),
        *sorted({entry["note"] for entry in entries} - {""}),
    ]
    return f"{'; '.join(said)}. `python -m benchmarks.quality {result['set']}`"


def mean(entry: dict[str, Any], metric: str) -> float:
    return fmean(run["metrics"][metric] for run in entry["seeds"].values())


def _range(values: list[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def faults(name: str, result: dict[str, Any]) -> list[str]:
    """What of a result file is not of today's models and their defaults."""
    found = []
    for model, kind in MODELS.items():
        entry = result["entries"].get(model)
        if entry is None and model not in result["not_measured"]:
            found.append(f"{name}: {model} is neither measured nor said to be not")
        elif entry is not None and entry["config"] != kind.Config().model_dump(mode="json"):
            found.append(f"{name}: {model} was measured with {entry['config']}, which are not its defaults")
    return found


def main() -> int:
    """Write or check."""
    pages = {page: {name: partial(_table_of, name) for name in names} for page, names in PAGES.items()}
    return write_or_check(
        "models_page", __doc__, pages, lambda: [f for name in BENCHMARKS for f in faults(name, results(name))]
    )


def _table_of(name: str) -> str:
    return table(results(name))


if __name__ == "__main__":
    raise SystemExit(main())

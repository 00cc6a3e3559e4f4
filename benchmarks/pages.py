"""Pages with tables that a command writes: each table stands between two marks that name it and its writer."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
Tables = Mapping[str, Callable[[], str]]
"""What is written between the marks of each name."""


def render(page: str, text: str, writer: str, tables: Tables) -> str:
    """The page with its tables as the data say."""
    for name, table in tables.items():
        begin, end = (f"<!-- {name}: {side} of what benchmarks.{writer} writes -->" for side in ("begin", "end"))
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"{page}: the marks of {name} are not there; expected {begin} and {end}")
        text = f"{before}{begin}\n\n{table()}\n\n{end}{after}"
    return text


def write_or_check(
    writer: str, description: str | None, pages: Mapping[str, Tables], faults: Callable[[], list[str]] = list
) -> int:
    """The command line of a writer: write the pages, or say with `--check` where they are not what the data say."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wrong = faults()
    for page, tables in pages.items():
        old = (ROOT / page).read_text()
        new = render(page, old, writer, tables)
        if not check:
            (ROOT / page).write_text(new)
        elif new != old:
            wrong.append(f"{page}: its tables are not what the data say; run python -m benchmarks.{writer}")
    for fault in wrong:
        print(fault)
    return 1 if check and wrong else 0


def rows(cells: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = cells
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))

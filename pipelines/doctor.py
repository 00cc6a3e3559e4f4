"""doctor: what this machine can do, and with `--measure` how fast, and what training will then cost."""

import os
import platform
import re
import shutil
import tempfile
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

from recsys_ae.artifact import environment, processor
from recsys_ae.ceiling import ceiling, step_cost
from recsys_ae.training.device import resolve_device, resolve_precision

BATCH, WIDTH = 500, 512  # of the steps whose cost is told
CATALOGUES = (10_000, 100_000, 1_000_000)
WRITTEN = 256 * 2**20  # bytes


def examined(folder: Path) -> dict[str, Any]:
    """What there is: versions, processor, memory, GPUs, disk below a folder, extras with what installs them."""
    device = resolve_device("auto")
    gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        **environment(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(pages * size / 2**30, 1),
        "gpus": [{"name": gpu.name, "memory_gib": round(gpu.total_memory / 2**30, 1)} for gpu in gpus],
        "device": str(device),
        "precision": str(resolve_precision("auto", device)).removeprefix("torch."),
        "system": platform.platform(),
        "disk_free_gib": round(shutil.disk_usage(folder).free / 2**30, 1),
        "extras": _extras(),
    }


def measured(folder: Path) -> dict[str, Any]:
    """Rates of products, of copies and of the disk below a folder; and by them a step of mult_dae by size of catalogue."""
    limit = ceiling(BATCH, WIDTH, CATALOGUES[0])
    steps = [step_cost(limit, BATCH, WIDTH, items, exact) for items in CATALOGUES for exact in (True, False)]
    return {**limit.as_json(), "disk_megabytes_per_second": _disk(folder), "steps": [step.as_json() for step in steps]}


def _extras() -> dict[str, dict[str, str | None]]:
    """By extra, its packages with the version that is installed, or None."""
    found: dict[str, dict[str, str | None]] = {}
    for line in requires("recsys-ae") or ():
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        name = re.match(r"[\w.-]+", line)
        if extra is not None and name is not None and extra[1] != "dev":
            found.setdefault(extra[1], {})[name[0]] = _installed(name[0])
    return found


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _disk(folder: Path) -> float:
    """Of a file that is written and on the disk."""
    with tempfile.TemporaryFile(dir=folder) as file:
        block = os.urandom(2**22)
        begin = time.perf_counter()
        for _ in range(WRITTEN // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return round(WRITTEN / 1e6 / (time.perf_counter() - begin), 1)

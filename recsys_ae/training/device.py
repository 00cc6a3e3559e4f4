"""Where and in what precision to compute. `auto` measures instead of assuming."""

import time
from functools import lru_cache

import torch

from recsys_ae.errors import ConfigError
from recsys_ae.products import dense_product, holds_threads
from recsys_ae.training.run import Device, Precision

PROBE = (256, 512, 4096)  # rows, width, items: the shape of a small decoder product
WORTHWHILE = 1.3  # bfloat16 must be this much faster to be taken


def resolve_device(device: Device) -> torch.device:
    """`auto` is CUDA where there is a device. Raises ConfigError for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device {device!r} is unknown; expected auto, cpu, cuda or cuda:N") from None
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r} is not supported; expected auto, cpu, cuda or cuda:N")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {device!r} is not there; this machine has {torch.cuda.device_count()} CUDA devices")
    return found


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the dense products; parameters, softmax and sums stay float32."""
    if precision == "auto":
        return torch.bfloat16 if bfloat16_speedup(device.type) >= WORTHWHILE else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


@lru_cache(maxsize=2)
def bfloat16_speedup(device_type: str) -> float:
    """Time of a float32 product over that of the same product in bfloat16, casts included; the best of nine, once a process.

    On a CPU it is the processor time of one thread: what else runs on the machine changes the clock on the wall, not this.
    """
    device = torch.device(device_type)
    generator = torch.Generator(device).manual_seed(0)
    rows, width, items = PROBE
    left = torch.randn(rows, width, device=device, generator=generator)
    right = torch.randn(items, width, device=device, generator=generator)
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    product = dense_product if holds_threads() else lambda left, right: left @ right.T  # what a step takes

    def seconds(dtype: torch.dtype) -> float:
        times = []
        for _ in range(9):
            begin = clock()
            product(left.to(dtype), right.to(dtype)).float()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock() - begin)
        return min(times)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return seconds(torch.float32) / seconds(torch.bfloat16)
    finally:
        torch.set_num_threads(threads)

"""A Ray cluster of several hosts: network namespaces of this machine, joined by a bridge, each with an address, a name and a
temporary folder of its own. Log, fit and lists by it, each compared with one process; the bytes that a step of training puts
on the network, counted at the hosts' interfaces, against the costs in docs/scaling.md; and a fit of which one host is cut off.

    OMP_NUM_THREADS=1 python -m benchmarks.hosts

Linux, as root: the namespaces are made with `ip` and `unshare`, and go with the run.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch

from benchmarks.onray import apart, ingest, lists, timed
from benchmarks.record import write
from recsys_ae import datasets
from recsys_ae.ceiling import traffic
from recsys_ae.cluster.ray_train import fit_on_ray
from recsys_ae.cluster.session import Room, joined
from recsys_ae.dataset import Dataset
from recsys_ae.log import InteractionLog
from recsys_ae.models import MODELS
from recsys_ae.training.run import Progress, RunContext

HOSTS, CPUS = 3, 2
RAY = str(Path(sys.executable).parent / "ray")
NODE = f"--num-cpus={CPUS} --object-store-memory={300 * 2**20}"
NAME, NETWORK, PORT = "recsys", "10.77.0", 6380
USERS, ITEMS, WIDTH, BATCH = 8_000, 12_000, 64, 500
SHORT, LONG = 2, 6  # epochs: what a fit costs once is in both
EPOCHS, CUT_AFTER = 12, 3


def address(host: int) -> str:
    """Of a host on their network."""
    return f"{NETWORK}.{host + 1}"


# --- the hosts ------------------------------------------------------------------------------------------------------------


def run(*command: str) -> None:
    """A command that has to go well."""
    subprocess.run(command, check=True, capture_output=True, text=True)


@contextmanager
def network() -> Iterator[None]:
    """A namespace for each host, and the bridge that they meet at."""
    with ExitStack() as stack:
        run("ip", "link", "add", f"{NAME}-br", "type", "bridge")
        stack.callback(run, "ip", "link", "del", f"{NAME}-br")
        run("ip", "link", "set", f"{NAME}-br", "up")
        for host in range(HOSTS):
            space, outer, inner = f"{NAME}{host}", f"{NAME}-o{host}", f"{NAME}-i{host}"
            run("ip", "netns", "add", space)
            stack.callback(emptied, space)
            run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space)
            run("ip", "link", "set", outer, "master", f"{NAME}-br", "up")
            for told in (
                ["addr", "add", f"{address(host)}/24", "dev", inner],
                ["link", "set", inner, "up"],
                ["link", "set", "lo", "up"],
            ):
                run("ip", "-n", space, *told)
        yield


def emptied(space: str) -> None:
    """End what runs in a namespace, and with it the namespace and its cable."""
    while found := subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True).stdout.split():
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        time.sleep(0.2)
    run("ip", "netns", "del", space)


def on_host(host: int, names: Path, *command: str) -> subprocess.Popen[str]:
    """A process of a host, which has its own /tmp/ray, knows the hosts by name, and is called by its own."""
    Path("/tmp/ray").mkdir(exist_ok=True)
    begin = f'hostname {NAME}{host} && mount -t tmpfs none /tmp/ray && mount --bind {names} /etc/hosts && exec "$@"'
    isolated = ["ip", "netns", "exec", f"{NAME}{host}", "unshare", "--mount", "--uts", "sh", "-c", begin, "sh"]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen([*isolated, *command], env=environment, stdout=sys.stdout, stderr=sys.stderr, text=True)


def outside() -> str:
    """Where the bridge is, as nsenter is told: with the process that began all this."""
    return f"--net=/proc/{sys.argv[2]}/ns/net"


def bytes_sent() -> int:
    """By all hosts so far, as the bridge's side of their cables counts it."""
    told = subprocess.run(["nsenter", outside(), "cat", "/proc/net/dev"], check=True, capture_output=True, text=True)
    lines = (line.split() for line in told.stdout.splitlines() if line.strip().startswith(f"{NAME}-o"))
    return sum(int(fields[1]) for fields in lines)  # received there is sent here


def cut_off(host: int) -> None:
    """Pull a host's cable: nobody is told."""
    run("nsenter", outside(), "ip", "link", "set", f"{NAME}-o{host}", "down")


# --- what the first host does ---------------------------------------------------------------------------------------------


@contextmanager
def joined_by_all() -> Iterator[str]:
    """The address of the cluster that all hosts are in."""
    where = f"{address(0)}:{PORT}"
    with head(), joined(where) as ray:
        deadline = time.monotonic() + 120
        while len(found := {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}) < HOSTS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {sorted(found)} have joined")
            time.sleep(1)
        yield where


@contextmanager
def head() -> Iterator[None]:
    place = [f"--node-ip-address={address(0)}", f"--port={PORT}"]
    run(RAY, "start", "--head", *place, *NODE.split(), "--include-dashboard=false")
    try:
        yield
    finally:
        subprocess.run([RAY, "stop", "--force"], capture_output=True)


class Fits:
    """mult_dae on generated users, by one process and by a worker on each of two hosts."""

    def __init__(self, folder: Path) -> None:
        table = datasets.synthetic(n_users=USERS, n_items=ITEMS, seed=1).events
        self.data = Dataset.from_log(InteractionLog.from_table(table))
        self.folder = folder

    def losses(self, epochs: int, on: Room | None, share: Literal["users", "items"] = "users", **run_keys: Any) -> list[float]:
        """Of a fit, here or on the cluster."""
        config = MODELS["mult_dae"].Config(latent=WIDTH, epochs=epochs, batch_size=BATCH, softmax="exact")
        model = MODELS["mult_dae"](config, len(self.data.items))
        context = RunContext(seed=0, device="cpu", precision="float32", **run_keys)
        if on is None:
            return model.fit(self.data.histories, validation=None, run=context).losses
        fit = partial(fit_on_ray, folder=self.folder, restarts=5)
        return fit(model, self.data.histories, None, context, on, share=share).losses

    def wire(self, share: Literal["users", "items"]) -> dict[str, Any]:
        """Bytes that all hosts send in a step, against what the costs say; and how far the losses are from one process's."""
        sent, found = {}, []
        for epochs in (SHORT, LONG):
            begin = bytes_sent()
            found = self.losses(epochs, Room(2, CPUS), share)
            sent[epochs] = bytes_sent() - begin
        steps = -(-len(self.data.histories) // BATCH) * (LONG - SHORT)
        a_step = (sent[LONG] - sent[SHORT]) / steps
        expected = 2 * traffic(BATCH, WIDTH, len(self.data.items))[share]  # a ring of two: each sends what is added up once
        return {
            "sent": a_step,
            "expected": expected,
            "ratio": a_step / expected,
            "differs": apart(self.losses(LONG, None), found),
        }

    def cut(self) -> dict[str, Any]:
        """A fit of which one of two workers' hosts is cut off: the other goes on alone."""
        import ray

        where, seen = list[str](), list[tuple[int, float]]()

        def tell(progress: Progress) -> None:
            seen.append((progress.epoch, time.monotonic()))
            if progress.epoch == CUT_AFTER:
                away = next(host for host in range(1, HOSTS) if address(host) in working(ray))
                where.append(f"{NAME}{away}")
                cut_off(away)

        found, seconds = timed(
            lambda: self.losses(EPOCHS, Room(2, CPUS, least=1), progress=tell, checkpoint_folder=self.folder / "checkpoints")
        )
        lost = max(b[1] - a[1] for a, b in zip(seen, seen[1:], strict=False))
        return {
            "cut off": where[0],
            "seconds": seconds,
            "standstill": round(lost, 1),
            "differs": apart(self.losses(EPOCHS, None), found),
        }


def working(ray: Any) -> set[str]:
    """Addresses of the hosts of the workers of a fit."""
    actors = ray._private.state.actors(actor_state_name="ALIVE").values()
    return {each["Address"]["IPAddress"] for each in actors if "TrainWorker" in each["ActorClassName"]}


def on_the_first(folder: Path) -> None:
    """All of it, by the first host; into results.json of the folder, which all hosts see."""
    torch.set_num_threads(1)
    facts: dict[str, Any] = {"hosts": HOSTS}
    fits = Fits(folder)
    with joined_by_all() as where:
        for name, stage in (("log", ingest(folder, 2)), ("lists", lists(folder, 2))):
            alone = stage.alone()
            begin = bytes_sent()
            found, seconds = timed(partial(stage.on_ray, where))
            facts[name] = {"seconds": seconds, "sent": bytes_sent() - begin, "differs": stage.differs(alone, found)}
            print(name, facts[name], flush=True)
        for share in ("users", "items"):
            facts[f"fit by {share}"] = fits.wire(share)
            print(share, facts[f"fit by {share}"], flush=True)
        facts["cut"] = fits.cut()
        print(facts["cut"], flush=True)
    (folder / "results.json").write_text(json.dumps(facts))


def main() -> None:
    """Run it, print it, write it."""
    if len(sys.argv) > 1:
        on_the_first(Path(sys.argv[1]))
        return
    with TemporaryDirectory(dir=Path.home()) as name, network():
        folder = Path(name)
        names = folder / "hosts"
        names.write_text("127.0.0.1 localhost\n" + "".join(f"{address(host)} {NAME}{host}\n" for host in range(HOSTS)))
        first = on_host(0, names, sys.executable, "-m", "benchmarks.hosts", name, str(os.getpid()))
        join = f"until {RAY} start --address={address(0)}:{PORT} --node-ip-address=$0 {NODE} --block; do sleep 2; done"
        others = [on_host(host, names, "sh", "-c", join, address(host)) for host in range(1, HOSTS)]
        try:
            first.wait()
        finally:
            for process in (first, *others):
                process.terminate()
        write("hosts", json.loads((folder / "results.json").read_text()))


if __name__ == "__main__":
    main()

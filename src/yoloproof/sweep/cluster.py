"""The Ray cluster of a sweep: opening one, and which of its nodes can take what."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yoloproof
from yoloproof.errors import YoloproofError
from yoloproof.sweep import worker
from yoloproof.sweep.plan import Cell

OBJECT_STORE_BYTES = 200 * 2**20
CONNECT_S = 10.0


@dataclass(frozen=True)
class Node:
    """An alive node: its id, host name, all its CPUs and GPUs, and its accelerators' names."""

    id: str
    host: str
    cpus: float
    gpus: float
    accelerators: frozenset[str]

    def takes(self, accelerator: str) -> bool:
        """Whether it can measure on this accelerator; `cpu` is every node's."""
        return self.cpus >= 1 and (accelerator == "cpu" or (accelerator in self.accelerators and self.gpus >= 1))


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address` (or $RAY_ADDRESS), or start Ray on this machine and stop it at the end.

    Raises YoloproofError where Ray is not installed or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise YoloproofError("sweep runs on Ray, which is not installed; pip install 'yoloproof[ray]'") from error
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            _check_answers(address)
            ray.init(address=address, **quiet)
        else:
            # Ray gives its workers niceness 15: a measurement would stand behind everything else on the machine.
            os.environ.setdefault("RAY_worker_niceness", "0")
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        # Something listens there (`_check_answers`): what is left is mostly one of these two.
        hint = "; it must be of the same version, and of the same token (RAY_AUTH_TOKEN) if it asks for one"
        refused = address and "Failed to connect" in str(error)
        raise YoloproofError(
            f"no Ray cluster at {address or 'this machine'}: {error}{hint if refused else ''}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise ConnectionError where nothing listens at HOST:PORT: Ray itself would try for minutes before it says so."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not host or not port.isdigit():
        # `auto`, or a name that is for Ray to know.
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"{error}; is `ray start --head` running there, and this its port?") from error


def alive_nodes() -> list[Node]:
    """The nodes that answer now."""
    import ray

    nodes = []
    for facts in ray.nodes():  # type: ignore[no-untyped-call]
        if not facts["Alive"]:
            continue
        resources = facts["Resources"]
        names = {name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")}
        label = (facts.get("Labels") or {}).get("ray.io/accelerator-type")
        accelerators = frozenset(names | ({label} if label else set()))
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        nodes.append(Node(facts["NodeID"], facts["NodeManagerHostname"], cpus, gpus, accelerators))
    return nodes


def described(nodes: Sequence[Node]) -> str:
    """The cluster in a few words: `2 × cpu, 1 × T4`."""
    kinds = Counter(" + ".join(sorted(node.accelerators)) or "cpu" for node in nodes)
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items())) or "no node"


def unsatisfiable(cells: Sequence[Cell], nodes: Sequence[Node]) -> list[str]:
    """The accelerators that cells ask for and no node has."""
    wanted = dict.fromkeys(cell.accelerator for cell in cells)
    return [accelerator for accelerator in wanted if not any(node.takes(accelerator) for node in nodes)]


def check_nodes(nodes: Sequence[Node]) -> None:
    """Raise YoloproofError unless every node runs this version of yoloproof."""
    import ray
    from ray.exceptions import RayError

    for node in nodes:
        if not node.cpus:
            continue
        said = remote(worker.probe, node, cpus=0).remote()
        try:
            version = ray.get(said, timeout=120)["version"]
        except (RayError, TimeoutError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise YoloproofError(
                f"node {node.host} cannot run yoloproof ({reason}); "
                f"there: pip install 'yoloproof[ray]=={yoloproof.__version__}'"
            ) from error
        if version != yoloproof.__version__:
            raise YoloproofError(
                f"node {node.host} has yoloproof {version}, here is {yoloproof.__version__}; install the same"
            )


def remote(
    function: Any, node: Node, cpus: float, gpus: float = 0, accelerator: str | None = None, returns: int = 1
) -> Any:
    """The function as a Ray task that runs on this node and nowhere else, once."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    options: dict[str, Any] = {"accelerator_type": accelerator} if accelerator else {}
    return ray.remote(function).options(
        num_cpus=cpus,
        num_gpus=gpus,
        max_retries=0,
        num_returns=returns,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        **options,
    )

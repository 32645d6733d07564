"""The Ray cluster of a sweep: opening one, and which of its nodes can take what."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yoloproof
from yoloproof.errors import YoloproofError
from yoloproof.sweep import worker
from yoloproof.sweep.plan import Cell

OBJECT_STORE_BYTES = 200 * 2**20
CONNECT_S = 10.0
OLDEST_RAY = (2, 52)  # the first whose clusters can ask for a token


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

    What is started here listens on this machine alone, and to who has its token alone: Ray runs what it is sent. Raises
    YoloproofError where Ray is missing or too old, and where the cluster does not answer.
    """
    _check_installed()
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    with ExitStack() as stack:
        try:
            if address:
                _check_answers(address)
            else:
                os.environ.update(_local_settings())
            stack.enter_context(_ray_started(address))
        except (ConnectionError, RuntimeError, ValueError) as error:
            # Something listens there (`_check_answers`): what is left is mostly one of these two.
            hint = "; it must be of the same version, and of the same token (RAY_AUTH_TOKEN) if it asks for one"
            refused = address and "Failed to connect" in str(error)
            raise YoloproofError(
                f"no Ray cluster at {address or 'this machine'}: {error}{hint if refused else ''}"
            ) from error
        yield


def _check_installed() -> None:
    try:
        found = version("ray")
    except PackageNotFoundError:
        raise YoloproofError("sweep runs on Ray, which is not installed; pip install 'yoloproof[ray]'") from None
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_RAY:
        raise YoloproofError(f"Ray {found} cannot keep strangers out of a cluster; pip install 'yoloproof[ray]'")


def _local_settings() -> dict[str, str]:
    """The environment in which Ray starts here. It reads these names when it is imported. Raises YoloproofError if it is."""
    if "ray" in sys.modules:
        raise YoloproofError(
            "Ray is imported already, and can no longer be kept to this machine; import it later, or call ray.init() before"
        )
    return {
        # Ray gives its workers niceness 15: a measurement would stand behind everything else on the machine.
        "RAY_worker_niceness": "0",
        # Whatever else it is called: where clusters of several machines are off, Ray binds to 127.0.0.1.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": worker.module_path(),
    }


@contextmanager
def _ray_started(address: str | None) -> Iterator[None]:
    """Ray, at `address` or begun here. Its processes import modules from the folder that is current at its start, which is
    therefore an empty one."""
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "address": address or "local"}
    if not address:
        settings |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    with tempfile.TemporaryDirectory(prefix="yoloproof-ray-") as empty:
        before = os.getcwd()
        os.chdir(empty)
        try:
            ray.init(**settings)
        finally:
            os.chdir(before)
        try:
            if not address:
                _check_local()
            yield
        finally:
            ray.shutdown()


def _check_local() -> None:
    """Raise RuntimeError where the Ray that was started here listens to other machines."""
    import ray

    (node,) = ray.nodes()  # type: ignore[no-untyped-call]
    if not ipaddress.ip_address(node["NodeManagerAddress"]).is_loopback:
        raise RuntimeError(f"it would listen to other machines, at {node['NodeManagerAddress']}; this is a bug")


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


def unsatisfiable(cells: Iterable[Cell], nodes: Sequence[Node]) -> list[str]:
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
        try:
            found = ray.get(remote(worker.version_here, node, cpus=0).remote(), timeout=120)
        except (RayError, TimeoutError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise YoloproofError(
                f"node {node.host} cannot run yoloproof ({reason}); "
                f"there: pip install 'yoloproof[ray]=={yoloproof.__version__}'"
            ) from error
        if found != yoloproof.__version__:
            raise YoloproofError(
                f"node {node.host} has yoloproof {found}, here is {yoloproof.__version__}; install the same"
            )


def remote(
    function: Callable[..., object], node: Node, cpus: float, gpus: float = 0, accelerator: str | None = None,
    returns: int = 1,
) -> Any:  # fmt: skip
    """The function as a Ray task that runs on this node and nowhere else, once."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return ray.remote(function).options(
        num_cpus=cpus,
        num_gpus=gpus,
        accelerator_type=accelerator,
        max_retries=0,
        num_returns=returns,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
    )

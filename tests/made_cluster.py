"""A real Ray of several nodes on this machine, with made-up accelerators."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# What the nodes' processes import; they inherit it when they start.
PYTHONPATH = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
STORE_BYTES = 80 * 2**20


def made_cluster() -> Any:
    """A head that measures nothing, two nodes that say they hold a T4, one an A10G."""
    from ray.cluster_utils import Cluster

    # A dead node is noticed after 6 s instead of 15; a busy one still has 30.
    checks = {"health_check_period_ms": 1000, "health_check_failure_threshold": 6, "health_check_timeout_ms": 5000}
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False, "_system_config": checks}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for accelerator in ("T4", "T4", "A10G"):
        add_node(cluster, accelerator)
    return cluster


def add_node(cluster: Any, accelerator: str) -> Any:
    """One more node that says it holds this accelerator."""
    resources = {f"accelerator_type:{accelerator}": 1}
    return cluster.add_node(num_cpus=2, num_gpus=1, resources=resources, object_store_memory=STORE_BYTES)

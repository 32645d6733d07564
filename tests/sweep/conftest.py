"""A real Ray of several nodes on this machine, with made-up accelerators."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORE_BYTES = 80 * 2**20


@pytest.fixture(scope="session")
def cluster():
    """A head that measures nothing, two nodes that say they hold a T4, one an A10G."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'yoloproof[ray]')")
    import ray
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    # What the nodes' processes import; they inherit it when they start.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "src"), *([before] if before else [])])
    # A dead node is noticed after 6 s instead of 15; a busy one still has 30.
    checks = {"health_check_period_ms": 1000, "health_check_failure_threshold": 6, "health_check_timeout_ms": 5000}
    head = {
        "num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False, "_system_config": checks,
    }  # fmt: skip
    made = Cluster(initialize_head=True, head_node_args=head)
    for accelerator in ("T4", "T4", "A10G"):
        add_node(made, accelerator)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def add_node(cluster, accelerator):
    """One more node that says it holds this accelerator."""
    resources = {f"accelerator_type:{accelerator}": 1}
    return cluster.add_node(num_cpus=2, num_gpus=1, resources=resources, object_store_memory=STORE_BYTES)

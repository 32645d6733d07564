"""One Ray for all tests of the folder."""

from __future__ import annotations

import pytest

from made_cluster import PYTHONPATH, made_cluster


@pytest.fixture(scope="session")
def cluster():
    """The made-up cluster, this process connected to it."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'yoloproof[ray]')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHONPATH)
        made = made_cluster()
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()

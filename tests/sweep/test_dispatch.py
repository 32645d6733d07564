"""Sweeps of a fake runner on a real Ray: what fails, is lost or hangs costs its cell a retry, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner

from made_cluster import PYTHONPATH, add_node
from yoloproof.commands.sweep import sweep
from yoloproof.errors import YoloproofError
from yoloproof.sweep.cluster import alive_nodes, connected, described
from yoloproof.sweep.dispatch import Dispatch
from yoloproof.sweep.materials import Runner
from yoloproof.sweep.plan import read_plan
from yoloproof.sweep.store import Store, merged_result

FAKE = Runner("fake_runner")
# Where tests run in several processes, one cluster is enough for the machine.
pytestmark = pytest.mark.xdist_group("ray")


class Tried:
    """A plan in a folder, its notes, and what came of running it."""

    def __init__(self, folder, head, options=""):
        self.folder, self.notes_file = folder, folder / "notes"
        folder.mkdir(exist_ok=True)
        self.file = folder / "plan.toml"
        self.file.write_text(f'{head}\n[options]\nnotes = "{self.notes_file}"\n{options}\n')
        self.plan, self.store = read_plan(self.file), Store(folder / "out")

    def run(self, changed=lambda progress: None):
        with self.store.locked():
            return Dispatch(self.plan, self.store, FAKE, changed).run()

    def notes(self, start):
        lines = self.notes_file.read_text().splitlines() if self.notes_file.exists() else []
        return [line for line in lines if line.startswith(start)]

    def rows(self):
        return merged_result(self.store, self.plan.cells, ["sweep"])["entries"]

    def until(self, start, count=1, limit_s=30):
        """Wait until the runner has noted this."""
        end = time.monotonic() + limit_s
        while len(self.notes(start)) < count:
            assert time.monotonic() < end, f"no {start!r} within {limit_s} s"
            time.sleep(0.05)
        return self.notes(start)


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone_soon(pid, limit_s=10):
    end = time.monotonic() + limit_s
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_a_plan_is_measured_where_it_asks_and_each_artifact_is_made_once(cluster, tmp_path):
    tried = Tried(
        tmp_path,
        'models = ["a", "b"]\nattentions = ["fused", "stripped"]\nruntimes = ["r1", "r2"]\n'
        'accelerators = ["T4", "A10G"]',
    )
    progress = tried.run()
    assert (progress.done, progress.failed, progress.waiting) == (8, 0, 0)
    assert len(tried.notes("export")) == len(set(tried.notes("export"))) == 4
    for entry in tried.rows():
        content = entry["artifact"]["content"]
        assert any(words.startswith(f"onnx of {entry['model']['name']}|fused") for words in content)
    merged = merged_result(tried.store, tried.plan.cells, ["sweep"])
    machines = [merged["runs"][entry["run"]]["machine"]["cpu"]["name"] for entry in merged["entries"]]
    assert Counter(machines) == {"made-up T4": 8, "made-up A10G": 8}
    assert not merged["partial"]


def test_a_checkpoint_travels_to_the_node_by_its_hash(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.pt").write_text("weights of ours")
    tried = Tried(tmp_path, 'models = ["own.pt"]\naccelerators = ["T4"]')
    assert tried.run().done == 1
    assert "weights of ours" in tried.rows()[0]["artifact"]["content"]


def test_what_goes_wrong_costs_a_retry_and_then_a_row_that_says_it(cluster, tmp_path):
    models = ["fine", "dies-once", "dies", "hungry", "crashes", "refused", "export-refused", "hangs"]
    tried = Tried(tmp_path, f'models = {json.dumps(models)}\naccelerators = ["T4"]\ntimeout_s = 4')
    progress = tried.run()
    failures = {entry["model"]["name"]: entry.get("failure") for entry in tried.rows()}
    assert failures["fine"] is None
    assert failures["dies-once"] is None
    assert failures["dies"].count("killed by SIGKILL") == 2, "tried twice"
    assert failures["hungry"] == "out of memory; then out of memory"
    assert failures["crashes"].count("ZeroDivisionError: a bug") == 2
    assert failures["refused"] == "no such model: refused", "a refusal is not tried again"
    assert failures["export-refused"] == "its export failed: this checkpoint holds no detector"
    assert failures["hangs"].count("hung: killed after 4 s") == 2
    assert (progress.done, progress.failed, progress.retried) == (2, 6, 5)
    for line in tried.notes("grandchild"):
        assert gone_soon(int(line.split()[1])), "what a hung inference had started is ended with it"


def test_a_worker_killed_in_the_middle_costs_a_retry_and_leaves_nothing_behind(cluster, tmp_path):
    tried = Tried(tmp_path, 'models = ["slow"]\naccelerators = ["A10G"]')
    thread = threading.Thread(target=tried.run)
    thread.start()
    (line,) = tried.until("measure")
    child = int(line.split()[2])
    os.kill(psutil.Process(child).ppid(), signal.SIGKILL)
    assert gone_soon(child), "the measurement does not outlive the worker it belongs to"
    assert not Path(line.split()[3]).exists(), "nor does its folder"
    thread.join(60)
    assert len(tried.notes("measure")) == 2
    assert tried.rows()[0].get("failure") is None


def removed_while_measuring(cluster, tried, count):
    """Run the sweep; when its runner has begun `count` measurements, take away the node at work."""
    tried.store.cells.mkdir(parents=True)
    dispatch = Dispatch(tried.plan, tried.store, FAKE, lambda progress: None)
    thread = threading.Thread(target=dispatch.run)
    thread.start()
    tried.until("measure", count)
    (task,) = dispatch.running.values()
    (node,) = [node for node in cluster.worker_nodes if node.node_id == task.node.id]
    cluster.remove_node(node, allow_graceful=False)
    thread.join(60)
    assert not thread.is_alive()


def test_a_node_removed_moves_its_cell_and_the_last_one_is_said(cluster, tmp_path):
    add_node(cluster, "L4")
    add_node(cluster, "L4")
    moved = Tried(tmp_path / "moved", 'models = ["slow-1"]\naccelerators = ["L4"]')
    removed_while_measuring(cluster, moved, 1)
    assert len(moved.notes("measure")) == 2
    assert moved.rows()[0].get("failure") is None, "the other node took it"
    last = Tried(tmp_path / "last", 'models = ["slow-2"]\naccelerators = ["L4"]')
    removed_while_measuring(cluster, last, 1)
    assert "on node" in last.rows()[0]["failure"]
    assert last.rows()[0]["failure"].endswith("no node with L4 is left in the cluster")
    assert all(gone_soon(int(line.split()[2])) for line in moved.notes("measure") + last.notes("measure"))
    add_node(cluster, "L4")
    assert last.run().done == 1, "a repeated sweep measures what was missing"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=lambda end: end.name)
def test_a_sweep_ended_in_the_middle_goes_on_where_it_was(cluster, tmp_path, end):
    models = ["m0", "m1", "slow-last"]
    tried = Tried(tmp_path, f'models = {json.dumps(models)}\naccelerators = ["A10G"]')
    command = [
        sys.executable, "-m", "yoloproof", "sweep", str(tried.file), "-o", str(tried.store.folder),
        "--address", cluster.address, "--runner", FAKE.module,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    (line, *_) = tried.until("measure", 3, limit_s=90)[-1:]
    first.send_signal(end)
    _, said = first.communicate(timeout=60)
    if end != signal.SIGKILL:
        assert (first.returncode, b"Traceback" in said) == (1, False)
        assert said.decode().startswith("interrupted: 2 of 3 cells are kept"), said
    assert gone_soon(int(line.split()[2]), 30)
    assert sum(map(tried.store.finished, tried.plan.cells)) == 2
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stderr
    assert "3 of 3 measurements" in second.stderr
    assert "\x1b" not in second.stderr, "no progress bar in a pipe"
    counts = Counter(line.split()[1] for line in tried.notes("measure"))
    assert sorted(counts.values()) == [1] * 2 + [2], "only the cell that was cut off is measured again"


def test_without_a_cluster_ray_starts_here_and_shows_its_progress_on_a_terminal(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'yoloproof[ray]')")
    tried = Tried(tmp_path, 'models = ["a", "b"]\nattentions = ["fused", "stripped"]')
    target = tmp_path / "all.json"
    command = [
        sys.executable, "-m", "yoloproof", "sweep", str(tried.file), "--json", str(target), "--runner", FAKE.module,
    ]  # fmt: skip
    terminal, end = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=end, stderr=end)
    os.close(end)
    shown = []
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 4096):
            shown.append(part)
    os.close(terminal)
    said = b"".join(shown).decode()
    assert process.wait(60) == 0, said
    assert "1 done, 0 kept from before, 0 failed" in said
    merged = json.loads(target.read_text())
    assert [entry["proof"]["passed"] for entry in merged["entries"]] == [True, False] * 2
    niceness = {entry["runtime"]["niceness"] for entry in merged["entries"]}
    assert niceness == {os.getpriority(os.PRIO_PROCESS, 0)}, "no measurement stands behind the rest of the machine"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379"])
def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch, address):
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'yoloproof[ray]')")
    # Whatever cluster another test has connected this process to.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(YoloproofError, match=f"no Ray cluster at {address}.*ray start --head"), connected(address):
        pass


def test_an_accelerator_nobody_has_is_said_at_the_start(cluster, tmp_path):
    tried = Tried(tmp_path, 'models = ["a"]\naccelerators = ["T4", "GB300"]')
    ask = {"plan_file": tried.file, "output": tried.store.folder, "runner_module": FAKE.module}
    with pytest.raises(YoloproofError, match=r"no node has GB300; the cluster is .*2 × T4.*--available-only"):
        sweep(**ask, available_only=False)
    assert tried.notes("") == [], "nothing was begun"
    with pytest.raises(typer.Exit) as left:
        sweep(**ask, available_only=True)
    assert left.value.exit_code == 1
    merged = json.loads((tried.store.folder / "result-1.json").read_text())
    assert [entry.get("failure") for entry in merged["entries"]] == [None, "no node with GB300 is left in the cluster"]
    assert merged["partial"]


def test_200_cells_take_bounded_time_and_memory(cluster, tmp_path):
    models = [f"m{index}" for index in range(50)]
    tried = Tried(
        tmp_path,
        f'models = {json.dumps(models)}\nruntimes = ["raw"]\nbatches = [1, 2, 4, 8]\naccelerators = ["T4"]',
        "blob_mb = 1",
    )
    assert len(tried.plan.cells) == 200
    driver, at_once, sizes = psutil.Process(), [], []

    def watch(progress):
        at_once.append(len(progress.running))
        sizes.append(driver.memory_info().rss)

    began = time.monotonic()
    progress = tried.run(changed=watch)
    assert (progress.done, progress.failed) == (200, 0)
    assert time.monotonic() - began < 120
    assert max(at_once) <= len(alive_nodes())
    # 200 results of 1 MB were made: none of them is held.
    assert max(sizes) - sizes[0] < 60e6


def test_two_sweeps_do_not_share_a_folder(tmp_path):
    store = Store(tmp_path)
    with store.locked(), pytest.raises(YoloproofError, match="another sweep is at work"), Store(tmp_path).locked():
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(YoloproofError, match="give another folder with -o"), Store(tmp_path / "file").locked():
        pass


def test_the_dry_run_prints_cells_states_and_an_estimate_and_starts_nothing(tmp_path):
    from yoloproof.cli import app

    tried = Tried(tmp_path, 'models = ["a", "b"]\nattentions = ["fused", "stripped"]')
    done = tried.plan.cells[0]
    tried.store.cells.mkdir(parents=True)
    tried.store.keep(done, b'{"schema": 1, "entries": []}', 30.0)
    said = CliRunner().invoke(
        app, ["sweep", str(tried.file), "-o", str(tried.store.folder), "--dry-run", "--runner", FAKE.module]
    )
    assert said.exit_code == 0
    assert "a fused+stripped onnxruntime fp32 640×640 1 latency on cpu" in said.output
    assert "kept" in said.output
    assert "1 of 2 cells to measure, about 30 s" in said.output
    assert tried.notes("") == []


def test_a_damaged_cell_is_set_aside_and_measured_again(tmp_path):
    tried = Tried(tmp_path, 'models = ["a"]')
    (cell,) = tried.plan.cells
    tried.store.cells.mkdir(parents=True)
    path = tried.store.cells / f"{cell.key}.json"
    path.write_text('{"schema": 1, "entr')
    assert not tried.store.finished(cell)
    assert not path.exists()


def test_the_cluster_is_described_by_what_it_has(cluster):
    assert "2 × T4" in described(alive_nodes())

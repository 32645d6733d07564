"""Sweeps of a fake runner on a real Ray: what fails, is lost or hangs costs its cell a retry, and nothing else."""

from __future__ import annotations

import contextlib
import ipaddress
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
from yoloproof.cli import app
from yoloproof.commands.sweep import sweep
from yoloproof.errors import YoloproofError
from yoloproof.results.file import read_result
from yoloproof.results.schema import json_from_result
from yoloproof.sweep import dispatch as dispatching
from yoloproof.sweep.cluster import alive_nodes, connected, described
from yoloproof.sweep.dispatch import Dispatch
from yoloproof.sweep.plan import read_plan
from yoloproof.sweep.store import Store, merged_result

FAKE = "fake_runner"
FAKE_SWEEP = [sys.executable, str(Path(__file__).parents[1] / "fake_runner.py")]
# Where tests run in several processes, one cluster is enough for the machine.
pytestmark = pytest.mark.xdist_group("ray")


class Tried:
    """A plan in a folder, its notes, and what came of running it. A model is a file: its name says what happens to it."""

    def __init__(self, folder, models, rest=""):
        self.folder, self.notes_file = folder, folder / "notes"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{model}.pt" for model in models]
        for path in paths:
            path.write_text(str(self.notes_file))
        self.file = folder / "plan.toml"
        self.file.write_text(f"models = {json.dumps(list(map(str, paths)))}\n{rest}\n")
        self.plan, self.store = read_plan(self.file), Store(folder / "out")

    def dispatch(self, changed=lambda progress: None):
        return Dispatch(self.plan, self.store.missing(self.plan.cells), self.store, changed, FAKE)

    def run(self, changed=lambda progress: None):
        with self.store.locked():
            return self.dispatch(changed).run()

    def notes(self, start):
        lines = self.notes_file.read_text().splitlines() if self.notes_file.exists() else []
        return [line for line in lines if line.startswith(start)]

    def merged(self):
        return merged_result(self.store, self.plan.cells, ["sweep"])

    def failures(self):
        return {entry.model.name: entry.failure for entry in self.merged().entries}

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


def test_a_plan_is_measured_where_it_asks_and_each_artifact_is_exported_once(cluster, tmp_path):
    rest = 'attentions = ["fused", "stripped"]\nruntimes = ["onnxruntime", "openvino"]\naccelerators = ["T4", "A10G"]'
    tried = Tried(tmp_path, ["a", "b"], rest)
    progress = tried.run()
    assert (progress.done, progress.failed, progress.waiting) == (8, 0, 0)
    assert len(tried.notes("export")) == len(set(tried.notes("export"))) == 4
    merged = tried.merged()
    for entry in merged.entries:
        found, name = entry.artifact.metadata["artifacts"], entry.model.name
        assert set(found) == {f"{name}-fused.onnx", f"{name}-stripped.onnx"}, (
            "all that its cell needs, and nothing else"
        )
        assert found[f"{name}-fused.onnx"].startswith(f"onnx of {name} fused")
    machines = [merged.run_of(entry).machine.cpu.model for entry in merged.entries]
    assert Counter(machines) == {"made-up T4": 8, "made-up A10G": 8}
    assert not merged.partial


def test_a_checkpoint_travels_to_the_node_by_its_hash(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tried = Tried(tmp_path, ["own"], 'accelerators = ["T4"]')
    tried.file.write_text('models = ["own.pt"]\naccelerators = ["T4"]')
    tried.plan = read_plan(tried.file)
    assert tried.run().done == 1
    (entry,) = tried.merged().entries
    assert (entry.case.model, entry.artifact.metadata["checkpoint"]) == ("own.pt", str(tried.notes_file))


def test_what_goes_wrong_costs_a_retry_and_then_a_row_that_says_it(cluster, tmp_path):
    models = ["fine", "dies-once", "dies", "hungry", "crashes", "refused", "export-refused", "hangs"]
    tried = Tried(tmp_path, models, 'accelerators = ["T4"]\ntimeout_s = 10')
    progress = tried.run()
    failures = tried.failures()
    assert failures["fine"] is None
    assert failures["dies-once"] is None
    assert failures["dies"].count("killed by SIGKILL") == 2, "tried twice"
    assert failures["hungry"] == "out of memory; then out of memory"
    assert failures["crashes"].count("ZeroDivisionError: a bug") == 2
    assert failures["refused"] == "no such model: refused", "a refusal is not tried again"
    assert failures["export-refused"] == "its export failed: this checkpoint holds no detector"
    assert failures["hangs"].count("hung: killed after 10 s") == 2
    assert (progress.done, progress.failed, progress.retried) == (2, 6, 5)
    for line in tried.notes("grandchild"):
        assert gone_soon(int(line.split()[1])), "what a hung inference had started is ended with it"


def test_a_worker_killed_in_the_middle_costs_a_retry_and_leaves_nothing_behind(cluster, tmp_path):
    tried = Tried(tmp_path, ["slow"], 'accelerators = ["A10G"]')
    thread = threading.Thread(target=tried.run)
    thread.start()
    (line,) = tried.until("measure")
    child = int(line.split()[2])
    os.kill(psutil.Process(child).ppid(), signal.SIGKILL)
    assert gone_soon(child), "the measurement does not outlive the worker it belongs to"
    assert not Path(line.split()[3]).exists(), "nor does its folder"
    thread.join(60)
    assert len(tried.notes("measure")) == 2
    assert tried.failures() == {"slow": None}


@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])
def test_files_of_the_current_folder_are_not_run(tmp_path, runtime):
    """As the command is started from there: neither its own process, nor Ray's, nor the measurement's runs them."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'yoloproof[ray]')")
    tried = Tried(tmp_path, ["imports"], f'runtimes = ["{runtime}"]')
    for module in ("psutil", "numpy", "pydantic", "typer", "ray", "runpy", "yoloproof"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{module} ')")
    # An entry that is relative means the same folder to every process.
    path = os.pathsep.join(os.path.relpath(entry, tmp_path) for entry in PYTHONPATH.split(os.pathsep))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [*FAKE_SWEEP, "plan.toml", "-o", "out"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert [Path(line.split()[1]).parent.name for line in tried.notes("imported")] == ["psutil"]


def removed_while_measuring(cluster, tried, count):
    """Run the sweep; when its runner has begun `count` measurements, take away the node at work."""
    tried.store.cells.mkdir(parents=True)
    dispatch = tried.dispatch()
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
    moved = Tried(tmp_path / "moved", ["slow-1"], 'accelerators = ["L4"]')
    removed_while_measuring(cluster, moved, 1)
    assert len(moved.notes("measure")) == 2
    assert moved.failures() == {"slow-1": None}, "the other node took it"
    last = Tried(tmp_path / "last", ["slow-2"], 'accelerators = ["L4"]')
    removed_while_measuring(cluster, last, 1)
    assert "on node" in last.failures()["slow-2"]
    assert last.failures()["slow-2"].endswith("no node with L4 is left in the cluster")
    assert all(gone_soon(int(line.split()[2])) for line in moved.notes("measure") + last.notes("measure"))
    add_node(cluster, "L4")
    assert last.run().done == 1, "a repeated sweep measures what was missing"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=lambda end: end.name)
def test_a_sweep_ended_in_the_middle_goes_on_where_it_was(cluster, tmp_path, end):
    tried = Tried(tmp_path, ["m0", "m1", "slow-last"], 'accelerators = ["A10G"]')
    command = [*FAKE_SWEEP, str(tried.file), "-o", str(tried.store.folder), "--address", cluster.address]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    (line, *_) = tried.until("measure", 3, limit_s=90)[-1:]
    first.send_signal(end)
    _, said = first.communicate(timeout=60)
    if end != signal.SIGKILL:
        assert (first.returncode, b"Traceback" in said) == (130, False)
        assert said.decode().startswith("2 of 3 cells are kept"), said
    assert gone_soon(int(line.split()[2]), 30)
    assert len(tried.store.missing(tried.plan.cells)) == 1
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stderr
    assert "3 of 3 measurements" in second.stderr
    assert "\x1b" not in second.stderr, "no progress bar in a pipe"
    counts = Counter(line.split()[1] for line in tried.notes("measure"))
    assert sorted(counts.values()) == [1] * 2 + [2], "only the cell that was cut off is measured again"


def test_without_a_cluster_ray_starts_here_for_us_alone_and_shows_its_progress_on_a_terminal(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'yoloproof[ray]')")
    tried = Tried(tmp_path, ["slow", "b"], 'attentions = ["fused", "stripped"]')
    target = tmp_path / "all.json"
    terminal, end = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    command = [*FAKE_SWEEP, str(tried.file), "-o", str(tried.store.folder), "--json", str(target)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=end, stderr=end)
    os.close(end)
    shown = []

    def read():
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 4096):
                shown.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    (line, *_) = tried.until("measure", limit_s=90)
    addresses = {
        connection.laddr
        for one in psutil.Process(process.pid).children(recursive=True)
        for connection in one.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses
    assert not [at for at in addresses if not ipaddress.ip_address(at.ip.removeprefix("::ffff:")).is_loopback]
    stranger = stranger_at(addresses)
    os.kill(int(line.split()[2]), signal.SIGKILL)  # and the second try answers at once
    assert process.wait(90) == 0, b"".join(shown).decode()
    reader.join(30)
    os.close(terminal)
    assert "IN" not in stranger.stdout, "nobody without the token is let in"
    said = b"".join(shown).decode()
    assert "2 done, 0 kept from before, 0 failed" in said
    merged = read_result(target)
    assert [entry.proof.passed for entry in merged.entries] == [True, False] * 2
    niceness = {run.machine.cpu.niceness for run in merged.runs}
    assert niceness == {os.getpriority(os.PRIO_PROCESS, 0)}, "no measurement stands behind the rest of the machine"


def stranger_at(addresses):
    """What another user of the machine gets who has no token, at each of the ports."""
    code = """
import sys, ray
from ray._raylet import GcsClient
for port in sys.argv[1:]:
    try:
        GcsClient(address=f"127.0.0.1:{port}").get_all_node_info()
        print("IN")
    except Exception as error:
        print(type(error).__name__)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ports = [str(at.port) for at in addresses]
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(
            [sys.executable, "-c", code, *ports], env={**environment, "HOME": "/nonexistent"}, capture_output=True,
            text=True, timeout=60,
        )  # fmt: skip
    return subprocess.CompletedProcess([], 1, "no answer", "")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379"])
def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch, address):
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'yoloproof[ray]')")
    # Whatever cluster another test has connected this process to.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(YoloproofError, match=f"no Ray cluster at {address}.*ray start --head"), connected(address):
        pass


def test_ray_that_is_imported_already_is_not_started_here(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'yoloproof[ray]')")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(YoloproofError, match="Ray is imported already"), connected(None):
        pass


def test_a_ray_without_tokens_is_refused(monkeypatch):
    monkeypatch.setattr("yoloproof.sweep.cluster.version", lambda name: "2.51.1")
    with pytest.raises(YoloproofError, match=r"Ray 2\.51\.1 .* pip install 'yoloproof\[ray\]'"), connected(None):
        pass


def test_an_accelerator_nobody_has_is_said_at_the_start(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(dispatching, "RUNNER", FAKE)
    tried = Tried(tmp_path, ["a"], 'accelerators = ["T4", "GB300"]')
    ask = {"plan_file": tried.file, "output": tried.store.folder}
    with pytest.raises(YoloproofError, match=r"no node has GB300; the cluster is .*2 × T4.*--available-only"):
        sweep(**ask, available_only=False)
    assert tried.notes("") == [], "nothing was begun"
    with pytest.raises(typer.Exit) as left:
        sweep(**ask, available_only=True)
    assert left.value.exit_code == 1
    merged = json.loads((tried.store.folder / "result-1.json").read_text())
    assert [entry["failure"] for entry in merged["entries"]] == [None, "no node with GB300 is left in the cluster"]
    assert merged["partial"]


def test_30_cells_take_bounded_time_and_memory(cluster, tmp_path):
    models = [f"large{index}" for index in range(15)]
    tried = Tried(tmp_path, models, 'runtimes = ["pytorch"]\nbatches = [1, 2]\naccelerators = ["T4"]')
    assert len(tried.plan.cells) == 30
    driver, at_once, sizes = psutil.Process(), [], []

    def watch(progress):
        at_once.append(len(progress.running))
        sizes.append(driver.memory_info().rss)

    began = sum(driver.cpu_times()[:2])
    progress = tried.run(changed=watch)
    assert (progress.done, progress.failed) == (30, 0)
    assert sum(driver.cpu_times()[:2]) - began < 10, "seconds of the driver's own, whatever else the machine does"
    assert max(at_once) <= len(alive_nodes())
    # 30 results of 1 MB were made: none of them is held.
    assert max(sizes) - sizes[0] < 25e6


def test_the_dry_run_prints_cells_states_and_an_estimate_and_starts_nothing(tmp_path):
    import fake_runner

    tried = Tried(tmp_path, ["a", "b", "c"], 'attentions = ["fused", "stripped"]')
    done, damaged, _ = tried.plan.cells
    tried.store.cells.mkdir(parents=True)
    result = fake_runner.measure(done, {done.cases[0].model: tmp_path / "a.pt"}, tmp_path / "none")
    tried.store.keep(done, json.dumps(json_from_result(result)).encode(), 30.0)
    (tried.store.cells / f"{damaged.key}.json").write_text("[]")
    before = sorted(tried.store.cells.iterdir())
    said = CliRunner().invoke(app, ["sweep", str(tried.file), "-o", str(tried.store.folder), "--dry-run"])
    assert said.exit_code == 0, said.output
    assert "a.pt fused+stripped onnxruntime fp32 640×640 1 latency on cpu" in said.output
    assert "kept" in said.output
    assert f"will be measured again: {tried.store.cells / damaged.key}.json is not a result file" in said.output
    assert "2 of 3 cells to measure, about 60 s" in said.output
    assert sorted(tried.store.cells.iterdir()) == before
    assert len(tried.notes("measure")) == 1


def test_the_cluster_is_described_by_what_it_has(cluster):
    assert "2 × T4" in described(alive_nodes())

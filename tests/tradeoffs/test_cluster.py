"""A sweep on a real local Dask cluster, with a worker killed in the middle: nothing is lost or done twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest

import aigc_opt
from aigc_opt.cli import main
from tests.conftest import ROOT

distributed = pytest.importorskip("distributed")

WEIGHTS = [0.5 + 0.05 * k for k in range(20)]


@pytest.fixture
def cluster(tmp_path):
    """Address of a scheduler, and the process ids of two workers; processes of their own, without nannies."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = open(tmp_path / "scheduler.log", "w+")
    words = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--port",
        "0",
        "--no-dashboard",
        "--host",
        "127.0.0.1",
    ]
    processes = [subprocess.Popen(words, stdout=log, stderr=log, env=environment, cwd=tmp_path)]
    try:
        address = None
        for _ in range(300):
            found = re.search(r"Scheduler at:\s+(tcp://\S+)", (tmp_path / "scheduler.log").read_text())
            if found:
                address = found.group(1)
                break
            time.sleep(0.1)
        assert address, (tmp_path / "scheduler.log").read_text()
        for _ in range(2):
            worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
            processes.append(subprocess.Popen(worker, stdout=log, stderr=log, env=environment, cwd=tmp_path))
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, [process.pid for process in processes[1:]]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
        log.close()


@pytest.mark.long
def test_a_worker_killed_in_the_middle(cluster, examples, tmp_path):
    address, workers = cluster
    instance = aigc_opt.load(examples / "deployment-medium.json")
    output = tmp_path / "s.csv"

    def kill_when_some_are_done():
        while not output.exists() or output.read_bytes().count(b"\n") < 4:
            time.sleep(0.02)
        os.kill(workers[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_when_some_are_done, daemon=True)
    killer.start()
    with distributed.Client(address, set_as_default=False) as client:
        table = aigc_opt.sweep(instance, {"weights.delay": WEIGHTS}, output, gap=1e-3, workers=client.get_executor())
        assert not killer.is_alive() and len(client.ncores()) == 1
    assert len(table) == len(WEIGHTS) and (table["status"] == "optimal").all()
    written = pd.read_csv(output)
    assert sorted(written["weights.delay"]) == WEIGHTS  # each once
    assert not written.duplicated("weights.delay").any()


@pytest.mark.long
def test_the_command_on_a_cluster(cluster, examples, tmp_path):
    words = ["sweep", str(examples / "deployment-small.json"), "--vary", "weights.delay=1,2", "--quiet"]
    assert main([*words, "--cluster", cluster[0], "-o", str(tmp_path / "s.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "s.csv")) == 2


@pytest.mark.long
def test_no_scheduler_there(examples, tmp_path, capsys):
    words = [
        "sweep",
        str(examples / "deployment-small.json"),
        "--vary",
        "weights.delay=1",
        "-o",
        str(tmp_path / "s.csv"),
    ]
    assert main([*words, "--cluster", "tcp://127.0.0.1:9"]) == 2
    assert "no Dask scheduler answers" in capsys.readouterr().err

# SPDX-License-Identifier: MIT
"""Jobs that end while slurmjcd is down, at a site whose slurmctld has Slurm's own jobcomp/elasticsearch."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable
from pathlib import Path

from tests.harness import Daemon, Munge, RedisServer, wait_until
from tests.harness.ports import free_ports
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.stack import Stack, running_stack
from tests.harness.waiting import scaled
from tests.slurmjcd.intake.test_document import posted


def test_jobs_that_end_while_the_daemon_is_down_arrive_once_it_is_back(rundir: Path, munge: Munge) -> None:
    """The plugin brings a job again 30 s after it failed to, and keeps what is left when slurmctld ends in order."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    options = SlurmOptions(job_comp_type="jobcomp/elasticsearch", job_comp_loc=f"http://{address}/intake/demo")
    settings = {"intake": {"listen": address}}
    with running_stack(rundir, munge=munge, slurm_options=options, daemon_settings=settings) as stack:
        cluster = stack.cluster
        before = [cluster.sbatch("true") for _ in range(3)]
        cluster.wait_ended(before)
        stack.wait_stored(3)
        stack.daemon.kill()
        away = [cluster.sbatch("true") for _ in range(5)]
        cluster.wait_ended(away)
        cluster.slurmctld.stop()
        cluster.start_controller()
        again = cluster.sbatch("exit 1")
        cluster.wait_ended([again])
        stack.daemon.start()
        stack.wait_stored(9, timeout_s=90)
        jobs = [*before, *away, again]
        assert [len(stack.runs(job_id)) for job_id in jobs] == [1] * 9


def test_a_job_that_is_refused_waits_and_holds_up_no_other(rundir: Path, munge: Munge) -> None:
    """It comes when the reason is gone; here the limit of a document, which an administrator raises."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    options = SlurmOptions(job_comp_type="jobcomp/elasticsearch", job_comp_loc=f"http://{address}/intake/demo")
    settings = {"intake": {"listen": address, "body_bytes": 64 * 1024}}
    with running_stack(rundir, munge=munge, slurm_options=options, daemon_settings=settings) as stack:
        cluster = stack.cluster
        script = cluster.directory / "jobs" / "long.sh"
        script.write_text("#!/bin/sh\n" + "true\n" * 20_000)
        long = int(cluster.run("sbatch", "--parsable", str(script)))
        cluster.wait_ended([long])
        # that plugin may not begin for 30 s: it waits for a signal that was given before
        wait_until(lambda: _refused(stack) > 0, what="the job to be refused", timeout_s=90)
        others = [cluster.sbatch("true") for _ in range(20)]
        cluster.wait_ended(others)
        stack.wait_stored(len(others))
        assert stack.runs(long) == []
        # slurmctld keeps it over its own restart
        cluster.slurmctld.stop()
        cluster.start_controller()
        stack.daemon.stop()
        stack.daemon.write_conf({"intake": {"listen": address}})
        stack.daemon.start()
        stack.wait_stored(len(others) + 1, timeout_s=90)
        assert [len(stack.runs(job_id)) for job_id in [long, *others]] == [1] * 21


def _refused(stack: Stack) -> float:
    """How many documents the intake has refused."""
    _, page = stack.daemon.get("/metrics")
    found = re.search(r'^slurmjcd_intake_documents_total\{outcome="refused"\} (\S+)$', page, re.MULTILINE)
    return float(found[1]) if found else 0.0


KILLS = 4
JOBS = 400


def test_jobs_posted_while_the_daemon_is_killed_are_stored_once(
    rundir: Path, make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon]
) -> None:
    """Also those that were in the spool already when the answer could not be given any more: they are posted again."""
    host, port = "127.0.0.1", free_ports(1)[0]
    redis = make_redis()
    daemon = make_daemon("jc", redis_address=redis.address, settings={"intake": {"listen": f"{host}:{port}"}})
    done = threading.Event()
    repeats = 0

    def post_all() -> None:
        nonlocal repeats
        for number in range(1, JOBS + 1):
            while not _post(host, port, posted(jobid=number)):
                repeats += 1
        done.set()

    poster = threading.Thread(target=post_all)
    poster.start()
    for kill in range(1, KILLS + 1):
        wanted = kill * JOBS // (KILLS + 1)
        wait_until(lambda: _stored(redis) >= wanted, what=lambda: f"{wanted} jobs, there are {_stored(redis)}")  # noqa: B023
        daemon.kill()
        daemon.start()
    poster.join(timeout=scaled(60))
    assert done.is_set()
    assert repeats
    wait_until(lambda: _stored(redis) >= JOBS, what=lambda: f"{JOBS} jobs, there are {_stored(redis)}")
    with redis.client() as client:
        rows = [client.execute_command("SLURMJC.GET", "job", str(number)) for number in range(1, JOBS + 1)]
    assert [len(runs) for runs in rows] == [1] * JOBS


def _post(host: str, port: int, body: bytes) -> bool:
    """Whether it was taken."""
    connection = http.client.HTTPConnection(host, port, timeout=scaled(20))
    try:
        connection.request("POST", "/intake/demo", body, {"Content-Type": "application/json"})
        return connection.getresponse().status == 201
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stored(redis: RedisServer) -> int:
    with redis.client() as client:
        fields = client.execute_command("SLURMJC.INFO", "job")
    return int(dict(zip(fields[::2], fields[1::2], strict=True))[b"jobs"])

# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import contextlib

from prometheus_client import CollectorRegistry, generate_latest

from slurmjcd.health import jobstats
from slurmjcd.health.jobstats import JobStats
from slurmjcd.protocol import join_frames, split_frames
from tests.slurmjcd.jobs import NOON, job


async def read(*records: bytes) -> str:
    stats = JobStats()
    registry = CollectorRegistry()
    registry.register(stats)
    stats.take(join_frames(records), len(records))
    task = asyncio.create_task(stats.run())
    while stats._arrived.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return generate_latest(registry).decode()


async def test_jobs_are_counted_by_state_and_partition() -> None:
    text = await read(job(1), job(2), job(3, state=5), job(4, partition="gpu"), job(5, partition=None))
    assert 'slurmjcd_jobs_completed_total{partition="batch",state="completed"} 2.0' in text
    assert 'slurmjcd_jobs_completed_total{partition="batch",state="failed"} 1.0' in text
    assert 'slurmjcd_jobs_completed_total{partition="gpu",state="completed"} 1.0' in text
    assert 'slurmjcd_jobs_completed_total{partition="",state="completed"} 1.0' in text


async def test_wait_and_run_times_are_those_of_the_record() -> None:
    text = await read(job(1, submit=NOON - 500, eligible=NOON - 400, start=NOON - 100, end=NOON))
    assert 'slurmjcd_job_wait_seconds_bucket{le="300",partition="batch"} 1.0' in text
    assert 'slurmjcd_job_wait_seconds_bucket{le="60",partition="batch"} 0.0' in text
    assert 'slurmjcd_job_wait_seconds_sum{partition="batch"} 300.0' in text
    assert 'slurmjcd_job_run_seconds_sum{partition="batch"} 100.0' in text


async def test_a_job_that_never_ran_has_waited_and_not_run() -> None:
    text = await read(job(1, state=4, submit=NOON - 50, eligible=0, start=0, end=NOON))
    assert 'slurmjcd_job_wait_seconds_sum{partition="batch"} 50.0' in text
    assert 'slurmjcd_job_run_seconds_count{partition="batch"} 0.0' in text


async def test_records_that_cant_be_read_are_left_out() -> None:
    text = await read(b"\xdc\x00\x01\x01", b"", job(1), b"\xc1")
    assert 'slurmjcd_jobs_completed_total{partition="batch",state="completed"} 1.0' in text


async def test_labels_are_bounded() -> None:
    text = await read(*[job(number, partition=f"p{number}") for number in range(1, 500)])
    assert text.count("slurmjcd_jobs_completed_total{") == jobstats._PARTITIONS_MAX + 1
    assert 'slurmjcd_jobs_completed_total{partition="other",state="completed"} 399.0' in text


def test_what_waits_is_bounded_in_bytes() -> None:
    stats = JobStats()
    frames = join_frames([job(1, work_dir="/" + "x" * 250_000)] * 8)
    for _ in range(10):
        stats.take(frames, 8)
    assert stats._queued_bytes <= jobstats._QUEUE_MAX_BYTES
    assert sum(stats._jobs.values()) == 48


async def test_when_more_comes_than_can_be_read_a_few_stand_for_all() -> None:
    stats = JobStats()
    registry = CollectorRegistry()
    registry.register(stats)
    frames = join_frames([job(number, state=3 if number % 2 else 5) for number in range(1000)])
    for _ in range(20):
        stats.take(frames, 1000)
    assert stats._queued_bytes < jobstats._ALL_BYTES + 20 * len(frames) / 10
    while stats._queue:
        stats._read(split_frames((popped := stats._pop())[0]), popped[1])
    text = generate_latest(registry).decode()
    assert 'slurmjcd_jobs_completed_total{partition="batch",state="completed"} 10000.0' in text
    assert 'slurmjcd_jobs_completed_total{partition="batch",state="failed"} 10000.0' in text
    assert 'slurmjcd_job_wait_seconds_count{partition="batch"} 20000.0' in text


async def test_states_that_no_record_may_have_are_left_out() -> None:
    text = await read(*(job(number, state=state) for number, state in enumerate((256, -1, 2**63, float("inf")), 1)))
    assert "jobs_completed_total{" not in text

# SPDX-License-Identifier: MIT
"""The hook's peers are those that Debian has here; one that isn't installed is named, and has no figure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from bench import calibration, everything, hook_cost, hook_peers
from bench.cli import flatten
from tests.harness.slurm_conf import slurm_plugin_dir


def measure() -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    hook_cost.add_arguments(parser)
    options = parser.parse_args(["--calls", "1200", "--rounds", "2", "--peer-seconds", "5"])
    with calibration.running() as machine:
        options.machine = machine
        return hook_cost.measure(options)


def peers_in(found: dict[str, Any]) -> set[str]:
    return {name for name in hook_peers.NAMES if any(key.startswith(f"{name}_") for key, _ in flatten(found))}


def test_every_peer_is_measured_or_named() -> None:
    found = measure()
    left_out = {word.split()[0] for word in found.get("left_out", "").split(", ") if word}
    assert peers_in(found) | left_out == set(hook_peers.NAMES)
    assert not peers_in(found) & left_out
    assert found["calls"] == 1200
    for name in peers_in(found):
        assert found[f"{name}_calls"] == 1200
        assert found["min"][f"{name}_p50_us"] <= found["max"][f"{name}_p50_us"]
        assert 0 < found[f"{name}_p50_us"] <= found[f"{name}_max_us"]
        assert found[f"{name}_over_ours"] == pytest.approx(found[f"{name}_p50_us"] / found["p50_us"])


def test_a_peer_that_is_not_installed_is_named_and_never_zero(rundir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = rundir / "plugins"
    plugins.mkdir()
    (plugins / "jobcomp_script.so").symlink_to(slurm_plugin_dir() / "jobcomp_script.so")
    monkeypatch.setattr(hook_peers, "slurm_plugin_dir", lambda: plugins)
    found = measure()
    others = [name for name in hook_peers.NAMES if name != "script"]
    assert peers_in(found) == {"script"}
    assert found["left_out"] == ", ".join(f"{name} (not installed)" for name in others)
    assert everything.remarks("hook", found)[0] == f"hook: left out: {found['left_out']}"
    (row,) = everything.beside("hook", found)
    assert row[0] == "hook: script_p50_us"
    assert float(row[-1]) == pytest.approx(found["script_over_ours"], rel=0.01)

# SPDX-License-Identifier: MIT
"""The commands of README.md that build and install the two libraries."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.harness.slurm_conf import slurm_plugin_dir


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_cmake_make_install_puts_both_libraries_where_they_are_looked_for(tmp_path: Path) -> None:
    tree, root = tmp_path / "build", tmp_path / "root"
    tree.mkdir()
    slurm = ROOT / "build" / "deps" / "slurm"
    run("cmake", "-DCMAKE_INSTALL_PREFIX=/usr", f"-DCMAKE_INCLUDE_PATH={slurm}", ROOT, cwd=tree)
    run("make", cwd=tree)
    run("make", "install", f"DESTDIR={root}", cwd=tree)
    installed = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    plugin = slurm_plugin_dir().relative_to("/") / "jobcomp_redis.so"
    assert installed == {
        plugin,
        Path("usr/lib/redis/modules/slurm_jobcomp.so"),
        Path("usr/lib/slurmjcd/slurmjc_engine.so"),
    }


def test_a_slurm_tree_that_is_not_configured_is_named(tmp_path: Path) -> None:
    tree, slurm = tmp_path / "build", tmp_path / "slurm"
    tree.mkdir()
    (slurm / "src" / "slurmctld").mkdir(parents=True)
    (slurm / "src" / "slurmctld" / "slurmctld.h").touch()
    done = subprocess.run(
        ["cmake", f"-DCMAKE_INCLUDE_PATH={slurm}", ROOT], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"{slurm} is not configured: run ./configure in it first" in " ".join(done.stderr.split())

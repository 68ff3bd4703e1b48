# SPDX-License-Identifier: MIT
"""The Ansible role: ten lines of a site's settings, run by Debian's own Ansible in a new tree with a running Slurm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.package.tree import Tree, debian_tree, run_slurm

ROLE = ROOT / "packaging" / "ansible"
PACKAGES = ROOT / "build" / "packages"
SITE = """\
slurmjcd_packages: /root/packages
slurmjcd_slurm_conf: /etc/slurm/slurm.conf
slurmjcd_config:
  redis:
    ttl_s: 7776000
"""
PLAY = "cd /root/ansible && ansible-playbook -i inventory site.yml"
pytestmark = [pytest.mark.packages, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    made = os.environ.get("SLURMJCD_TREE")
    with debian_tree(Path(made) if made else None) as tree:
        run_slurm(tree)
        tree.run("apt-get -qq install -y --no-install-recommends ansible-core")
        for package in PACKAGES.glob("*.deb"):
            shutil.copy(package, tree.path / "root" / "packages")
        there = tree.path / "root" / "ansible"
        shutil.copytree(ROLE, there)
        (there / "inventory").write_text("[slurm_controllers]\nlocalhost ansible_connection=local\n")
        (there / "group_vars").mkdir()
        (there / "group_vars" / "slurm_controllers.yml").write_text(SITE)
        yield tree


def test_the_playbook_is_one() -> None:
    argv = ["ansible-playbook", "--syntax-check", "-i", "localhost,", ROLE / "site.yml"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_site_gets_what_it_asked_for_once(tree: Tree) -> None:
    first = tree.run(PLAY)
    assert re.search(r"failed=0 ", first), first
    assert "ttl_s = 7776000" in (tree.path / "etc" / "slurmjcd" / "slurmjcd.toml").read_text()
    job = tree.run("sbatch --parsable --wait --output=/dev/null --wrap true").strip()
    assert f"{job}|COMPLETED" in tree.run("sacct -c -a -n -P -S 2000-01-01 -o jobid,state").split()
    assert re.search(r"changed=0 ", tree.run(PLAY)), "a second run has nothing to do"


def test_a_setting_that_is_wrong_stops_the_play(tree: Tree) -> None:
    wrong = tree.run(f"""{PLAY} -e '{{"slurmjcd_config": {{"redis": {{"tll_s": 1}}}}}}'""", status=2)
    assert "tll_s" in wrong
    assert "ttl_s = 7776000" in (tree.path / "etc" / "slurmjcd" / "slurmjcd.toml").read_text()

# SPDX-License-Identifier: MIT
"""docs/install.md and docs/upgrade.md, typed word by word into a new Debian that runs Slurm: installed, upgraded from a
version before, removed. Needs what `make package` made, root, and a few minutes.

SLURMJCD_TREE=<a tree that scripts/make-tree made> saves the first of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from slurmjcd import __version__
from tests.docs.blocks import Block, blocks
from tests.harness import ROOT
from tests.package.tree import Tree, debian_tree, run_slurm

PACKAGES = ROOT / "build" / "packages"
INSTALL, UPGRADE = ROOT / "docs" / "install.md", ROOT / "docs" / "upgrade.md"
pytestmark = [pytest.mark.packages, pytest.mark.timeout(1500)]


@dataclass
class Site:
    """A tree, and what the blocks of a page printed there, by their names."""

    tree: Tree
    printed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def follow(self, page: Path, *names: str) -> None:
        """Run the named blocks of a page as they stand."""
        there = {block.name: block for block in blocks(page) if block.runs}
        for name in names:
            block: Block = there[name]
            begin = time.monotonic()
            self.printed[name] = self.tree.run(block.text, status=block.status)
            self.seconds[name] = time.monotonic() - begin

    def job(self) -> str:
        """The id of a job that ran and ended."""
        return self.tree.run("sbatch --parsable --wait --output=/dev/null --wrap true").strip()

    def completed(self) -> dict[str, str]:
        """Jobs and their states, as sacct -c tells them."""
        lines = self.tree.run("sacct -c -a -n -P -S 2000-01-01 -o jobid,state").split()
        return dict(line.split("|") for line in lines)

    def version(self, package: str) -> str:
        return self.tree.run(f"dpkg-query -W -f '${{Version}}' {package}")


def previous(package: Path, directory: Path) -> Path:
    """The same package, one version earlier; the daemon in it says so too."""
    tree = directory / "previous"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(control.read_text().replace(f"Version: {__version__}", "Version: 0.0.9", 1))
    for module in tree.glob("usr/lib/slurmjcd/lib/python3*/site-packages/slurmjcd/__init__.py"):
        module.write_text(module.read_text().replace(__version__, "0.0.9"))
    for library in [*tree.glob("usr/lib/*/slurm*/*.so"), *tree.glob("usr/lib/redis/modules/*.so")]:
        library.write_bytes(library.read_bytes().replace(f"{__version__}\0".encode(), b"0.0.9\0"))
    out = directory / package.name.replace(__version__, "0.0.9", 1)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, out], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return out


@pytest.fixture(scope="module")
def host() -> Iterator[Site]:
    made = os.environ.get("SLURMJCD_TREE")
    with debian_tree(Path(made) if made else None) as tree:
        run_slurm(tree)
        yield Site(tree)


@pytest.fixture(scope="module")
def installed(host: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """All of install.md's steps, with packages of the version before."""
    packages = sorted(PACKAGES.glob("*.deb"))
    assert len(packages) == 3, f"{PACKAGES} has {[path.name for path in packages]}: run make package"
    for package in packages:
        shutil.copy(previous(package, tmp_path_factory.mktemp("previous")), host.tree.path / "root" / "packages")
    host.follow(INSTALL, "install", "configure", "slurm", "look")
    return host


@pytest.fixture(scope="module")
def upgraded(installed: Site) -> Site:
    for old in (installed.tree.path / "root" / "packages").glob("*.deb"):
        old.unlink()
    for package in PACKAGES.glob("*.deb"):
        shutil.copy(package, installed.tree.path / "root" / "packages")
    installed.follow(UPGRADE, "before", "upgrade", "restart-slurmctld", "look")
    return installed


@pytest.fixture(scope="module")
def removed(upgraded: Site) -> Site:
    refused = upgraded.tree.run("apt-get remove -y slurmjcd-slurm-plugin", status=100)
    assert "JobCompType=jobcomp/redis" in refused
    upgraded.follow(INSTALL, "slurm-back", "remove")
    return upgraded


def test_each_block_is_named_or_says_why_it_is_only_shown() -> None:
    for page in (INSTALL, UPGRADE):
        assert [block.where for block in blocks(page) if block.runs and not block.name] == []


def test_the_readme_has_no_step_that_the_page_has_not() -> None:
    section = (ROOT / "README.md").read_text().partition("## Install it at a site")[2].partition("\n## ")[0]
    shown = [line for block in section.split("```")[1::2] for line in block.split("\n") if line]
    assert "systemctl restart slurmctld" in shown
    typed = {line for block in blocks(INSTALL) for line in block.text.splitlines()}
    assert [line for line in shown if line not in typed] == []


def test_the_page_leads_to_completed_jobs_and_a_doctor_who_finds_nothing(installed: Site) -> None:
    print("\ninstalled in", {name: round(seconds, 1) for name, seconds in installed.seconds.items()})
    assert installed.version("slurmjcd") == "0.0.9-1"
    assert "built for the installed Slurm" in installed.printed["slurm"]
    assert "COMPLETED" in installed.printed["look"]
    report = json.loads(installed.tree.run("slurmjc doctor --json", status=None))
    wrong = [(found["code"], found["text"]) for found in report["findings"] if found["level"] != "ok"]
    # the kernel is that of the machine that runs the tests, whose settings are not ours to change
    assert [found for found in wrong if found[0] not in ("overcommit", "huge-pages")] == []


def test_man_and_completions_are_where_they_are_looked_for(installed: Site) -> None:
    pages = installed.tree.run("dpkg -L slurmjcd slurmjcd-slurm-plugin slurmjcd-redis-module").split()
    for name in ("man1/slurmjc.1.gz", "man1/slurmjc-jobs.1.gz", "man5/slurmjcd.toml.5.gz", "man7/jobcomp_redis.7.gz"):
        assert f"/usr/share/man/{name}" in pages
    for name in ("bash-completion/completions/slurmjc", "zsh/vendor-completions/_slurmjc"):
        assert f"/usr/share/{name}" in pages


def test_units_as_installed_are_right(installed: Site) -> None:
    verify = "systemd-analyze --man=no --recursive-errors=no verify /usr/lib/systemd/system/slurmjcd*"
    assert installed.tree.run(verify) == ""


def test_a_site_of_another_slurm_is_not_offered_the_plugin(installed: Site) -> None:
    depends = installed.tree.run("dpkg-query -W -f '${Depends}' slurmjcd-slurm-plugin")
    version = installed.tree.run("slurmctld -V").split()[-1]
    year, month, patch = version.split(".")
    assert f"slurm-wlm-basic-plugins (>= {version}~)" in depends
    assert f"slurm-wlm-basic-plugins (<< {year}.{month}.{int(patch) + 1}~)" in depends


def test_an_upgrade_keeps_jobs_and_misses_none(upgraded: Site) -> None:
    assert upgraded.version("slurmjcd") == f"{__version__}-1"
    assert f"slurmjcd {__version__}" in upgraded.tree.run("slurmjcd version")
    jobs = upgraded.completed()
    assert "1" in jobs, "the job from before"
    job = upgraded.job()
    assert upgraded.completed()[job] == "COMPLETED"
    # what a site wrote stays
    assert "ttl_s = 7776000" in (upgraded.tree.path / "etc" / "slurmjcd" / "slurmjcd.toml").read_text()


def test_removal_leaves_slurm_and_the_jobs(removed: Site) -> None:
    assert "JobCompType             = jobcomp/none" in removed.tree.run("scontrol show config")
    job = removed.job()
    assert f"JobId={job} " in removed.tree.run(f"scontrol show job {job}")
    assert not (removed.tree.path / "usr" / "lib" / "slurmjcd").exists()
    assert not (removed.tree.path / "usr" / "bin" / "slurmjc").exists()
    left = removed.tree.path / "var" / "lib" / "slurmjcd"
    assert (left / "spool.db").exists()
    assert (left / "redis").is_dir()


def test_what_a_purge_left_is_there_again(removed: Site) -> None:
    removed.follow(INSTALL, "install", "configure", "slurm", "look")
    assert "1" in removed.completed()

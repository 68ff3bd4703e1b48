# SPDX-License-Identifier: MIT
"""check-config --slurm, with the plugin that was built and the Slurm that is installed."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from slurmjcd.config.settings import Config
from slurmjcd.errors import ConfigError
from slurmjcd.slurm.slurmplugin import check_slurm, plugin_version
from tests.harness import Munge, SlurmCluster, SlurmOptions, wait_until
from tests.harness.paths import PLUGIN, program
from tests.harness.slurm_conf import slurm_version


def built_for(directory: Path, version: tuple[int, ...]) -> Path:
    """A copy of the plugin that says it is built for another release."""
    directory.mkdir(exist_ok=True)
    path = directory / "jobcomp_redis.so"
    ours, theirs = (struct.pack("<I", v[0] << 16 | v[1] << 8 | v[2]) for v in (slurm_version(), version))
    whole = PLUGIN.read_bytes()
    at = [n for n in range(0, len(whole), 4) if whole[n : n + 4] == ours]
    path.write_bytes(whole)
    for place in at:
        path.write_bytes(whole[:place] + theirs + whole[place + 4 :])
        if plugin_version(path) == version:
            return path
    raise AssertionError("the number was not found")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    shutil.copy(PLUGIN, tmp_path / "plugins")
    write(tmp_path)
    return tmp_path


def write(site: Path, **changes: str) -> None:
    settings = {"JobCompType": "jobcomp/redis", "JobCompLoc": str(site), "PluginDir": f"{site}/plugins"} | changes
    (site / "slurm.conf").write_text("".join(f"{key}={value}\n" for key, value in settings.items() if value))


def check(site: Path) -> str:
    return check_slurm(
        Config.model_validate({"daemon": {"run_dir": str(site)}, "access": {"slurm_conf": str(site / "slurm.conf")}})
    )


def test_plugin_that_fits(site: Path) -> None:
    year, month, patch = slurm_version()
    assert check(site) == f"{site}/plugins/jobcomp_redis.so: built for the installed Slurm {year}.{month:02}.{patch}"


@pytest.mark.parametrize("version", [(22, 5, 9), (24, 11, 4), (23, 5, 8), (26, 5, 3)])
def test_plugin_of_another_release_is_named(site: Path, version: tuple[int, int, int]) -> None:
    path = built_for(site / "plugins", version)
    year, month, patch = version
    with pytest.raises(
        ConfigError, match=f"{path} is built for Slurm {year}.{month:02}.{patch}, but .* build it again"
    ):
        check(site)
    # Slurm takes the one that fits, wherever it comes
    write(site, PluginDir=f"{site}/plugins:{PLUGIN.parent}")
    assert check(site).startswith(str(PLUGIN))


def test_slurmctld_refuses_what_is_named(rundir: Path, munge: Munge) -> None:
    options = SlurmOptions(plugin=built_for(rundir / "other", (22, 5, 9)), job_comp_loc=str(rundir))
    cluster = SlurmCluster(rundir / "slurm", munge.socket, options)
    log = rundir / "slurm" / "slurmctld.out"
    cluster.slurmctld.start()
    try:
        wait_until(lambda: "Incompatible Slurm plugin" in log.read_text(), what="slurmctld to refuse the plugin")
        # 22.05 goes on without any, and every job that ends meanwhile is lost
        if slurm_version() < (23, 2):
            wait_until(cluster.controller_answers, what="slurmctld to run without it")
        else:
            wait_until(lambda: not cluster.slurmctld.running, what="slurmctld to end")
    finally:
        if cluster.slurmctld.running:
            cluster.slurmctld.stop()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"JobCompType": ""}, "JobCompType is not set: set JobCompType=jobcomp/redis"),
        ({"JobCompType": "jobcomp/none"}, "JobCompType is jobcomp/none: set JobCompType=jobcomp/redis"),
        ({"JobCompLoc": "/elsewhere"}, "JobCompLoc is /elsewhere, but the sockets are in"),
        ({"PluginDir": "/nowhere"}, "there is no jobcomp_redis.so in PluginDir=/nowhere"),
    ],
)
def test_slurm_conf_that_leads_elsewhere(site: Path, changes: dict[str, str], message: str) -> None:
    write(site, **changes)
    with pytest.raises(ConfigError, match=message):
        check(site)


def test_no_slurm_conf(site: Path) -> None:
    (site / "slurm.conf").unlink()
    with pytest.raises(ConfigError, match=r"slurm\.conf can't be read: No such file"):
        check(site)


@pytest.mark.parametrize("keep", [0, 10, 64, 4096, 20000])
def test_file_that_is_no_plugin(site: Path, keep: int) -> None:
    path = site / "plugins" / "jobcomp_redis.so"
    path.write_bytes(PLUGIN.read_bytes()[:keep])
    with pytest.raises(ConfigError, match=f"{path} is no Slurm plugin"):
        check(site)


def test_library_without_the_symbol(site: Path) -> None:
    path = site / "plugins" / "jobcomp_redis.so"
    shutil.copy(PLUGIN.parents[1] / "redis_module" / "slurm_jobcomp.so", path)
    with pytest.raises(ConfigError, match="it has no symbol plugin_version"):
        check(site)


def test_the_command(site: Path) -> None:
    conf = site / "slurmjcd.toml"
    conf.write_text(
        f'[daemon]\nrun_dir = "{site}"\nstate_dir = "{site}"\nslurm_user = "root"\n'
        f'[access]\nslurm_conf = "{site}/slurm.conf"\n'
    )
    command = [program("slurmjcd"), "check-config", "--config", conf, "--slurm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "built for the installed Slurm" in done.stdout
    built_for(site / "plugins", (26, 5, 3))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "is built for Slurm 26.05.3" in done.stderr

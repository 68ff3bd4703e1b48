# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest

from slurmjcd.slurm.slurmconf import private_jobs


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("", False),
        ("PrivateData=jobs\n", True),
        ("privatedata = accounts,Jobs,nodes # comment\n", True),
        ("PrivateData=accounts\n", False),
        ("#PrivateData=jobs\n", False),
        ("PrivateData=none\n", False),
        ("PrivateData=jobs\nPrivateData=usage\n", False),
        ("PrivateData=accounts,\\\njobs\n", True),
        ("ClusterName=jobs\n", False),
        ("include more.conf\n", True),
        ("Include more.conf\nPrivateData=none\n", False),
        # as Slurm itself takes it: read_config.c looks for these words anywhere in the value
        ("PrivateData=jobs_extra\n", True),
        ("PrivateData=job\n", True),
        ("PrivateData=all\n", True),
        ("PrivateData=ALL\n", True),
        ('PrivateData="accounts,jobs"\n', True),
        ("ClusterName=c PrivateData=jobs\n", True),
        ("PrivateData=jobs ClusterName=none\n", True),
        ("MyPrivateData=jobs\n", False),
    ],
)
def test_private_data_is_read_from_slurm_conf(tmp_path: Path, text: str, private: bool) -> None:
    (tmp_path / "slurm.conf").write_text(text)
    (tmp_path / "more.conf").write_text("PrivateData=jobs\n")
    assert private_jobs(tmp_path / "slurm.conf") is private


@pytest.mark.parametrize("text", [None, "include nowhere.conf\n", "include slurm.conf\n"])
def test_a_slurm_conf_that_cant_be_read_means_private(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "slurm.conf").write_text(text)
    assert private_jobs(tmp_path / "slurm.conf")


def test_a_nul_byte_in_the_name_of_an_included_file_means_private(tmp_path: Path) -> None:
    path = tmp_path / "slurm.conf"
    path.write_text("PrivateData=none\ninclude more\0.conf\n")
    assert private_jobs(path)

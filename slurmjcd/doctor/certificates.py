# SPDX-License-Identifier: MIT
"""Certificates: those that the configuration names, and the one that Redis shows."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from slurmjcd.config.settings import Config
from slurmjcd.doctor import Finding, fine, problem

_SOON_S: Final = 30 * 86_400
_OPENSSL_S: Final = 10


def files(config: Config) -> Iterator[Finding]:
    """Until when the files of redis.tls_ca_file and tls_cert_file are good."""
    redis = config.redis
    for key, path in (("redis.tls_ca_file", redis.tls_ca_file), ("redis.tls_cert_file", redis.tls_cert_file)):
        if path is None or not path.is_file():
            continue  # that it is missing is a finding of the configuration
        fix = f"a new certificate in {path}; then systemctl restart slurmjcd"
        try:
            ends_s = _ends(path)
        except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
            text = f"{key}: {path}: no date can be read: {exc}"
            yield problem("certificate-unreadable", text, f"openssl x509 -noout -enddate -in {path}")
        else:
            yield _judge(f"{key}: {path}", ends_s, fix)


def shown(certificate: Mapping[str, Any]) -> Iterator[Finding]:
    """Until when the certificate is good that the server showed, as getpeercert() has it; nothing without TLS."""
    if "notAfter" in certificate:
        fix = "a new certificate for Redis: tls-cert-file in redis.conf; now: redis-cli CONFIG SET tls-cert-file <file>"
        yield _judge("the certificate of Redis", float(ssl.cert_time_to_seconds(certificate["notAfter"])), fix)


def _ends(path: Path) -> float:
    """Epoch seconds. Python's ssl reads no certificate but its peer's, openssl is where TLS is set up."""
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(path)],
        capture_output=True, text=True, timeout=_OPENSSL_S, check=False,
    )  # fmt: skip
    key, _, date = done.stdout.strip().partition("=")
    if done.returncode or key != "notAfter":
        lines = done.stderr.strip().splitlines()
        raise ValueError(lines[0] if lines else "openssl says nothing")
    return float(ssl.cert_time_to_seconds(date))


def _judge(name: str, ends_s: float, fix: str) -> Finding:
    left_s = ends_s - time.time()
    date = time.strftime("%Y-%m-%d", time.gmtime(ends_s))
    if left_s <= 0:
        return problem("certificate-over", f"{name} was good until {date}", fix)
    if left_s < _SOON_S:
        return problem("certificate-ends", f"{name} ends in {left_s / 86_400:.0f} days, on {date}", fix)
    return fine("certificates", f"{name} is good until {date}")

# SPDX-License-Identifier: MIT
"""Redis behind TLS: its certificate and its name are checked, and nothing is ever said in clear instead."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.config.settings import Config, RedisSection
from slurmjcd.errors import Unavailable
from slurmjcd.store.store import Store
from tests.harness import Daemon, RedisServer, wait_until
from tests.harness.ports import free_ports
from tests.slurmjcd.jobs import job
from tests.slurmjcd.wire import Wire

MakeRedis = Callable[..., RedisServer]


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True, timeout=60)


def make_ca(directory: Path, name: str) -> Path:
    """A certificate authority: NAME.pem and NAME.key."""
    subject = ["-subj", f"/CN={name}", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    openssl(directory, "req", "-x509", *key, *subject, "-out", f"{name}.pem")
    return directory / f"{name}.pem"


def make_certificate(directory: Path, name: str, ca: str, host: str, *, kind: str = "DNS") -> tuple[Path, Path]:
    """A certificate for that host (`kind` IP: an address) and its key, signed by the CA."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    openssl(
        directory,
        "req",
        *key,
        "-subj",
        f"/CN={host}",
        "-addext",
        f"subjectAltName={kind}:{host}",
        "-out",
        f"{name}.csr",
    )
    sign = ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", "1", "-copy_extensions", "copy"]
    openssl(directory, "x509", "-req", "-in", f"{name}.csr", *sign, "-out", f"{name}.pem")
    (directory / f"{name}.key").chmod(0o600)
    return directory / f"{name}.pem", directory / f"{name}.key"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two CAs; certificates of the right one for localhost and for another host, and a client's."""
    directory = tmp_path_factory.mktemp("pki")
    make_ca(directory, "right")
    make_ca(directory, "wrong")
    make_certificate(directory, "here", "right", "localhost")
    make_certificate(directory, "elsewhere", "right", "redis.example")
    make_certificate(directory, "address", "right", "127.0.0.1", kind="IP")
    make_certificate(directory, "client", "right", "slurmjcd")
    return directory


def serve(make_redis: MakeRedis, pki: Path, certificate: str, *, clients: str = "no") -> int:
    """A server on a TLS port, beside the Unix socket that the harness asks; the port."""
    (port,) = free_ports(1)
    make_redis(
        options={
            "tls-port": port, "bind": "127.0.0.1 -::1", "tls-cert-file": str(pki / f"{certificate}.pem"),
            "tls-key-file": str(pki / f"{certificate}.key"), "tls-ca-cert-file": str(pki / "right.pem"),
            "tls-auth-clients": clients,
        }
    )  # fmt: skip
    return port


async def connect(port: int, **settings: Any) -> str:
    """The module's version as the daemon's writer learns it."""
    settings = {"password_file": None, **settings}
    store = Store(Config(redis=RedisSection(address=f"rediss://localhost:{port}", **settings)))
    link = store.writer()
    try:
        return (await link.open()).text("module_version")
    finally:
        await link.close()


async def test_a_server_with_the_right_certificate_is_spoken_to(make_redis: MakeRedis, pki: Path) -> None:
    assert await connect(serve(make_redis, pki, "here"), tls_ca_file=pki / "right.pem")


async def test_a_server_of_another_ca_is_refused(make_redis: MakeRedis, pki: Path) -> None:
    port = serve(make_redis, pki, "here")
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await connect(port, tls_ca_file=pki / "wrong.pem")
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await connect(port)  # the system's CAs


async def test_a_server_of_another_name_is_refused(make_redis: MakeRedis, pki: Path) -> None:
    with pytest.raises(Unavailable, match="Hostname mismatch"):
        await connect(serve(make_redis, pki, "elsewhere"), tls_ca_file=pki / "right.pem")


async def test_a_server_that_wants_to_know_its_clients(make_redis: MakeRedis, pki: Path) -> None:
    port = serve(make_redis, pki, "here", clients="yes")
    with pytest.raises(Unavailable):
        await connect(port, tls_ca_file=pki / "right.pem")
    mine = {"tls_cert_file": pki / "client.pem", "tls_key_file": pki / "client.key"}
    assert await connect(port, tls_ca_file=pki / "right.pem", **mine)


async def test_nothing_is_said_in_clear_to_a_server_without_tls(pki: Path, tmp_path: Path) -> None:
    """Neither at once nor after the failure: the first byte of each connection is that of a TLS handshake."""
    secret = tmp_path / "password"
    secret.write_text("do-not-tell")
    secret.chmod(0o600)
    came: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def accept() -> None:
            for _ in range(3):
                with listener.accept()[0] as client:
                    came.append(client.recv(65536))
                    client.sendall(b"-NOAUTH Authentication required.\r\n+OK\r\n$2\r\nOK\r\n")

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await connect(listener.getsockname()[1], tls_ca_file=pki / "right.pem", password_file=secret)
        thread.join(20)
    assert len(came) == 3
    assert all(data[:1] == b"\x16" for data in came)
    assert not any(b"do-not-tell" in data or b"AUTH" in data for data in came)


async def test_a_record_goes_in_and_comes_out_over_tls(
    make_redis: MakeRedis, make_daemon: Callable[..., Daemon], pki: Path
) -> None:
    port = serve(make_redis, pki, "here", clients="yes")
    tls = {
        "tls_ca_file": str(pki / "right.pem"), "tls_cert_file": str(pki / "client.pem"),
        "tls_key_file": str(pki / "client.key"),
    }  # fmt: skip
    daemon = make_daemon(redis_address=f"rediss://localhost:{port}", settings={"redis": tls})
    wire = await Wire.connect(daemon.ingest_socket)
    assert await wire.put(1, job(1)) == 1
    await wire.close()
    wait_until(
        lambda: json.loads(daemon.get("/readyz")[1])["components"]["spool"]["backlog_records"] == 0, what="Redis"
    )
    asking = await Wire.connect(daemon.query_socket)
    await asking.call("SLURMJC.MATCH", "q")
    assert await asking.call("SLURMJC.FETCH", "q", 10, "RECORDS") == [job(1)]
    await asking.close()


async def test_a_cluster_behind_tls(make_redis: MakeRedis, pki: Path) -> None:
    """Both who says where a slot is and who has it are checked, by the address that the node announces."""
    port, bus = free_ports(2)
    server = make_redis(
        options={
            "tls-port": port, "bind": "127.0.0.1", "tls-cert-file": str(pki / "address.pem"),
            "tls-key-file": str(pki / "address.key"), "tls-ca-cert-file": str(pki / "right.pem"),
            "tls-auth-clients": "no", "tls-cluster": "yes", "cluster-enabled": "yes", "cluster-port": bus,
        }
    )  # fmt: skip
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", what="the cluster")
    for ca, said in (("right", ""), ("wrong", "certificate verify failed")):
        address = f"rediss+cluster://127.0.0.1:{port}"
        store = Store(Config(redis=RedisSection(address=address, shards=3, tls_ca_file=pki / f"{ca}.pem")))
        link = store.shards[1].writer()
        try:
            if said:
                with pytest.raises(Unavailable, match=said):
                    await link.open()
            else:
                assert (await link.open()).text("module_version")
                assert link.address == f"127.0.0.1:{port}"
        finally:
            await link.close()
            await store.close()

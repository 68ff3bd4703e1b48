# SPDX-License-Identifier: MIT
"""jobcomp/mysql's table, read over a connection to MariaDB or MySQL. Needs PyMySQL (extra `mysql`).

The table has no submit time, cluster or account: the start (of a job that never started, the end) stands for submit
and eligible, so that nobody sees waiting times that were never measured. Times there are epoch seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from slurmjcd.importing import values
from slurmjcd.importing.item import Item, NoRecord, WrongFormat

_RESIZING: Final = 1 << 13
_STATE_BASE: Final = 0xFF
_TABLE: Final = "jobcomp_table"
_COLUMNS: Final = (
    "jobid", "uid", "user_name", "gid", "group_name", "name", "state", "partition", "timelimit", "starttime", "endtime",
    "nodelist", "nodecnt", "proc_cnt",
)  # fmt: skip
_OPTIONS: Final = frozenset({"socket", "table", "ca"})
_CONNECT_S: Final = 10
_USAGE: Final = "mysql://USER@HOST[:PORT]/DATABASE or mysql://USER@/DATABASE?socket=/run/mysqld/mysqld.sock"


class MysqlTable:
    """The rows as a source of items, in order of the primary key, as they were when the reading began."""

    kind = "mysql"
    identity = ""  # rows may come and go: what was taken is found in the store instead
    heading = ""

    def __init__(self, url: str, password: str | None, cluster: str) -> None:
        """Connect.

        Raises:
            WrongFormat: the URL is none, PyMySQL is missing, the server refuses, or there is no such table.
        """
        try:
            import pymysql  # noqa: PLC0415  # an extra
        except ModuleNotFoundError as exc:
            raise WrongFormat("reading mysql:// needs PyMySQL: pip install 'slurmjcd[mysql]'") from exc
        where, self._table = _where(url)
        self._cluster, self._errors = cluster, pymysql.MySQLError
        try:
            # bytes as they are: Slurm wrote them without telling the server what they are
            self._connection = pymysql.connect(
                **where, password=password or "", use_unicode=False, connect_timeout=_CONNECT_S,
                cursorclass=pymysql.cursors.SSCursor,
            )  # fmt: skip
            with self._connection.cursor() as cursor:
                cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
                cursor.execute(f"SELECT COUNT(*) FROM `{self._table}`")  # noqa: S608  # a checked name
                self.total = int(cursor.fetchall()[0][0])
        except (self._errors, OSError) as exc:
            raise WrongFormat(f"{url}: {_said(exc)}") from exc

    def items(self, after: int) -> Iterator[Item]:
        columns = ", ".join(f"`{name}`" for name in _COLUMNS)
        order = "ORDER BY jobid, starttime, endtime"
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"SELECT {columns} FROM `{self._table}` {order}")  # noqa: S608  # checked names
                for number, row in enumerate(cursor, 1):
                    if number > after:
                        yield self._item(dict(zip(_COLUMNS, map(_text, row), strict=True)))
        except self._errors as exc:
            raise WrongFormat(f"{self._table} can't be read on: {_said(exc)}") from exc

    def _item(self, row: dict[str, str]) -> Item:
        place = f"jobid {row['jobid']}, starttime {row['starttime']}, endtime {row['endtime']}"
        item = Item(place, json.dumps(row), knows_submit=False)
        try:
            item.fields = self._fields(row)
        except NoRecord as exc:
            item.refused = str(exc)
        return item

    def _fields(self, row: dict[str, str]) -> dict[str, Any]:
        number = {
            name: values.number(row[name], name)
            for name in ("jobid", "uid", "gid", "state", "starttime", "endtime", "nodecnt", "proc_cnt")
        }
        nodes = values.text_or_none(row["nodelist"])
        end = number["endtime"]
        start = number["starttime"] if nodes else 0
        resizing = number["state"] & _RESIZING
        if resizing and start == end:
            start = 0  # as in filetxt: Slurm writes the resize as start and end of the part before it
        base = number["state"] & _STATE_BASE
        if resizing:
            base = values.state("RESIZING")[0]
        fields: dict[str, Any] = {
            "job_id": number["jobid"], "uid": number["uid"], "gid": number["gid"],
            "user": None if row["user_name"] == row["uid"] else values.text_or_none(row["user_name"]),
            "group": None if row["group_name"] == row["gid"] else values.text_or_none(row["group_name"]),
            "name": row["name"] or None, "cluster": self._cluster, "partition": values.text_or_none(row["partition"]),
            "state": base, "submit": start or end, "eligible": start or end, "start": start, "end": end,
            "time_limit": values.time_limit(row["timelimit"]), "node_count": number["nodecnt"] or None,
            "cpu_count": number["proc_cnt"] or None, "nodes": nodes, "restart_count": 0,
        }  # fmt: skip
        if resizing:
            fields["extra"] = {"state_flags": _RESIZING}
        return fields


def _text(value: Any) -> str:
    return "" if value is None else value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _said(exc: Exception) -> str:
    """What the server said, without the number before it."""
    return str(exc.args[-1] if exc.args else exc)


def _where(url: str) -> tuple[dict[str, Any], str]:
    """pymysql's words for an address, and the table's name."""
    try:
        parts, port = urlsplit(url), urlsplit(url).port
        options = {name: found[-1] for name, found in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    except ValueError as exc:
        raise WrongFormat(f"'{url}' is no address: {exc}; expected {_USAGE}") from exc
    if parts.password is not None:
        raise WrongFormat("an address must not hold a password, everyone may see it: use --password-file")
    database, table = unquote(parts.path.removeprefix("/")), options.get("table", _TABLE)
    if not database or "/" in database or set(options) - _OPTIONS or not (parts.hostname or options.get("socket")):
        raise WrongFormat(f"'{url}' is no address of a database, expected {_USAGE}")
    if not table.replace("_", "").isalnum():
        raise WrongFormat(f"'{table}' is no name of a table")
    where: dict[str, Any] = {"user": unquote(parts.username or ""), "database": database}
    if socket := options.get("socket"):
        where["unix_socket"] = socket
    else:
        where |= {"host": parts.hostname, "port": port or 3306}
    if ca := options.get("ca"):
        where |= {"ssl_ca": ca, "ssl_verify_cert": True, "ssl_verify_identity": True}
    return where, table

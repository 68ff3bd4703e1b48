# SPDX-License-Identifier: MIT
"""Who uses the cluster: users, accounts, QOS, wckeys and a reservation."""

from __future__ import annotations

import time

from .cluster import CLUSTER, Cluster

ALICE, BOB, CAROL, DAVE, GONE = 2001, 2002, 2003, 2004, 2009
USERS = {"alice": ALICE, "bob": BOB, "carol": CAROL, "dave": DAVE, "gone": GONE}
# account: (parent, its users)
ACCOUNTS = {
    "physics": ("root", ("carol",)),
    "lab1": ("physics", ("alice", "bob", "carol")),
    "chem": ("root", ("alice", "dave", "gone")),
}
QOS = {"high": "Priority=100", "low": "Priority=1", "scavenger": "Priority=0"}
WCKEYS = {"alice": ("wk1", "wk2"), "bob": ("wk1",)}
RESERVATION = "maint1"


def introduce(cluster: Cluster) -> None:
    """Tell slurmdbd about them; slurmctld learns it at its start."""

    def sacctmgr(*words: str) -> None:
        cluster.run("sacctmgr", "-i", *words)

    for name, settings in QOS.items():
        sacctmgr("add", "qos", name, settings)
    sacctmgr("modify", "qos", "high", "set", "preempt=low,scavenger")
    sacctmgr("modify", "qos", "low", "set", "preemptmode=cancel")
    sacctmgr("modify", "qos", "scavenger", "set", "preemptmode=requeue")
    for account, (parent, users) in ACCOUNTS.items():
        sacctmgr("add", "account", account, f"parent={parent}", f"cluster={CLUSTER}")
        for user in users:
            sacctmgr("add", "user", user, f"account={account}")
    sacctmgr("modify", "account", "root", "set", f"qos=normal,{','.join(QOS)}")
    for user, keys in WCKEYS.items():
        sacctmgr("add", "user", user, f"wckeys={','.join(keys)}")


def reserve(cluster: Cluster) -> None:
    """Reserve part of the cluster for two users."""
    words = (f"StartTime={cluster.clock.text(0)}", "Duration=60", "Users=alice,bob", "Nodes=n7", "Flags=IGNORE_JOBS")
    cluster.run("scontrol", "create", "reservation", f"ReservationName={RESERVATION}", *words)
    time.sleep(1.1)  # plain sacct shows it for jobs that start in a later second

# SPDX-License-Identifier: MIT
"""History of completed jobs from elsewhere into the store, each run of a job once.

Where it writes: straight to Redis, as the daemon's writer, not to ingest.sock. Why:

- The daemon's spool is one queue. A million old jobs in it would keep every job that ends now waiting behind them, and
  would be counted as completions by the metrics and by `slurmjc audit`, which they are not.
- A PUT takes records and moves a watermark with one effect. With a watermark per import (`import-<digest of what is
  read>`) there is no moment at which a kill leaves a batch stored and not counted, or counted and not stored, and what
  Redis loses it loses together with the watermark. So an import that is run again goes on where the store is.
- What is imported can be read once more; live records can't. They keep the spool for themselves.

Beside live traffic a run may be there already, reported by slurmctld with more fields than any log has. So each batch
is preceded by a question for the runs of its job ids (target.py), and what is there stays as it is. The question can't
see what is still in a ring or in the spool: backlog.py waits for what was there when the import began, and nothing that
is imported ended later than that. The store itself knows a run by its identity, whatever the question missed.

A source (item.py) numbers what it reads. A module each: filetxt.py, and those beside it.
"""

# SPDX-License-Identifier: MIT
"""Days past the hot window: moved from Redis into Parquet files, one a day, and asked with the same criteria.

files.py says what a file is, writer.py makes one and reads it back, reader.py finds records in them, engine.py asks the
module's own code what matches. moving.py is a pass over the days that are due, in a process of its own. Only files.py
does without pyarrow, which is imported by who needs it.
"""

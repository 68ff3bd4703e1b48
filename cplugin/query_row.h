/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a stored record to what sacct prints. */
#ifndef JOBCOMP_REDIS_QUERY_ROW_H
#define JOBCOMP_REDIS_QUERY_ROW_H

#include "record.h"
#include "row_memory.h"
#include "slurm_compat.h"

/*
 * A new row from a record, with each column as sacct shows that of the same job
 * from slurmdbd; free it with row_free. Its strings are not to be written to:
 * rows share them.
 */
extern jobcomp_job_rec_t *query_row(struct row_memory *memory,
				    const struct jc_record *record);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A row as the engine keeps it: one 64-bit code per column.
 *
 * Column N is field N of the record, except that column 0 (version, always 1)
 * holds the row's time to live. Codes keep the order of the values:
 *   required numbers and times  the value
 *   numbers that may be nil     0 = nil, else value + 1 (sluid: value, with a
 *                               column of its own for nil, as it uses 64 bits)
 *   time_limit                  0 = nil, 1 = the partition's, minutes + 2,
 *                               JC_CODE_UNLIMITED
 *   strings, extra              0 = nil, odd = id in the segment's dictionary,
 *                               even = place in the block's heap
 */
#ifndef SLURMJCD_COLUMNS_H
#define SLURMJCD_COLUMNS_H

#include "record.h"

enum {
    JC_COL_TTL = JC_FIELD_VERSION,  /* seconds after end; 0 = kept for ever */
    JC_COL_FLAGS = JC_FIELD_COUNT,  /* extra.state_flags */
    JC_COL_REASON_PREV,             /* extra.state_reason_prev */
    JC_COL_SLUID_KNOWN,
    JC_COLS
};

#define JC_CODE_UNLIMITED (UINT64_C(1) << 32)

static inline uint64_t jc_code_dict(uint32_t id)
{
    return (uint64_t)id << 1 | 1;
}

static inline bool jc_code_is_dict(uint64_t code)
{
    return code & 1;
}

static inline bool jc_column_is_string(unsigned col)
{
    return col < JC_FIELD_COUNT && (jc_fields[col].kind == JC_KIND_STRING ||
                                    jc_fields[col].kind == JC_KIND_EXTRA);
}

/* Strings no criterion asks for, which may stay out of the dictionary. */
static inline bool jc_column_has_heap(unsigned col)
{
    return col == JC_FIELD_WORK_DIR || col == JC_FIELD_TRES_REQ ||
           col == JC_FIELD_TRES_ALLOC || col == JC_FIELD_EXTRA;
}

/* The codes of rec's numbers into row; string columns are left alone. */
void jc_row_from_numbers(uint64_t row[JC_COLS], const struct jc_record *rec,
                         uint64_t ttl);

/* rec's numbers from the codes in row; rec's strings are left alone. */
void jc_row_to_numbers(struct jc_record *rec, const uint64_t row[JC_COLS]);

#endif

/* SPDX-License-Identifier: MIT */
#include "columns.h"

static uint64_t limit_code(const struct jc_record *rec)
{
    switch (rec->limit_kind) {
    case JC_LIMIT_MINUTES:
        return (uint64_t)rec->time_limit + 2;
    case JC_LIMIT_UNLIMITED:
        return JC_CODE_UNLIMITED;
    case JC_LIMIT_PARTITION:
        return 1;
    default:
        return 0;
    }
}

void jc_row_from_numbers(uint64_t row[JC_COLS], const struct jc_record *rec,
                         uint64_t ttl)
{
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++) {
        const struct jc_number *n = &rec->number[col];

        if (jc_fields[col].kind != JC_KIND_NUMBER)
            continue;
        if (jc_fields[col].required || col == JC_FIELD_SLUID)
            row[col] = n->value;
        else
            row[col] = n->known ? n->value + 1 : 0;
    }
    row[JC_FIELD_TIME_LIMIT] = limit_code(rec);
    row[JC_COL_TTL] = ttl;
    row[JC_COL_FLAGS] = rec->state_flags;
    row[JC_COL_REASON_PREV] = rec->state_reason_prev;
    row[JC_COL_SLUID_KNOWN] = rec->number[JC_FIELD_SLUID].known;
}

static void limit_from(struct jc_record *rec, uint64_t code)
{
    rec->time_limit = 0;
    if (code == JC_CODE_UNLIMITED) {
        rec->limit_kind = JC_LIMIT_UNLIMITED;
    } else if (code >= 2) {
        rec->limit_kind = JC_LIMIT_MINUTES;
        rec->time_limit = (uint32_t)(code - 2);
    } else {
        rec->limit_kind = code ? JC_LIMIT_PARTITION : JC_LIMIT_NIL;
    }
}

void jc_row_to_numbers(struct jc_record *rec, const uint64_t row[JC_COLS])
{
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++) {
        struct jc_number *n = &rec->number[col];

        if (jc_fields[col].kind != JC_KIND_NUMBER)
            continue;
        if (jc_fields[col].required)
            *n = (struct jc_number){row[col], true};
        else
            *n = (struct jc_number){row[col] - !!row[col], !!row[col]};
    }
    rec->number[JC_FIELD_VERSION].value = JC_RECORD_VERSION;
    rec->number[JC_FIELD_SLUID] = (struct jc_number){
        row[JC_FIELD_SLUID], row[JC_COL_SLUID_KNOWN] != 0};
    limit_from(rec, row[JC_FIELD_TIME_LIMIT]);
    rec->state_flags = (uint32_t)row[JC_COL_FLAGS];
    rec->state_reason_prev = (uint32_t)row[JC_COL_REASON_PREV];
}

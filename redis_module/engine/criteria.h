/* SPDX-License-Identifier: MIT */
/* What a query asks for: the criteria of docs/protocol.md, parsed. */
#ifndef SLURMJCD_CRITERIA_H
#define SLURMJCD_CRITERIA_H

#include "columns.h"
#include "nodelist.h"
#include "ranges.h"

/* 100_[1-3,7]: tasks of an array; 100+1: parts of a het job. */
struct jc_member {
    uint32_t id;
    bool het;
    struct jc_ranges of; /* task ids or het offsets */
};

struct jc_strings {
    struct jc_slice *v; /* copies */
    size_t n;
    size_t room;
};

struct jc_criteria {
    uint64_t start, end;      /* S and E; has_end false: no bound */
    bool has_start, has_end;
    bool has_job;
    struct jc_ranges jobs;    /* plain ids */
    struct jc_member *member; /* sorted by id */
    size_t members;
    bool has_state;
    uint8_t state[256];       /* base states asked for */
    uint32_t flags;           /* flag bits asked for */
    struct jc_ranges exit;    /* wait statuses without the core dump bit */
    struct jc_nodelist nodes;
    struct jc_strings strings[JC_FIELD_COUNT]; /* "" = absent; those of
                                                  constraint in lower case */
    size_t texts;             /* in strings, all in all */
    struct jc_ranges numbers[JC_COLS];         /* codes; n = 0: not asked */
    bool has_viewer;          /* see viewer.h */
    uint32_t viewer;
    struct jc_strings viewer_accounts;
    uint64_t limit;           /* jobs to return, UINT64_MAX = all */
    char why[320];            /* the error, see jc_criteria_add */
};

void jc_criteria_init(struct jc_criteria *c);
void jc_criteria_free(struct jc_criteria *c);

/* Takes one pair; false with a text in why when it makes no sense. */
bool jc_criteria_add(struct jc_criteria *c, struct jc_slice name,
                     struct jc_slice value);

/* After the last pair; false with a text in why (a window that ends before it
 * starts). */
bool jc_criteria_done(struct jc_criteria *c);

/* Bytes allocated for it. */
size_t jc_criteria_bytes(const struct jc_criteria *c);

/* The small letter of a large one of ASCII. */
static inline char jc_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* Parses a whole decimal number of at most max; for other arguments too. */
bool jc_parse_number(struct jc_slice text, uint64_t max, uint64_t *out);

#endif

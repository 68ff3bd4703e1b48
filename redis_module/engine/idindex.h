/* SPDX-License-Identifier: MIT */
/*
 * Which blocks of a segment hold a job id: pairs (id, block), where id is a
 * job's own id, its array's or its het job's. It answers exactly-once (is this
 * run known?) and -j without scanning. A pair may outlive the row it was made
 * for; whoever follows one looks into the block.
 */
#ifndef SLURMJCD_IDINDEX_H
#define SLURMJCD_IDINDEX_H

#include "host.h"

/* Parts grow one by one, so that no growth takes long. */
#define JC_IDINDEX_PARTS 64

struct jc_idslot {
    uint32_t id;
    uint32_t block; /* block + 1, 0 = free */
};

struct jc_idindex {
    struct {
        struct jc_idslot *slot;
        uint32_t slots;
        uint32_t used;
    } part[JC_IDINDEX_PARTS];
};

void jc_idindex_free(struct jc_idindex *x);

/* Does nothing when the pair is there. */
void jc_idindex_add(struct jc_idindex *x, uint32_t id, uint32_t block);

/* Fetches what looking for id needs first. */
void jc_idindex_expect(const struct jc_idindex *x, uint32_t id);

void jc_idindex_remove(struct jc_idindex *x, uint32_t id, uint32_t block);

/* Walks the blocks of id: *state starts at 0; false at the end. The index must
 * not change in between. */
int jc_idindex_next(const struct jc_idindex *x, uint32_t id, uint32_t *state,
                    uint32_t *block);

size_t jc_idindex_bytes(const struct jc_idindex *x);

#endif

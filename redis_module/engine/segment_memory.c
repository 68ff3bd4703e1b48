/* SPDX-License-Identifier: MIT */
/* What a segment's memory is, and moving it to where the allocator wants it. */
#include "segment_inside.h"

/* Blocks that were not changed lately are sealed, and counted already. */
size_t jc_segment_bytes(const struct jc_segment *s)
{
    size_t bytes = jc_host.size_of((void *)s) + jc_size_of(s->order) +
                   jc_size_of(s->by_id) + jc_idindex_bytes(&s->index) +
                   jc_size_of(s->seen) + s->sealed_bytes;

    for (unsigned i = 0; i < JC_HOT_BLOCKS; i++) {
        const struct jc_block *b = s->hot[i] ? s->by_id[s->hot[i] - 1] : NULL;

        if (b && !b->sealed)
            bytes += jc_block_bytes(b);
    }
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        bytes += jc_dict_bytes(&s->dict[col]);
    return bytes;
}

/* ---- moving ---- */

static void *moved(const struct jc_mover *m, void *p)
{
    void *to = p ? m->move(m->ctx, p) : NULL;

    return to ? to : p;
}

static void move_dict(struct jc_dict *d, const struct jc_mover *m)
{
    d->chunk = moved(m, d->chunk);
    for (uint32_t i = 0; i < d->chunks; i++)
        d->chunk[i] = moved(m, d->chunk[i]);
    d->ref = moved(m, d->ref);
    d->slot = moved(m, d->slot);
    d->old = moved(m, d->old);
}

/* All but the blocks. */
static struct jc_segment *move_head(struct jc_segment *s,
                                    const struct jc_mover *m)
{
    s = moved(m, s);
    s->order = moved(m, s->order);
    s->by_id = moved(m, s->by_id);
    s->seen = moved(m, s->seen);
    for (unsigned col = 0; col < JC_FIELD_COUNT; col++)
        move_dict(&s->dict[col], m);
    for (unsigned i = 0; i < JC_IDINDEX_PARTS; i++)
        s->index.part[i].slot = moved(m, s->index.part[i].slot);
    return s;
}

static void move_block(struct jc_segment *s, uint32_t at,
                       const struct jc_mover *m)
{
    struct jc_block *b = moved(m, s->order[at]);

    s->order[at] = b;
    s->by_id[b->id] = b;
    b->open = moved(m, b->open);
    b->sealed = moved(m, b->sealed);
    b->late = moved(m, b->late);
    b->heap.bytes = moved(m, b->heap.bytes);
    b->heap.at = moved(m, b->heap.at);
}

bool jc_segment_move(struct jc_segment **ps, unsigned long *cursor,
                     const struct jc_mover *m)
{
    if (!*cursor) {
        *ps = move_head(*ps, m);
        *cursor = 1;
    }
    for (; *cursor - 1 < (*ps)->blocks; ++*cursor) {
        if (m->stop(m->ctx))
            return true;
        move_block(*ps, (uint32_t)(*cursor - 1), m);
    }
    return false;
}

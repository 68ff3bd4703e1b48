/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes as a ring file that a process left: set aside, or opened so that it
 * can be read to its end, filled up, freed, closed and opened again with the
 * same records in it.
 *
 * The first byte chooses between a file of exactly the bytes that follow and
 * one whose sums are right, made of the numbers that follow.
 */
#include "plog.h"
#include "ring_bytes.h"
#include "ring_layout.h"
#include "tmpdir.h"

#define CRC_OF(slot) crc32c((slot), sizeof(*(slot)) - sizeof((slot)->crc))
#define SIZE_MAX_BYTES 8192
#define READ_MAX (SIZE_MAX_BYTES / RING_ALIGN * 2)

static void swallow(enum plog_level level, const char *line)
{
    (void)level;
    MUST(line[0]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    plog_sink = swallow;
    tmp_make();
    return 0;
}

static void fill_header(struct input *in, struct ring_header *h, uint64_t size)
{
    uint8_t damage = take_byte(in);

    for (unsigned i = 0; i < 2; i++) {
        h->ident[i] = (struct ring_ident){
            .magic = RING_FILE_MAGIC,
            .format = RING_FILE_FORMAT,
            .header_bytes = RING_HEADER_BYTES,
            .data_bytes = size,
            .id = "fuzz-1",
        };
        h->head[i] = (struct ring_head_slot){
            .n = take_byte(in),
            .pos = take_place(in) * RING_ALIGN,
            .next_seq = take_place(in),
            .dropped = take_place(in),
            .last_dropped_job = take_byte(in),
        };
        h->tail[i] = (struct ring_tail_slot){
            .n = take_byte(in),
            .pos = take_place(in) * RING_ALIGN,
            .seq = take_place(in),
            .spilled = take_place(in),
            .base_seq = take_place(in),
            .generation = take_byte(in),
        };
        h->ident[i].crc = CRC_OF(&h->ident[i]) ^ !!(damage & (1 << i));
        h->head[i].crc = CRC_OF(&h->head[i]) ^ !!(damage & (4 << i));
        h->tail[i].crc = CRC_OF(&h->tail[i]) ^ !!(damage & (16 << i));
    }
}

/* Writes the file; its data bytes are the size of the ring. */
static void make_file(struct input *in)
{
    static _Alignas(4096) uint8_t file[RING_HEADER_BYTES + SIZE_MAX_BYTES];
    uint64_t size = (1 + (uint64_t)take_byte(in)) * RING_ALIGN;

    memset(file, 0, sizeof(file));
    fill_header(in, (struct ring_header *)file, size);
    fill_records(in, file + RING_HEADER_BYTES, size);
    tmp_write("ring", file, RING_HEADER_BYTES + size);
}

/* What reading from the first record to the end gives. */
struct seen {
    unsigned records, holes;
    uint64_t seq[READ_MAX];
    uint32_t crc[READ_MAX];
};

static struct ring_cursor read_all(struct ring *ring, struct seen *seen)
{
    struct ring_cursor cursor = ring_first(ring);
    struct ring_rec_head head;
    const uint8_t *payload;
    enum ring_read_result result;
    unsigned steps = 0;

    seen->records = seen->holes = 0;
    while ((result = ring_read(ring, &cursor, &head, &payload)) !=
           RING_EMPTY) {
        MUST(++steps < READ_MAX);
        seen->holes += result == RING_HOLE;
        if (result != RING_RECORD)
            continue;
        MUST(payload >= ring->data && head.len <= ring->size);
        MUST(payload + head.len <= ring->data + ring->size);
        seen->seq[seen->records] = head.seq;
        seen->crc[seen->records++] = crc32c(payload, head.len);
    }
    return cursor;
}

/* Appends as the hook does until the ring is full. */
static void append(struct ring *ring, struct input *in)
{
    for (unsigned i = 0; i < 300; i++) {
        struct ring_rec_head head = {.len = take_byte(in), .job_id = i};
        bool done = false;

        for (int wrapped = 0; wrapped < 2 && !done; wrapped++) {
            size_t room;
            uint8_t *to = ring_reserve(ring, wrapped, &room);

            if (!to || room < head.len)
                continue;
            MUST(to >= ring->data && to + room <= ring->data + ring->size);
            memset(to, (int)i, head.len);
            ring_commit(ring, &head);
            done = true;
        }
        if (!done) {
            ring_drop(ring, i);
            return;
        }
        MUST(ring_used(ring) <= ring->size);
    }
}

static struct ring *open_again(void)
{
    char why[512] = "";
    struct ring *ring;

    (void)ring_file_empty(tmp_path("ring"));
    if (ring_open(&ring, tmp_path("ring"), 4096, "fuzz-2", true, why,
                  sizeof(why)) != RING_OPENED) {
        MUST(why[0]);
        return NULL;
    }
    return ring;
}

static void use(struct ring *ring, struct input *in)
{
    static struct seen before, after;
    struct ring_cursor end;

    MUST(ring_used(ring) <= ring->size);
    end = read_all(ring, &before);
    ring_close(ring);
    MUST((ring = open_again()));
    (void)read_all(ring, &after);
    MUST(after.records == before.records);
    MUST(!memcmp(before.seq, after.seq, before.records * sizeof(*before.seq)));
    MUST(!memcmp(before.crc, after.crc, before.records * sizeof(*before.crc)));
    append(ring, in);
    (void)read_all(ring, &after);
    /* behind damage a forged number may hide what has a smaller one */
    MUST(before.holes || after.records >= before.records);
    ring_free(ring, &end);
    (void)read_all(ring, &after);
    append(ring, in);
    ring_close(ring);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct ring *ring;

    if (take_byte(&in) & 1)
        tmp_write("ring", in.p, in.n);
    else
        make_file(&in);
    ring = open_again();
    if (ring)
        use(ring, &in);
    tmp_clear();
    return 0;
}

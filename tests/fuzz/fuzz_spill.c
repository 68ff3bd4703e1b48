/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes as a spill file that a process left: set aside, or opened so that it
 * can be read to its end, appended to, freed, closed and opened again with the
 * same records in it.
 *
 * The first byte chooses between a file of exactly the bytes that follow and
 * one with a sound header.
 */
#include "plog.h"
#include "ring_bytes.h"
#include "spill.h"
#include "tmpdir.h"

#define FILE_MAX_BYTES 8192
#define READ_MAX (2 * FILE_MAX_BYTES / RING_ALIGN)
#define SPILL_NAME SPILL_PREFIX "fuzz-1" SPILL_SUFFIX

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

static struct spill *open_spill(bool create)
{
    char why[5000] = "";
    struct spill *spill = spill_open(tmp_dir, "fuzz-1", create, 1 << 20, why,
                                     sizeof(why));

    MUST(spill || why[0]);
    return spill;
}

/* A file with the header that spill.c writes and records of the input. */
static void make_file(struct input *in)
{
    static _Alignas(32) uint8_t records[FILE_MAX_BYTES];
    size_t size = (size_t)take_byte(in) * RING_ALIGN;
    struct spill *spill = open_spill(true);
    int fd;

    MUST(spill && spill_renumber(spill, take_byte(in), take_place(in)));
    spill->records = 1; /* or closing it would remove it */
    spill_close(spill);
    fill_records(in, records, size);
    fd = open(tmp_path(SPILL_NAME), O_WRONLY | O_CLOEXEC);
    MUST(pwrite(fd, records, size, SPILL_HEADER_BYTES) == (ssize_t)size);
    (void)close(fd);
}

struct seen {
    unsigned records;
    uint64_t seq[READ_MAX];
    uint32_t crc[READ_MAX];
};

/* Reads to the end; returns where, and in *half a place on the way. */
static struct ring_cursor read_all(struct spill *spill, struct seen *seen,
                                   struct ring_cursor *half)
{
    struct ring_cursor cursor = spill->first;
    struct ring_rec_head head;
    const uint8_t *payload;
    enum ring_read_result result;
    unsigned steps = 0;

    *half = cursor;
    seen->records = 0;
    while ((result = spill_read(spill, &cursor, &head, &payload)) !=
           RING_EMPTY) {
        MUST(++steps < READ_MAX);
        if (result != RING_RECORD)
            continue;
        seen->seq[seen->records] = head.seq;
        seen->crc[seen->records++] = crc32c(payload, head.len);
        if (steps % 3 == 0)
            *half = cursor;
    }
    return cursor;
}

static void must_be_same(const struct seen *a, const struct seen *b)
{
    MUST(a->records == b->records);
    MUST(!memcmp(a->seq, b->seq, a->records * sizeof(*a->seq)));
    MUST(!memcmp(a->crc, b->crc, a->records * sizeof(*a->crc)));
}

/* Behind the last record, numbered on, as source_spill does. */
static void append(struct spill *spill, struct input *in)
{
    for (unsigned i = 0; i < 5; i++) {
        static _Alignas(8) uint8_t payload[256];
        struct ring_rec_head *head =
            (struct ring_rec_head *)malloc(sizeof(*head) + sizeof(payload));

        *head = (struct ring_rec_head){
            .magic = RING_RECORD_MAGIC,
            .len = take_byte(in),
            .seq = spill->next_seq ? spill->next_seq : 1,
        };
        memset(head + 1, (int)i, sizeof(payload));
        set_record_crc(head);
        MUST(spill_append(spill, head, (uint8_t *)(head + 1)) == SPILL_OK);
        free(head);
    }
    MUST(spill_sync(spill) == SPILL_OK);
}

static void use(struct spill *spill, struct input *in)
{
    static struct seen before, after;
    struct ring_cursor end, half;
    uint64_t next = spill->next_seq;

    end = read_all(spill, &before, &half);
    MUST(end.pos <= spill->end.pos);
    spill_close(spill);
    spill = open_spill(true);
    MUST(spill);
    (void)read_all(spill, &after, &half);
    must_be_same(&before, &after);
    append(spill, in);
    end = read_all(spill, &after, &half);
    if (next < UINT64_MAX / 2) /* numbers do not run over */
        MUST(after.records == before.records + 5);
    spill_free(spill, &half);
    (void)read_all(spill, &after, &half);
    spill_free(spill, &end);
    (void)read_all(spill, &after, &half);
    MUST(!after.records && !spill->records);
    spill_close(spill);
    MUST(access(tmp_path(SPILL_NAME), F_OK)); /* an empty one is removed */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct spill *spill;

    if (take_byte(&in) & 1)
        tmp_write(SPILL_NAME, in.p, in.n);
    else
        make_file(&in);
    spill = open_spill(false);
    if (spill)
        use(spill, &in);
    tmp_clear();
    return 0;
}

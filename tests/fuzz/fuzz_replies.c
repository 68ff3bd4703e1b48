/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A daemon that answers anything: the plugin's delivery on one side of a
 * socket, the input's bytes on the other. Whatever they are, no record leaves
 * the ring unless it was sent, and the connection's end is all that follows.
 *
 * The first byte says how many records wait; at each 0xff in the rest the
 * plugin has its turn.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "plog.h"
#include "sender_internal.h"
#include "tmpdir.h"

#define RING_BYTES 65536

static int listener;

static void swallow(enum plog_level level, const char *line)
{
    (void)level;
    MUST(line[0] && !strchr(line, '\n'));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    (void)argc;
    (void)argv;
    plog_sink = swallow;
    tmp_make();
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/i", tmp_dir);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    MUST(!bind(listener, (struct sockaddr *)&addr, sizeof(addr)));
    MUST(!listen(listener, 8));
    return 0;
}

static void append(struct ring *ring, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct ring_rec_head head = {.len = 10 + i % 50, .job_id = i + 1};
        size_t room;
        uint8_t *to = ring_reserve(ring, false, &room);

        if (!to || room < head.len)
            return;
        memset(to, 0x80, head.len);
        ring_commit(ring, &head);
    }
}

static struct sender *make_sender(unsigned records)
{
    struct sender *sender = calloc(1, sizeof(*sender));

    sender->batch_records = 7;
    sender->random = 1;
    sender->source_count = 1;
    snprintf(sender->config.params.ingest_path,
             sizeof(sender->config.params.ingest_path), "%s", tmp_path("i"));
    snprintf(sender->config.program, sizeof(sender->config.program), "fuzz/1");
    resp_init(&sender->conn, 65536);
    source_init(&sender->sources[0], ring_private(RING_BYTES, "fuzz-1"), NULL);
    append(sender->sources[0].ring, records);
    sender->send = source_first(&sender->sources[0]);
    return sender;
}

/* One step; what it freed must have been sent at some time. */
static void step(struct sender *sender, uint64_t *sent)
{
    struct ring *ring = sender->sources[0].ring;

    sender->retry_ms = 0; /* no pauses here */
    delivery_step(sender);
    if (sender->send.at.seq > *sent)
        *sent = sender->send.at.seq;
    MUST(sender->request_count <= MAX_IN_FLIGHT);
    MUST(ring->tail.seq <= *sent && ring->tail.seq <= ring->head.next_seq);
    MUST(ring_used(ring) <= ring->size);
}

static void drain(int fd)
{
    char buf[4096];

    while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct sender *sender = make_sender(take_byte(&in));
    uint64_t sent = 1;
    int fd;

    step(sender, &sent);
    fd = accept(listener, NULL, NULL);
    MUST(fd >= 0);
    while (in.n && sender->link != LINK_DOWN) {
        struct input part = take_until(&in, 0xff);

        if (part.n && send(fd, part.p, part.n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        drain(fd);
        step(sender, &sent);
    }
    if (sender->link != LINK_DOWN) {
        (void)close(fd);
        fd = -1;
        sender->retry_ms = 0;
        step(sender, &sent);
        MUST(sender->link == LINK_DOWN);
    }
    if (fd >= 0)
        (void)close(fd);
    resp_fini(&sender->conn);
    source_close(&sender->sources[0]);
    free(sender);
    return 0;
}

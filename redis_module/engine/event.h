/* SPDX-License-Identifier: MIT */
/* What the stream of events says of a job: a JSON object, see docs/events.md. */
#ifndef SLURMJCD_EVENT_H
#define SLURMJCD_EVENT_H

#include "record.h"

struct jc_event {
    const struct jc_record *rec;
    struct jc_slice spool; /* of [A-Za-z0-9_.:-]; n == 0: from none */
    uint64_t seq;          /* the record's number there */
    bool again;            /* it replaced an earlier report of the run */
};

/* Bytes that it takes at most. */
size_t jc_event_max(const struct jc_event *ev);

/* Writes it, without a NUL behind it; how many bytes. */
size_t jc_event_write(const struct jc_event *ev, char *out);

#endif

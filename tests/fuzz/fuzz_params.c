/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JobCompLoc on the first line, JobCompParams on the rest: whatever they say,
 * the settings are within their bounds and the log gets whole lines.
 */
#include "fuzz.h"
#include "params.h"
#include "plog.h"

static void check_line(enum plog_level level, const char *line)
{
    (void)level;
    for (; *line; line++)
        MUST((unsigned char)*line >= ' ' && (unsigned char)*line < 0x7f);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    plog_sink = check_line;
    return 0;
}

/* A string of its own, without spare bytes; NULL for a line of "\1". */
static char *text(struct input in)
{
    char *out;

    if (in.n == 1 && in.p[0] == 1)
        return NULL;
    out = malloc(in.n + 1);
    if (in.n)
        memcpy(out, in.p, in.n);
    out[in.n] = '\0';
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    char *loc = text(take_until(&in, '\n')), *options = text(in);
    struct params params;

    params_parse(&params, loc, options);
    MUST(params.ingest_path[0] == '/' && params.query_path[0] == '/');
    MUST(strstr(params.ingest_path, "/ingest.sock"));
    MUST(strstr(params.query_path, "/query.sock"));
    MUST(!params.ring_dir[0] || params.ring_dir[0] == '/');
    MUST(params.ring_mib >= 1 && params.ring_mib <= 1024);
    MUST(params.spill_mib <= 1048576);
    MUST(params.timeout_s >= 1 && params.timeout_s <= 3600);
    free(loc);
    free(options);
    return 0;
}

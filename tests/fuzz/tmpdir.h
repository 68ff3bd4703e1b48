/* SPDX-License-Identifier: MIT */
/* A directory on tmpfs for targets that read files; it goes with the program. */
#ifndef SLURMJCD_FUZZ_TMPDIR_H
#define SLURMJCD_FUZZ_TMPDIR_H

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

static char tmp_dir[64];
static pid_t tmp_owner;

static inline const char *tmp_path(const char *name)
{
    static char path[4096];

    snprintf(path, sizeof(path), "%s/%s", tmp_dir, name);
    return path;
}

/* Removes every file, so that what an input left has no part in the next. */
static inline void tmp_clear(void)
{
    DIR *dir = opendir(tmp_dir);
    struct dirent *entry;

    while (dir && (entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            (void)unlink(tmp_path(entry->d_name));
    if (dir)
        (void)closedir(dir);
}

static void tmp_remove(void)
{
    if (getpid() != tmp_owner)
        return;
    tmp_clear();
    (void)rmdir(tmp_dir);
}

static inline void tmp_make(void)
{
    snprintf(tmp_dir, sizeof(tmp_dir), "/dev/shm/fuzz-XXXXXX");
    MUST(mkdtemp(tmp_dir));
    tmp_owner = getpid();
    atexit(tmp_remove);
}

static inline void tmp_write(const char *name, const void *bytes, size_t n)
{
    int fd = open(tmp_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                  0600);

    MUST(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    (void)close(fd);
}

#endif

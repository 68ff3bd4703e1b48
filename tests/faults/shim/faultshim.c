/* SPDX-License-Identifier: MIT */
/*
 * Loaded with LD_PRELOAD: makes a program's disk fail, at the call and in the
 * way that a test asks for while the program runs, and moves its wall clock.
 *
 * FAULTSHIM_CONTROL  a file of struct control, shared with the test
 * FAULTSHIM_PATHS    parts of paths, separated by ':'; calls on files whose
 *                    path holds one of them are counted, others are left alone
 * FAULTSHIM_TRACE    optional: a file that gets every counted call with its
 *                    data, and every write to a socket, in order (see trace())
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum op { OP_WRITE, OP_SYNC, OP_FALLOCATE, OP_RENAME, OP_UNLINK, OP_TRUNCATE, OP_OPEN, OP_COUNT };

/* One kind of call. All fields are 64 bit, written by the test, but calls and hits. */
struct fault {
    _Atomic uint64_t calls; /* counted so far */
    _Atomic uint64_t hits;  /* that failed so far */
    _Atomic uint64_t from;  /* first call that fails, from 1; 0: none does */
    _Atomic uint64_t until; /* last one */
    _Atomic uint64_t error; /* errno, 0: the call is carried out */
    _Atomic uint64_t part;  /* writes: percent of the bytes that are written first */
    _Atomic uint64_t delay_us;
    _Atomic uint64_t kill;  /* SIGKILL: 1 before the call, 2 after it */
};

struct control {
    struct fault faults[OP_COUNT];
    _Atomic int64_t clock_s; /* added to the wall clock; timers stay as they are */
};

static struct control *control;
static const char *paths;
static int trace_fd = -1;
static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name)) real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (!found)
        abort();
    return found;
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FAULTSHIM_CONTROL");
    const char *trace_path = getenv("FAULTSHIM_TRACE");

    paths = getenv("FAULTSHIM_PATHS");
    if (path) {
        int fd = (int) syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
        void *map = (fd < 0) ? MAP_FAILED
                             : mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (map == MAP_FAILED) {
            dprintf(2, "faultshim: can't use FAULTSHIM_CONTROL=%s\n", path);
            _exit(99);
        }
        control = map;
        close(fd);
    }
    if (trace_path)
        trace_fd = (int) syscall(SYS_openat, AT_FDCWD, trace_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int path_matches(const char *path)
{
    const char *from = paths;

    while (from && *from) {
        size_t len = strcspn(from, ":");
        char part[PATH_MAX];

        if (len && len < sizeof(part)) {
            memcpy(part, from, len);
            part[len] = '\0';
            if (strstr(path, part))
                return 1;
        }
        from += len + (from[len] == ':');
    }
    return 0;
}

/* The path of an open file that is to be counted, or NULL. */
static const char *fd_path(int fd, char path[PATH_MAX])
{
    char link[64];
    ssize_t len;

    if ((!control && trace_fd < 0) || fd == trace_fd)
        return NULL;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, PATH_MAX - 1);
    if (len <= 0)
        return NULL;
    path[len] = '\0';
    return (path[0] == '/' && path_matches(path)) ? path : NULL;
}

/*
 * One entry: op letter, result, offset (-1: none), bytes, path, then the bytes.
 * W write  S sync  R rename (data: the new path)  U unlink  T truncate
 * O open that may create  N bytes sent to a socket (no data)
 */
static void trace(char op, long result, long long offset, const void *data, size_t size, const char *path)
{
    char head[PATH_MAX + 96];
    struct iovec parts[2];
    int len;

    if (trace_fd < 0)
        return;
    len = snprintf(head, sizeof(head), "%c %ld %lld %zu %s\n", op, result, offset, size, path);
    parts[0].iov_base = head;
    parts[0].iov_len = (size_t) len;
    parts[1].iov_base = (void *) (uintptr_t) data;
    parts[1].iov_len = data ? size : 0;
    pthread_mutex_lock(&trace_lock);
    (void) syscall(SYS_writev, trace_fd, parts, 2);
    pthread_mutex_unlock(&trace_lock);
}

struct verdict {
    int hit;
    int error;
    unsigned part;
    int kill_after;
};

/* Counts a call and carries out delay and kill; says what else should go wrong. */
static struct verdict judge(enum op op)
{
    struct verdict verdict = {0};
    struct fault *fault;
    uint64_t n, delay;

    if (!control)
        return verdict;
    fault = &control->faults[op];
    n = atomic_fetch_add(&fault->calls, 1) + 1;
    if (!fault->from || n < fault->from || n > fault->until)
        return verdict;
    atomic_fetch_add(&fault->hits, 1);
    delay = fault->delay_us;
    if (delay) {
        struct timespec wait = {(time_t) (delay / 1000000), (long) (delay % 1000000) * 1000};

        nanosleep(&wait, NULL);
    }
    if (fault->kill == 1)
        kill(getpid(), SIGKILL);
    verdict.hit = 1;
    verdict.error = (int) fault->error;
    verdict.part = (unsigned) fault->part;
    verdict.kill_after = fault->kill == 2;
    return verdict;
}

static void finish(const struct verdict *verdict)
{
    if (verdict->kill_after)
        kill(getpid(), SIGKILL);
}

/* ---- writes ---- */

typedef ssize_t (*write_fn)(int fd, const void *buf, size_t n, off64_t at);

static ssize_t do_write(int fd, const void *buf, size_t n, off64_t at)
{
    (void) at;
    return syscall(SYS_write, fd, buf, n);
}

static ssize_t do_pwrite(int fd, const void *buf, size_t n, off64_t at)
{
    return syscall(SYS_pwrite64, fd, buf, n, at);
}

static ssize_t faulty_write(write_fn fn, int fd, const void *buf, size_t n, off64_t at)
{
    char path[PATH_MAX];
    struct verdict verdict;
    ssize_t done;

    if (!fd_path(fd, path)) {
        done = fn(fd, buf, n, at);
        if (trace_fd >= 0 && done > 0) {
            int saved = errno;
            struct stat st;

            if (!fstat(fd, &st) && S_ISSOCK(st.st_mode))
                trace('N', (long) done, -1, NULL, n, "socket");
            errno = saved;
        }
        return done;
    }
    verdict = judge(OP_WRITE);
    if (verdict.hit && (verdict.error || verdict.part)) {
        size_t part = n * verdict.part / 100;

        done = part ? fn(fd, buf, part, at) : 0;
        if (done > 0)
            trace('W', (long) done, at, buf, (size_t) done, path);
        finish(&verdict);
        if (!part || done < 0) {
            errno = verdict.error;
            return -1;
        }
        return done;
    }
    done = fn(fd, buf, n, at);
    trace('W', (long) done, at, buf, done > 0 ? (size_t) done : 0, path);
    finish(&verdict);
    return done;
}

ssize_t write(int fd, const void *buf, size_t n)
{
    return faulty_write(do_write, fd, buf, n, -1);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
    return faulty_write(do_pwrite, fd, buf, n, at);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
    return faulty_write(do_pwrite, fd, buf, n, at);
}

/* Sends are only traced: they tell when an answer left. */
ssize_t send(int fd, const void *buf, size_t n, int flags)
{
    ssize_t done = REAL(send)(fd, buf, n, flags);

    trace('N', (long) done, -1, NULL, n, "socket");
    return done;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t done = REAL(sendmsg)(fd, msg, flags);

    trace('N', (long) done, -1, NULL, 0, "socket");
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    ssize_t done = REAL(writev)(fd, parts, n);

    trace('N', (long) done, -1, NULL, 0, "socket");
    return done;
}

/* ---- the others ---- */

static int faulty_sync(int (*fn)(int), int fd)
{
    char path[PATH_MAX];
    struct verdict verdict;
    int rc;

    if (!fd_path(fd, path))
        return fn(fd);
    verdict = judge(OP_SYNC);
    if (verdict.error) {
        trace('S', -1, -1, NULL, 0, path);
        finish(&verdict);
        errno = verdict.error;
        return -1;
    }
    rc = fn(fd);
    trace('S', rc, -1, NULL, 0, path);
    finish(&verdict);
    return rc;
}

int fsync(int fd)
{
    return faulty_sync(REAL(fsync), fd);
}

int fdatasync(int fd)
{
    return faulty_sync(REAL(fdatasync), fd);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    char path[PATH_MAX];

    if (fd_path(fd, path)) {
        struct verdict verdict = judge(OP_FALLOCATE);

        if (verdict.error) {
            errno = verdict.error;
            return -1;
        }
    }
    return REAL(fallocate64)(fd, mode, offset, len);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    return fallocate64(fd, mode, offset, len);
}

int posix_fallocate64(int fd, off64_t offset, off64_t len)
{
    char path[PATH_MAX];

    if (fd_path(fd, path)) {
        struct verdict verdict = judge(OP_FALLOCATE);

        if (verdict.error)
            return verdict.error;
    }
    return REAL(posix_fallocate64)(fd, offset, len);
}

int posix_fallocate(int fd, off_t offset, off_t len)
{
    return posix_fallocate64(fd, offset, len);
}

int ftruncate64(int fd, off64_t len)
{
    char path[PATH_MAX];
    struct verdict verdict;
    int rc;

    if (!fd_path(fd, path))
        return REAL(ftruncate64)(fd, len);
    verdict = judge(OP_TRUNCATE);
    if (verdict.error) {
        errno = verdict.error;
        return -1;
    }
    rc = REAL(ftruncate64)(fd, len);
    trace('T', rc, len, NULL, 0, path);
    finish(&verdict);
    return rc;
}

int ftruncate(int fd, off_t len)
{
    return ftruncate64(fd, len);
}

int rename(const char *from, const char *to)
{
    struct verdict verdict;
    int rc;

    if (!path_matches(from) && !path_matches(to))
        return REAL(rename)(from, to);
    verdict = judge(OP_RENAME);
    if (verdict.error) {
        errno = verdict.error;
        return -1;
    }
    rc = REAL(rename)(from, to);
    trace('R', rc, -1, to, strlen(to), from);
    finish(&verdict);
    return rc;
}

int unlink(const char *path)
{
    struct verdict verdict;
    int rc;

    if (!path_matches(path))
        return REAL(unlink)(path);
    verdict = judge(OP_UNLINK);
    if (verdict.error) {
        errno = verdict.error;
        return -1;
    }
    rc = REAL(unlink)(path);
    trace('U', rc, -1, NULL, 0, path);
    finish(&verdict);
    return rc;
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
    struct verdict verdict;
    int fd;

    if (!(flags & O_CREAT) || !path_matches(path))
        return (int) syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
    verdict = judge(OP_OPEN);
    if (verdict.error) {
        errno = verdict.error;
        return -1;
    }
    fd = (int) syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
    if (fd >= 0)
        trace('O', fd, -1, NULL, 0, path);
    finish(&verdict);
    return fd;
}

#define OPEN_MODE(flags)                                 \
    mode_t mode = 0;                                     \
    if ((flags) & (O_CREAT | O_TMPFILE)) {               \
        va_list list;                                    \
        va_start(list, flags);                           \
        mode = va_arg(list, mode_t);                     \
        va_end(list);                                    \
    }

int open(const char *path, int flags, ...)
{
    OPEN_MODE(flags)
    return faulty_open(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    OPEN_MODE(flags)
    return faulty_open(path, flags, mode);
}

/* ---- the wall clock ---- */

int clock_gettime(clockid_t id, struct timespec *now)
{
    int rc = (int) syscall(SYS_clock_gettime, id, now);

    if (!rc && control && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += control->clock_s;
    return rc;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;

    (void) zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec precise;

    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}

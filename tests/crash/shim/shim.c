/* Between an engine and its disk and clock (LD_PRELOAD).
 *
 * Three things, for everything below one folder (TILL_SHIM_ROOT):
 *
 * 1. It keeps a log (TILL_SHIM_LOG) of what would not survive a loss of power: the bytes that each write replaced, the
 *    names that were made, changed and taken away, and which syncs came after them. A record is in the log before the
 *    file changes, and a sync counts only for records that were complete when it began. The harness takes back from the
 *    log what was not synced once the process is dead. Files that lose a name get another one in TILL_SHIM_ATTIC first.
 * 2. It fails calls as a bad disk does, where the control (TILL_SHIM_CONTROL, shared memory) says so.
 * 3. It moves CLOCK_REALTIME by what the control says.
 *
 * It makes system calls itself and takes the names of the C library's functions. What makes raw system calls, or maps
 * files of the folder for writing, goes by unseen: the engine does neither, and a test looks at its mappings.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define CHUNK 65536

/* The control: words that the harness writes, then words that are counted here. shim.rs has the same order. */
struct control {
    uint64_t faults;     /* which of FAULT_* are on */
    uint64_t permille;   /* so many of a thousand calls meet them */
    uint64_t sync_us;    /* a sync takes so much longer */
    int64_t clock_us;    /* the clock of the day is off by so much */
    uint64_t seed;       /* of the chance */
    uint64_t counted[8]; /* see COUNT_* */
};
enum { FAULT_NO_ROOM = 1, FAULT_WRITE = 2, FAULT_READ = 4, FAULT_SYNC = 8, FAULT_LIE = 16 };
enum { COUNT_NO_ROOM, COUNT_WRITE, COUNT_READ, COUNT_SYNC, COUNT_LIE, COUNT_SLOW, COUNT_WRITES, COUNT_SYNCS };

/* A record of the log: this, then two paths, then bytes. undo.rs reads it. */
struct record {
    uint32_t magic;
    uint32_t kind;
    uint64_t length; /* of the whole record */
    uint64_t inode;
    uint64_t offset; /* of a write; how much of the log a sync covers */
    uint64_t size;   /* of the file before it */
    uint32_t path, other;
};
#define MAGIC 0x4c4c4954
enum { WRITE = 1, SYNC = 2, MADE = 3, GONE = 4, MOVED = 5, DIR_SYNC = 6 };

static struct control *control;
static char root[PATH_MAX], attic[PATH_MAX];
static size_t root_len;
static int log_fd = -1;
static uint64_t log_end, attic_next;
/* One change at a time, so that the order in the log is the order on the disk. */
static pthread_mutex_t change = PTHREAD_MUTEX_INITIALIZER;
static int (*real_clock)(clockid_t, struct timespec *);

/* Where the log's last whole record ends. A process that was killed over a record leaves a part of it, and nothing after it: that is
   cut off, or what this process adds could not be read. */
static uint64_t whole_end(void) {
    uint64_t at = 0, end = syscall(SYS_lseek, log_fd, 0, SEEK_END);
    struct record head;
    while (syscall(SYS_pread64, log_fd, &head, sizeof head, at) == (long)sizeof head && head.magic == MAGIC &&
           head.length <= end - at)
        at += head.length;
    if (at < end && syscall(SYS_ftruncate, log_fd, at)) {
        fprintf(stderr, "shim: the log cannot be cut\n");
        abort();
    }
    return at;
}

__attribute__((constructor)) static void start(void) {
    real_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *r = getenv("TILL_SHIM_ROOT"), *l = getenv("TILL_SHIM_LOG");
    const char *a = getenv("TILL_SHIM_ATTIC"), *c = getenv("TILL_SHIM_CONTROL");
    if (!r || !l || !a || !c)
        return;
    snprintf(root, sizeof root, "%s", r);
    snprintf(attic, sizeof attic, "%s", a);
    int fd = syscall(SYS_openat, AT_FDCWD, c, O_RDWR | O_CLOEXEC, 0);
    void *map = fd < 0 ? MAP_FAILED : mmap(0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    log_fd = syscall(SYS_openat, AT_FDCWD, l, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (map == MAP_FAILED || log_fd < 0) {
        fprintf(stderr, "shim: no control or log\n");
        abort();
    }
    log_end = whole_end();
    control = map;
    root_len = strlen(root);
}

static void count(int what) { __atomic_fetch_add(&control->counted[what], 1, __ATOMIC_RELAXED); }

static int has_luck_left(void) {
    static uint64_t state;
    uint64_t z = __atomic_add_fetch(&state, 0x9e3779b97f4a7c15ull, __ATOMIC_RELAXED) + control->seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % 1000 >= control->permille;
}

/* Whether a call fails now. */
static int fails(uint64_t fault, int counter, int error) {
    if (!(control->faults & fault) || has_luck_left())
        return 0;
    count(counter);
    errno = error;
    return 1;
}

static int is_below(const char *path) {
    return root_len && !strncmp(path, root, root_len) && (path[root_len] == '/' || !path[root_len]);
}

/* Whether a file is below the folder; its path and state, then. */
static int is_ours(int fd, char *path, struct stat *state) {
    if (!root_len || fd == log_fd)
        return 0;
    char link[40];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    errno = saved;
    if (got <= 0)
        return 0;
    path[got] = 0;
    return is_below(path) && !fstat(fd, state);
}

/* The whole path of a name, if it is below the folder. */
static int resolve(int dir, const char *name, char *out) {
    if (!root_len || !name)
        return 0;
    char at[PATH_MAX] = "";
    int saved = errno;
    if (name[0] != '/') {
        char link[40] = "/proc/self/cwd";
        if (dir != AT_FDCWD)
            snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        ssize_t got = syscall(SYS_readlinkat, AT_FDCWD, link, at, PATH_MAX - 2);
        errno = saved;
        if (got <= 0)
            return 0;
        at[got] = '/';
        at[got + 1] = 0;
    }
    if (strlen(at) + strlen(name) >= PATH_MAX)
        return 0;
    strcpy(out, at);
    strcat(out, name);
    return is_below(out);
}

/* Puts a record into the log. Called with the lock held. */
static void note(int kind, const struct stat *state, uint64_t offset, const char *path, const char *other,
                 const void *bytes, size_t length) {
    struct record head = {.magic = MAGIC, .kind = kind, .offset = offset};
    head.inode = state ? state->st_ino : 0;
    head.size = state ? (uint64_t)state->st_size : 0;
    head.path = path ? strlen(path) : 0;
    head.other = other ? strlen(other) : 0;
    head.length = sizeof head + head.path + head.other + length;
    struct iovec parts[4] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)other, head.other}, {(void *)bytes, length}};
    int saved = errno;
    if (syscall(SYS_writev, log_fd, parts, 4) != (ssize_t)head.length) {
        fprintf(stderr, "shim: the log takes no more\n");
        abort();
    }
    errno = saved;
    log_end += head.length;
}

static int is_zero(const char *bytes, size_t length) {
    return !length || (!bytes[0] && !memcmp(bytes, bytes + 1, length - 1));
}

/* Keeps what is about to be replaced, from..to. Of a cut, zeros need no record: a longer file reads as zeros anyway. */
static void keep(int fd, const struct stat *state, uint64_t from, uint64_t to, int is_cut) {
    static char room[CHUNK]; /* under the lock */
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    /* The file may be open for writing alone. */
    int saved = errno, reader = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    while (from < to) {
        size_t want = to - from < CHUNK ? to - from : CHUNK;
        ssize_t got = from < (uint64_t)state->st_size ? syscall(SYS_pread64, reader, room, want, from) : 0;
        if (got < 0)
            got = 0;
        memset(room + got, 0, want - got);
        if (!is_cut || !is_zero(room, want))
            note(WRITE, state, from, 0, 0, room, want);
        from += want;
    }
    if (reader >= 0)
        syscall(SYS_close, reader);
    errno = saved;
}

/* ---- bytes ---- */

static ssize_t written(int fd, const struct iovec *parts, int count_of, off_t offset) {
    char path[PATH_MAX];
    struct stat state;
    int is_at = offset >= 0;
    if (!is_ours(fd, path, &state) || !S_ISREG(state.st_mode))
        return is_at ? syscall(SYS_pwritev, fd, parts, (long)count_of, (long)offset, 0L) : syscall(SYS_writev, fd, parts, (long)count_of);
    count(COUNT_WRITES);
    if (fails(FAULT_NO_ROOM, COUNT_NO_ROOM, ENOSPC) || fails(FAULT_WRITE, COUNT_WRITE, EIO))
        return -1;
    size_t length = 0;
    for (int i = 0; i < count_of; i++)
        length += parts[i].iov_len;
    pthread_mutex_lock(&change);
    fstat(fd, &state);
    off_t at = offset;
    if (!is_at)
        at = fcntl(fd, F_GETFL) & O_APPEND ? state.st_size : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    keep(fd, &state, at, at + length, 0);
    ssize_t done = is_at ? syscall(SYS_pwritev, fd, parts, (long)count_of, (long)offset, 0L) : syscall(SYS_writev, fd, parts, (long)count_of);
    pthread_mutex_unlock(&change);
    return done;
}

PUBLIC ssize_t write(int fd, const void *bytes, size_t length) {
    struct iovec part = {(void *)bytes, length};
    return written(fd, &part, 1, -1);
}
PUBLIC ssize_t writev(int fd, const struct iovec *parts, int n) { return written(fd, parts, n, -1); }
PUBLIC ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    struct iovec part = {(void *)bytes, length};
    return written(fd, &part, 1, offset);
}
PUBLIC ssize_t pwritev64(int fd, const struct iovec *parts, int n, off64_t offset) { return written(fd, parts, n, offset); }
PUBLIC ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) { return pwrite64(fd, bytes, n, offset); }
PUBLIC ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t offset) { return written(fd, parts, n, offset); }
/* Callers fall back to writes. */
PUBLIC ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned flags) {
    (void)in, (void)a, (void)out, (void)b, (void)n, (void)flags;
    errno = ENOSYS;
    return -1;
}

/* What a new end of a file takes away, or adds. */
static int resized(int fd, off_t size, int (*call)(int, off_t)) {
    char path[PATH_MAX];
    struct stat state;
    if (!is_ours(fd, path, &state))
        return call(fd, size);
    if (size > state.st_size && fails(FAULT_NO_ROOM, COUNT_NO_ROOM, ENOSPC))
        return -1;
    pthread_mutex_lock(&change);
    fstat(fd, &state);
    note(WRITE, &state, state.st_size, 0, 0, 0, 0);
    if (size < state.st_size)
        keep(fd, &state, size, state.st_size, 1);
    int done = call(fd, size);
    pthread_mutex_unlock(&change);
    return done;
}
static int call_truncate(int fd, off_t size) { return syscall(SYS_ftruncate, fd, (long)size); }
static int call_allocate(int fd, off_t size) { return syscall(SYS_fallocate, fd, 0L, 0L, (long)size); }
PUBLIC int ftruncate64(int fd, off64_t size) { return resized(fd, size, call_truncate); }
PUBLIC int ftruncate(int fd, off_t size) { return resized(fd, size, call_truncate); }
PUBLIC int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    char path[PATH_MAX];
    struct stat state;
    if (!is_ours(fd, path, &state))
        return syscall(SYS_fallocate, fd, (long)mode, (long)offset, (long)length);
    if (mode || offset) {
        errno = EOPNOTSUPP;
        return -1;
    }
    if (fails(FAULT_NO_ROOM, COUNT_NO_ROOM, ENOSPC))
        return -1;
    return length <= state.st_size ? call_allocate(fd, length) : resized(fd, length, call_allocate);
}
PUBLIC int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

static int read_fails(int fd) {
    char path[PATH_MAX];
    struct stat state;
    if (!control || !(control->faults & FAULT_READ) || !is_ours(fd, path, &state) || !S_ISREG(state.st_mode))
        return 0;
    return fails(FAULT_READ, COUNT_READ, EIO);
}
PUBLIC ssize_t read(int fd, void *bytes, size_t n) { return read_fails(fd) ? -1 : syscall(SYS_read, fd, bytes, n); }
PUBLIC ssize_t pread64(int fd, void *bytes, size_t n, off64_t at) { return read_fails(fd) ? -1 : syscall(SYS_pread64, fd, bytes, n, (long)at); }
PUBLIC ssize_t pread(int fd, void *bytes, size_t n, off_t at) { return pread64(fd, bytes, n, at); }

/* ---- syncs ---- */

static int synced(int fd, long call) {
    char path[PATH_MAX];
    struct stat state;
    if (!is_ours(fd, path, &state))
        return syscall(call, fd);
    count(COUNT_SYNCS);
    if (control->sync_us) {
        struct timespec wait = {control->sync_us / 1000000, control->sync_us % 1000000 * 1000};
        count(COUNT_SLOW);
        nanosleep(&wait, 0);
    }
    if (fails(FAULT_SYNC, COUNT_SYNC, EIO))
        return -1;
    if (control->faults & FAULT_LIE && !has_luck_left()) {
        count(COUNT_LIE);
        return 0;
    }
    pthread_mutex_lock(&change);
    uint64_t covers = log_end;
    pthread_mutex_unlock(&change);
    int done = syscall(call, fd);
    if (!done) {
        pthread_mutex_lock(&change);
        note(S_ISDIR(state.st_mode) ? DIR_SYNC : SYNC, &state, covers, path, 0, 0, 0);
        pthread_mutex_unlock(&change);
    }
    return done;
}
PUBLIC int fsync(int fd) { return synced(fd, SYS_fsync); }
PUBLIC int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* ---- names ---- */

/* Gives a file that is about to lose its name another one, so that the name can come back with what it named. */
static void put_aside(const char *path, char *aside) {
    int saved = errno;
    snprintf(aside, PATH_MAX, "%.*s/%d-%lu", PATH_MAX - 64, attic, getpid(), (unsigned long)++attic_next);
    if (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, aside, 0L))
        aside[0] = 0;
    errno = saved;
}

static int opened(int dir, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE || !resolve(dir, name, path))
        return syscall(SYS_openat, dir, name, flags, mode);
    if (flags & O_CREAT && fails(FAULT_NO_ROOM, COUNT_NO_ROOM, ENOSPC))
        return -1;
    struct stat state;
    pthread_mutex_lock(&change);
    int is_new = !!lstat(path, &state);
    errno = 0;
    if (!is_new && flags & O_TRUNC && !(flags & O_EXCL) && state.st_size) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
        note(WRITE, &state, state.st_size, 0, 0, 0, 0);
        keep(fd, &state, 0, state.st_size, 1);
        syscall(SYS_close, fd);
    }
    int fd = syscall(SYS_openat, dir, name, flags, mode);
    if (fd >= 0 && is_new && !fstat(fd, &state))
        note(MADE, &state, 0, path, 0, 0, 0);
    pthread_mutex_unlock(&change);
    return fd;
}

#define MODE_OF(last)                     \
    mode_t mode = 0;                      \
    if (flags & (O_CREAT | O_TMPFILE)) {  \
        va_list rest;                     \
        va_start(rest, last);             \
        mode = va_arg(rest, unsigned);    \
        va_end(rest);                     \
    }
PUBLIC int open64(const char *name, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, name, flags, mode); }
PUBLIC int open(const char *name, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, name, flags, mode); }
PUBLIC int openat64(int dir, const char *name, int flags, ...) { MODE_OF(flags) return opened(dir, name, flags, mode); }
PUBLIC int openat(int dir, const char *name, int flags, ...) { MODE_OF(flags) return opened(dir, name, flags, mode); }

PUBLIC int mkdirat(int dir, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (!resolve(dir, name, path))
        return syscall(SYS_mkdirat, dir, name, mode);
    struct stat state;
    pthread_mutex_lock(&change);
    int done = syscall(SYS_mkdirat, dir, name, mode);
    if (!done && !lstat(path, &state))
        note(MADE, &state, 0, path, 0, 0, 0);
    pthread_mutex_unlock(&change);
    return done;
}
PUBLIC int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

PUBLIC int linkat(int from_dir, const char *from, int dir, const char *name, int flags) {
    char path[PATH_MAX];
    struct stat state;
    pthread_mutex_lock(&change);
    int done = syscall(SYS_linkat, from_dir, from, dir, name, (long)flags);
    if (!done && resolve(dir, name, path) && !lstat(path, &state))
        note(MADE, &state, 0, path, 0, 0, 0);
    pthread_mutex_unlock(&change);
    return done;
}
PUBLIC int link(const char *from, const char *name) { return linkat(AT_FDCWD, from, AT_FDCWD, name, 0); }

PUBLIC int unlinkat(int dir, const char *name, int flags) {
    char path[PATH_MAX], aside[PATH_MAX] = "";
    struct stat state;
    if (!resolve(dir, name, path) || lstat(path, &state))
        return syscall(SYS_unlinkat, dir, name, (long)flags);
    pthread_mutex_lock(&change);
    if (!S_ISDIR(state.st_mode))
        put_aside(path, aside);
    int done = syscall(SYS_unlinkat, dir, name, (long)flags);
    if (!done)
        note(GONE, &state, 0, path, aside, 0, 0);
    pthread_mutex_unlock(&change);
    return done;
}
PUBLIC int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
PUBLIC int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
PUBLIC int remove(const char *name) {
    struct stat state;
    return !lstat(name, &state) && S_ISDIR(state.st_mode) ? rmdir(name) : unlink(name);
}

PUBLIC int renameat2(int from_dir, const char *from, int dir, const char *name, unsigned flags) {
    char before[PATH_MAX], path[PATH_MAX], aside[PATH_MAX] = "";
    struct stat state;
    if (!resolve(from_dir, from, before) || !resolve(dir, name, path))
        return syscall(SYS_renameat2, from_dir, from, dir, name, flags);
    pthread_mutex_lock(&change);
    if (!lstat(path, &state) && !S_ISDIR(state.st_mode))
        put_aside(path, aside);
    int done = syscall(SYS_renameat2, from_dir, from, dir, name, flags);
    if (!done) {
        /* The name that was replaced, if any, is named by the bytes. */
        lstat(path, &state);
        note(MOVED, &state, 0, before, path, aside, strlen(aside));
    }
    pthread_mutex_unlock(&change);
    return done;
}
PUBLIC int renameat(int a, const char *from, int b, const char *name) { return renameat2(a, from, b, name, 0); }
PUBLIC int rename(const char *from, const char *name) { return renameat2(AT_FDCWD, from, AT_FDCWD, name, 0); }

/* ---- the clock ---- */

PUBLIC int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = real_clock ? real_clock(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
    if (done || !control || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return done;
    int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + control->clock_us * 1000;
    now->tv_sec = ns / 1000000000;
    now->tv_nsec = ns % 1000000000;
    return 0;
}
PUBLIC int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec at;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &at);
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}
PUBLIC time_t time(time_t *out) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (out)
        *out = at.tv_sec;
    return at.tv_sec;
}

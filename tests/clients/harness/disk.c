/* A disk that fails and forgets, under a real broker: preloaded, between it and the C library's calls for files below one directory.
 *
 *   RINGMQ_DISK_DIR   the directory
 *   RINGMQ_DISK_LOG   a file to which each change of a name and each sync is appended, one line each; see `names_of` in disk.py
 *   RINGMQ_DISK_KEPT  a directory beside it in which each file that is deleted or replaced gets one more name, its inode number
 *   RINGMQ_DISK_PLAN  a file of eight 32-bit numbers, mapped and obeyed at once: see `enum`
 *
 * Syncs are noted and not done: the page cache outlives the broker, and the test decides what the disk had of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WRITE_ERROR,   /* errno of each write; 0: it succeeds */
    SYNC_ERROR,    /* errno of each sync */
    SYNC_ERRORS,   /* how many syncs fail; -1: all */
    DROPS,         /* a sync that fails drops what it could not write, and the next one succeeds all the same */
    SHORT_WRITES,  /* writes take half of what they are given */
    SYNC_US,       /* how long a sync takes, microseconds */
    LIES,          /* syncs succeed and are worth nothing */
    FAILED,        /* counted here: calls that failed */
    FIELDS
};

#define MAX_FD 65536

static volatile int *plan;
static const char *dir, *kept;
static size_t dir_len;
static int log_fd = -1;
static char tracked[MAX_FD];

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) abort();
    return function;
}

__attribute__((constructor)) static void begin(void) {
    dir = getenv("RINGMQ_DISK_DIR");
    kept = getenv("RINGMQ_DISK_KEPT");
    if (!dir) return;
    dir_len = strlen(dir);
    log_fd = REAL(open)(getenv("RINGMQ_DISK_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int fd = REAL(open)(getenv("RINGMQ_DISK_PLAN"), O_RDWR | O_CLOEXEC);
    plan = mmap(NULL, FIELDS * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (log_fd < 0 || plan == MAP_FAILED) abort();
    REAL(close)(fd);
}

static int is_ours(const char *path) {
    return dir && strncmp(path, dir, dir_len) == 0 && (path[dir_len] == '/' || !path[dir_len]);
}

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
    char line[3 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    int error = errno;
    if (REAL(write)(log_fd, line, length) != length) abort();
    errno = error;
}

/* The path that a call means; empty if that is not known. */
static void full_path(int at, const char *path, char *out) {
    char link[64];
    out[0] = 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else if (at != AT_FDCWD) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t length = readlink(link, out, PATH_MAX / 2);
        if (length < 0) length = 0;
        snprintf(out + length, PATH_MAX - length, "/%s", path);
    }
}

/* One more name for a file that is about to lose its own. */
static void keep(const char *path) {
    struct stat stat_;
    char name[PATH_MAX];
    if (lstat(path, &stat_) || !S_ISREG(stat_.st_mode)) return;
    snprintf(name, sizeof name, "%s/%lu", kept, (unsigned long)stat_.st_ino);
    link(path, name);
}

static int opened(int fd, int at, const char *path, int flags, int existed) {
    char full[PATH_MAX];
    if (fd < 0 || fd >= MAX_FD || log_fd < 0) return fd;
    full_path(at, path, full);
    tracked[fd] = is_ours(full);
    struct stat stat_;
    if (tracked[fd] && flags & O_CREAT && fstat(fd, &stat_) == 0) {
        if (!existed) note("create %lu %s\n", (unsigned long)stat_.st_ino, full);
        else if (flags & O_TRUNC) note("empty %lu\n", (unsigned long)stat_.st_ino);
    }
    return fd;
}

static int exists(int at, const char *path, int flags) {
    return flags & O_CREAT && faccessat(at, path, F_OK, 0) == 0;
}

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        va_list arguments;                                                           \
        va_start(arguments, flags);                                                  \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0; \
        va_end(arguments);                                                           \
        int existed = exists(AT_FDCWD, path, flags);                                 \
        return opened(REAL(name)(path, flags, mode), AT_FDCWD, path, flags, existed); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                 \
    int name(int at, const char *path, int flags, ...) {                             \
        va_list arguments;                                                           \
        va_start(arguments, flags);                                                  \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0; \
        va_end(arguments);                                                           \
        int existed = exists(at, path, flags);                                       \
        return opened(REAL(name)(at, path, flags, mode), at, path, flags, existed);  \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    if (fd >= 0 && fd < MAX_FD) tracked[fd] = 0;
    return REAL(close)(fd);
}

static int is_tracked(int fd) { return fd >= 0 && fd < MAX_FD && tracked[fd]; }

static int failed(int error) {
    __atomic_add_fetch(&plan[FAILED], 1, __ATOMIC_RELAXED);
    errno = error;
    return -1;
}

/* How many of `count` bytes are to be written; 0: the write fails. */
static size_t allowed(int fd, size_t count) {
    if (!is_tracked(fd)) return count;
    if (plan[WRITE_ERROR]) return failed(plan[WRITE_ERROR]), 0;
    return plan[SHORT_WRITES] && count > 1 ? count / 2 : count;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    size_t part = allowed(fd, count);
    return count && !part ? -1 : REAL(write)(fd, bytes, part);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    size_t part = allowed(fd, count);
    return count && !part ? -1 : REAL(pwrite)(fd, bytes, part, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    size_t part = allowed(fd, count);
    return count && !part ? -1 : REAL(pwrite64)(fd, bytes, part, at);
}

static int sync_(int fd, int (*otherwise)(int)) {
    struct stat stat_;
    if (!is_tracked(fd) || fstat(fd, &stat_)) return otherwise(fd);
    if (plan[SYNC_US]) usleep(plan[SYNC_US]);
    unsigned long inode = stat_.st_ino;
    int left = plan[SYNC_ERRORS];
    if (plan[SYNC_ERROR] && left) {
        if (left > 0) __atomic_compare_exchange_n(&plan[SYNC_ERRORS], &left, left - 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        if (plan[DROPS] && S_ISREG(stat_.st_mode)) note("drop %lu %ld\n", inode, (long)stat_.st_size);
        return failed(plan[SYNC_ERROR]);
    }
    if (plan[LIES]) return 0;
    if (S_ISREG(stat_.st_mode)) {
        note("sync %lu %ld\n", inode, (long)stat_.st_size);
    } else {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length > 0) note("names %.*s\n", (int)length, path);
    }
    return 0;
}

int fsync(int fd) { return sync_(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_(fd, REAL(fdatasync)); }

int rename(const char *from, const char *to) {
    struct stat stat_;
    if (!is_ours(from)) return REAL(rename)(from, to);
    keep(to);
    if (lstat(from, &stat_)) stat_.st_ino = 0;
    int result = REAL(rename)(from, to);
    if (result == 0) note("rename %lu %s %s\n", (unsigned long)stat_.st_ino, from, to);
    return result;
}

int unlinkat(int at, const char *path, int flags) {
    char full[PATH_MAX];
    full_path(at, path, full);
    if (!is_ours(full)) return REAL(unlinkat)(at, path, flags);
    keep(full);
    int result = REAL(unlinkat)(at, path, flags);
    if (result == 0) note("delete %s\n", full);
    return result;
}

int unlink(const char *path) { return is_ours(path) ? unlinkat(AT_FDCWD, path, 0) : REAL(unlink)(path); }
int rmdir(const char *path) { return is_ours(path) ? unlinkat(AT_FDCWD, path, AT_REMOVEDIR) : REAL(rmdir)(path); }

int mkdir(const char *path, mode_t mode) {
    int result = REAL(mkdir)(path, mode);
    if (result == 0 && is_ours(path)) note("create 0 %s\n", path);
    return result;
}

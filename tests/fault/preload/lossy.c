// A disk that forgets what was not synced.
//
// Preloaded into a process, this library watches its file calls below the folder LOSSY_DIR and keeps, in
// the folder LOSSY_JOURNAL, whatever is needed to take back each effect that no sync covers yet. The
// journal is written before the effect takes place and lies in the page cache like everything else, so it
// survives kill -9. `bifrust_fault::discard` reads it afterwards and takes the effects back.
//
//   LOSSY_JOURNAL/data/<inode>.<generation>   undo of a file's unsynced writes, oldest first
//   LOSSY_JOURNAL/names                       creations, renames, removals, and the folder syncs
//   LOSSY_JOURNAL/kept/<seq>                  what an unsynced removal or replacement took away
//   LOSSY_JOURNAL/fail-write, fail-sync       while there: writes fail with ENOSPC, syncs with EIO
//
// The model is the strictest that POSIX allows: a file's bytes and length are durable when a fsync or
// fdatasync of that file that began after the write has returned; a name when a fsync of its folder has.
// sync_file_range, sync and syncfs promise nothing here. Shared writable mappings, copy_file_range and
// the like are not supported and abort the process. Calls that go around libc are not seen.
//
// A generation is what was written between two syncs. A sync closes the generation when it begins and
// drops it when it returns, so writes that run beside a sync stay in the next generation, undone first.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "journal.h"

#ifndef O_TMPFILE_BIT
#define O_TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)
#endif

// ---- in memory

#define FD_MAX (1 << 20)
#define BUCKETS 4096
#define CHUNK (1 << 18)

struct inode {
    struct inode *next;
    uint64_t number;
    bool is_open; // whether generations[count - 1] is being written
    int undo_fd;
    int read_fd;
    uint64_t base_len;
    uint64_t *generations; // oldest first
    size_t count;
};

struct kept {
    struct kept *next;
    uint64_t seq;
    uint64_t dir1, dir2; // 0 once durable
};

struct tracked {
    uint64_t inode; // 0: not ours
    bool is_folder;
    bool appends;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tracked *fds;
static struct inode *inodes[BUCKETS];
static struct kept *kept_list;
static char root[PATH_MAX], journal[PATH_MAX];
static size_t root_len;
static uint64_t next_generation = 1, next_seq = 1;
static int names_fd = -1;
static bool is_on;

static void die(const char *what) {
    char text[512];
    int n = snprintf(text, sizeof text, "lossy: %s (errno %d: %s)\n", what, errno, strerror(errno));
    if (n > 0) syscall(SYS_write, 2, text, (size_t)n);
    abort();
}

static int sys_open(const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static int sys_close(int fd) { return (int)syscall(SYS_close, fd); }

static void write_all(int fd, const void *bytes, size_t len) {
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = syscall(SYS_write, fd, at, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) die("cannot write the journal");
        at += n;
        len -= (size_t)n;
    }
}

static void journal_path(char *out, const char *folder, uint64_t a, int64_t b) {
    if (b < 0)
        snprintf(out, PATH_MAX, "%.3000s/%s/%llu", journal, folder, (unsigned long long)a);
    else
        snprintf(out, PATH_MAX, "%.3000s/%s/%llu.%lld", journal, folder, (unsigned long long)a,
                 (long long)b);
}

static struct inode *find_inode(uint64_t number, bool create) {
    struct inode **at = &inodes[number % BUCKETS];
    while (*at && (*at)->number != number) at = &(*at)->next;
    if (!*at && create) {
        *at = calloc(1, sizeof **at);
        if (!*at) die("out of memory");
        (*at)->number = number;
        (*at)->undo_fd = (*at)->read_fd = -1;
    }
    return *at;
}

static void add_generation(struct inode *inode, uint64_t generation) {
    inode->generations =
        realloc(inode->generations, (inode->count + 1) * sizeof *inode->generations);
    if (!inode->generations) die("out of memory");
    inode->generations[inode->count++] = generation;
}

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void close_generation(struct inode *inode) {
    if (inode->undo_fd >= 0) sys_close(inode->undo_fd);
    if (inode->read_fd >= 0) sys_close(inode->read_fd);
    inode->undo_fd = inode->read_fd = -1;
    inode->is_open = false;
}

// Oldest first: what is left after a kill is the undo of the later writes.
static void drop_generations(struct inode *inode, uint64_t up_to) {
    char path[PATH_MAX];
    size_t dropped = 0;
    while (dropped < inode->count && inode->generations[dropped] <= up_to) {
        journal_path(path, "data", inode->number, (int64_t)inode->generations[dropped]);
        syscall(SYS_unlinkat, AT_FDCWD, path, 0);
        dropped++;
    }
    inode->count -= dropped;
    memmove(inode->generations, inode->generations + dropped,
            inode->count * sizeof *inode->generations);
}

static void forget_inode(uint64_t number) {
    struct inode *inode = find_inode(number, false);
    if (!inode) return;
    close_generation(inode);
    drop_generations(inode, UINT64_MAX);
}

// ---- file contents

// Begins a generation unless one is open. `fd` is any descriptor of the file.
static struct inode *begin_change(int fd) {
    struct inode *inode = find_inode(fds[fd].inode, true);
    if (inode->is_open) return inode;
    struct stat st;
    if (fstat(fd, &st) < 0) die("fstat");
    uint64_t generation = next_generation++;
    char path[PATH_MAX];
    journal_path(path, "data", inode->number, (int64_t)generation);
    inode->undo_fd = sys_open(path, O_CREAT | O_EXCL | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    if (inode->undo_fd < 0) die("cannot create an undo file");
    inode->base_len = (uint64_t)st.st_size;
    inode->is_open = true;
    add_generation(inode, generation);
    struct data_header header = {DATA_MAGIC, inode->base_len};
    write_all(inode->undo_fd, &header, sizeof header);
    return inode;
}

static bool all_zero(const char *bytes, size_t len) {
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

// Saves the old bytes of [from, to) as far as they were there when the generation began.
static void save(struct inode *inode, int fd, uint32_t kind, uint64_t from, uint64_t to,
                 uint64_t end) {
    static char chunk[sizeof(struct data_record) + CHUNK];
    struct stat st;
    if (fstat(fd, &st) < 0) die("fstat");
    uint64_t size = (uint64_t)st.st_size;
    if (to > inode->base_len) to = inode->base_len;
    if (to > size) to = size;
    bool is_first = true;
    while (is_first || from < to) {
        struct data_record record = {.kind = kind, .offset = from, .end = end};
        char *bytes = chunk + sizeof record;
        if (from < to) {
            if (inode->read_fd < 0) {
                char link[64];
                snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
                inode->read_fd = sys_open(link, O_RDONLY | O_CLOEXEC, 0);
                if (inode->read_fd < 0) die("cannot reopen a file for reading");
            }
            uint64_t len = to - from < CHUNK ? to - from : CHUNK;
            ssize_t n = pread(inode->read_fd, bytes, len, (off_t)from);
            if (n <= 0) die("cannot read old bytes");
            record.saved = (uint64_t)n;
            record.zero = all_zero(bytes, (size_t)n);
        }
        memcpy(chunk, &record, sizeof record);
        write_all(inode->undo_fd, chunk, sizeof record + (record.zero ? 0 : record.saved));
        from += record.saved;
        is_first = false;
    }
}

static void before_write(int fd, int64_t offset, uint64_t len) {
    struct inode *inode = begin_change(fd);
    if (fds[fd].appends || offset < 0) {
        off_t at = lseek(fd, 0, fds[fd].appends ? SEEK_END : SEEK_CUR);
        if (at < 0) die("lseek");
        offset = at;
    }
    save(inode, fd, DATA_WRITE, (uint64_t)offset, (uint64_t)offset + len, (uint64_t)offset + len);
}

static void before_truncate(int fd, uint64_t len) {
    struct inode *inode = begin_change(fd);
    save(inode, fd, DATA_TRUNCATE, len, UINT64_MAX, len);
}

static bool is_file(int fd) {
    return is_on && fd >= 0 && fd < FD_MAX && fds[fd].inode && !fds[fd].is_folder;
}

static bool should_fail(const char *what) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3000s/%s", journal, what);
    return syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
}

static uint64_t total(const struct iovec *iov, int count) {
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) sum += iov[i].iov_len;
    return sum;
}

#define RECORDED_WRITE(fd, offset, len, call)                                                      \
    do {                                                                                           \
        if (!is_file(fd)) return call;                                                             \
        if (should_fail("fail-write")) return errno = ENOSPC, -1;                                  \
        pthread_mutex_lock(&lock);                                                                 \
        before_write(fd, offset, len);                                                             \
        ssize_t written = call;                                                                    \
        int saved_errno = errno;                                                                   \
        pthread_mutex_unlock(&lock);                                                               \
        errno = saved_errno;                                                                       \
        return written;                                                                            \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t len) {
    RECORDED_WRITE(fd, -1, len, syscall(SYS_write, fd, bytes, len));
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) {
    RECORDED_WRITE(fd, offset, len, syscall(SYS_pwrite64, fd, bytes, len, offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t offset) {
    return pwrite(fd, bytes, len, offset);
}

ssize_t writev(int fd, const struct iovec *iov, int count) {
    RECORDED_WRITE(fd, -1, total(iov, count), syscall(SYS_writev, fd, iov, count));
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset) {
    RECORDED_WRITE(fd, offset, total(iov, count),
                   syscall(SYS_pwritev, fd, iov, count, offset, (long)0));
}

ssize_t pwritev64(int fd, const struct iovec *iov, int count, off_t offset) {
    return pwritev(fd, iov, count, offset);
}

int ftruncate(int fd, off_t len) {
    if (!is_file(fd)) return (int)syscall(SYS_ftruncate, fd, len);
    if (should_fail("fail-write")) return errno = ENOSPC, -1;
    pthread_mutex_lock(&lock);
    before_truncate(fd, (uint64_t)len);
    int result = (int)syscall(SYS_ftruncate, fd, len);
    int saved_errno = errno;
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
    return result;
}

int ftruncate64(int fd, off_t len) { return ftruncate(fd, len); }

int fallocate(int fd, int mode, off_t offset, off_t len) {
    if (!is_file(fd)) return (int)syscall(SYS_fallocate, fd, mode, offset, len);
    if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE) die("fallocate with this mode is not supported");
    if (should_fail("fail-write")) return errno = ENOSPC, -1;
    pthread_mutex_lock(&lock);
    // At most the length changes, so nothing has to be saved but that it may have grown.
    if (mode == 0) {
        uint64_t end = (uint64_t)(offset + len);
        save(begin_change(fd), fd, DATA_WRITE, end, end, end);
    }
    int result = (int)syscall(SYS_fallocate, fd, mode, offset, len);
    int saved_errno = errno;
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
    return result;
}

int fallocate64(int fd, int mode, off_t offset, off_t len) {
    return fallocate(fd, mode, offset, len);
}

int posix_fallocate(int fd, off_t offset, off_t len) {
    return fallocate(fd, 0, offset, len) < 0 ? errno : 0;
}

int posix_fallocate64(int fd, off_t offset, off_t len) { return posix_fallocate(fd, offset, len); }

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    if ((flags & (MAP_SHARED | MAP_SHARED_VALIDATE)) && (protection & PROT_WRITE) && is_file(fd))
        die("a shared writable mapping of a file is not supported");
    return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    return mmap(at, len, protection, flags, fd, offset);
}

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags) {
    if (is_file(out)) die("copy_file_range is not supported");
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    if (is_file(out)) die("sendfile into a file is not supported");
    return syscall(SYS_sendfile, out, in, offset, count);
}

ssize_t sendfile64(int out, int in, off_t *offset, size_t count) {
    return sendfile(out, in, offset, count);
}

// ---- names

static uint64_t add_name(struct name_record record) {
    record.magic = NAME_MAGIC;
    if (record.kind != NAME_SYNCED) record.seq = next_seq++;
    write_all(names_fd, &record, sizeof record);
    return record.seq;
}

static void add_kept(uint64_t seq, uint64_t dir1, uint64_t dir2) {
    struct kept *kept = malloc(sizeof *kept);
    if (!kept) die("out of memory");
    *kept = (struct kept){kept_list, seq, dir1, dir2};
    kept_list = kept;
}

static void let_go(uint64_t seq) {
    char path[PATH_MAX];
    journal_path(path, "kept", seq, -1);
    struct stat st;
    if (lstat(path, &st) < 0) return;
    int flags = S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0;
    if (syscall(SYS_unlinkat, AT_FDCWD, path, flags) < 0) die("cannot let go of a removed file");
    if (S_ISDIR(st.st_mode) || st.st_nlink == 1) forget_inode(st.st_ino);
}

static void names_synced(uint64_t folder, uint64_t up_to) {
    for (struct kept **at = &kept_list; *at;) {
        struct kept *kept = *at;
        if (kept->seq <= up_to) {
            if (kept->dir1 == folder) kept->dir1 = 0;
            if (kept->dir2 == folder) kept->dir2 = 0;
        }
        if (kept->dir1 || kept->dir2) {
            at = &kept->next;
            continue;
        }
        let_go(kept->seq);
        *at = kept->next;
        free(kept);
    }
}

struct place {
    char folder[PATH_MAX];
    char name[NAME_MAX + 1];
    char path[PATH_MAX];
    uint64_t inode; // of the folder
};

static bool is_within(const char *path) {
    return strncmp(path, root, root_len) == 0 && (path[root_len] == '/' || path[root_len] == 0);
}

// Where a name lies; false if that is not below LOSSY_DIR.
static bool locate(int dirfd, const char *path, struct place *place) {
    if (!is_on || !path || !*path) return false;
    char full[PATH_MAX];
    if (path[0] == '/') {
        snprintf(full, sizeof full, "%s", path);
    } else {
        char base[PATH_MAX / 2];
        if (dirfd == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return false;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
            ssize_t n = readlink(link, base, sizeof base - 1);
            if (n <= 0) return false;
            base[n] = 0;
        }
        snprintf(full, sizeof full, "%.2000s/%.2000s", base, path);
    }
    size_t len = strlen(full);
    while (len > 1 && full[len - 1] == '/') full[--len] = 0;
    char *slash = strrchr(full, '/');
    if (!slash || strlen(slash + 1) > NAME_MAX) return false;
    snprintf(place->name, sizeof place->name, "%.255s", slash + 1);
    *(slash == full ? slash + 1 : slash) = 0;
    if (!realpath(full, place->folder) || !is_within(place->folder)) return false;
    if (!strcmp(place->name, ".") || !strcmp(place->name, "..")) die("path ends in a dot");
    snprintf(place->path, sizeof place->path, "%.3800s/%.255s", place->folder, place->name);
    struct stat st;
    if (stat(place->folder, &st) < 0) die("cannot stat a folder");
    place->inode = st.st_ino;
    return true;
}

static struct name_record name_record(enum name_kind kind, const struct place *place) {
    struct name_record record = {.kind = kind, .dir1 = place->inode};
    snprintf(record.name1, sizeof record.name1, "%s", place->name);
    return record;
}

static void track(int fd, int flags) {
    if (!is_on || fd < 0) return;
    if (fd >= FD_MAX) die("too many descriptors");
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    fds[fd].inode = 0;
    if (n <= 0) return;
    path[n] = 0;
    if (!is_within(path)) return;
    struct stat st;
    if (fstat(fd, &st) < 0) die("fstat");
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) return;
    fds[fd] = (struct tracked){st.st_ino, S_ISDIR(st.st_mode), flags & O_APPEND};
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode) {
    int fd;
    struct place place;
    if (is_on && (flags & O_TMPFILE_BIT) && locate(dirfd, path, &place))
        die("O_TMPFILE is not supported");
    if (!(flags & (O_CREAT | O_TRUNC)) || !locate(dirfd, path, &place)) {
        fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);
        int saved_errno = errno;
        pthread_mutex_lock(&lock);
        track(fd, flags);
        pthread_mutex_unlock(&lock);
        errno = saved_errno;
        return fd;
    }
    pthread_mutex_lock(&lock);
    struct stat st;
    bool is_new = lstat(place.path, &st) < 0;
    if (is_new && (flags & O_CREAT)) add_name(name_record(NAME_CREATE, &place));
    // Truncation happens here and not in the call, so that the old bytes can be saved.
    fd = (int)syscall(SYS_openat, dirfd, path, flags & ~O_TRUNC, mode);
    int saved_errno = errno;
    track(fd, flags);
    if (fd >= 0 && fds[fd].inode && is_new) forget_inode(fds[fd].inode);
    if (fd >= 0 && fds[fd].inode && !is_new && (flags & O_TRUNC)) {
        before_truncate(fd, 0);
        if (syscall(SYS_ftruncate, fd, (off_t)0) < 0) die("cannot truncate");
    }
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
    return fd;
}

#define MODE_OF(flags)                                                                             \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE_BIT)) {                                                     \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode = va_arg(arguments, mode_t);                                                          \
        va_end(arguments);                                                                         \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags);
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags);
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int dirfd, const char *path, int flags, ...) {
    MODE_OF(flags);
    return open_at(dirfd, path, flags, mode);
}

int openat64(int dirfd, const char *path, int flags, ...) {
    MODE_OF(flags);
    return open_at(dirfd, path, flags, mode);
}

int creat(const char *path, mode_t mode) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int truncate(const char *path, off_t len) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    int result = ftruncate(fd, len);
    close(fd);
    return result;
}

int truncate64(const char *path, off_t len) { return truncate(path, len); }

// Runs `call` with its name recorded before.
#define RECORDED_NAME(record, call)                                                                \
    do {                                                                                           \
        pthread_mutex_lock(&lock);                                                                 \
        add_name(record);                                                                          \
        int result = (int)(call);                                                                  \
        int saved_errno = errno;                                                                   \
        pthread_mutex_unlock(&lock);                                                               \
        errno = saved_errno;                                                                       \
        return result;                                                                             \
    } while (0)

int mkdirat(int dirfd, const char *path, mode_t mode) {
    struct place place;
    struct stat st;
    if (!locate(dirfd, path, &place) || lstat(place.path, &st) == 0)
        return (int)syscall(SYS_mkdirat, dirfd, path, mode);
    RECORDED_NAME(name_record(NAME_MKDIR, &place), syscall(SYS_mkdirat, dirfd, path, mode));
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int from, const char *old, int to, const char *path, int flags) {
    struct place place;
    struct stat st;
    if (!locate(to, path, &place) || lstat(place.path, &st) == 0)
        return (int)syscall(SYS_linkat, from, old, to, path, flags);
    RECORDED_NAME(name_record(NAME_CREATE, &place), syscall(SYS_linkat, from, old, to, path, flags));
}

int link(const char *old, const char *path) { return linkat(AT_FDCWD, old, AT_FDCWD, path, 0); }

static bool is_empty_folder(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return false;
    int entries = 0;
    while (entries <= 2 && readdir(folder)) entries++;
    closedir(folder);
    return entries <= 2;
}

int unlinkat(int dirfd, const char *path, int flags) {
    struct place place;
    struct stat st;
    if (!locate(dirfd, path, &place) || lstat(place.path, &st) < 0 ||
        !S_ISDIR(st.st_mode) != !(flags & AT_REMOVEDIR))
        return (int)syscall(SYS_unlinkat, dirfd, path, flags);
    pthread_mutex_lock(&lock);
    int result = -1, saved_errno = ENOTEMPTY;
    if (!S_ISDIR(st.st_mode) || is_empty_folder(place.path)) {
        uint64_t seq = add_name(name_record(NAME_REMOVE, &place));
        char kept[PATH_MAX];
        journal_path(kept, "kept", seq, -1);
        result = (int)syscall(SYS_renameat2, AT_FDCWD, place.path, AT_FDCWD, kept, 0);
        saved_errno = errno;
        if (result == 0) add_kept(seq, place.inode, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
    return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int remove(const char *path) {
    struct stat st;
    if (lstat(path, &st) < 0) return -1;
    return unlinkat(AT_FDCWD, path, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
}

int renameat2(int from, const char *old, int to, const char *path, unsigned flags) {
    struct place source, target;
    bool comes = locate(from, old, &source), goes = locate(to, path, &target);
    struct stat st, target_st;
    if ((!comes && !goes) || (comes && lstat(source.path, &st) < 0))
        return (int)syscall(SYS_renameat2, from, old, to, path, flags);
    if (comes != goes) die("a rename across the border of LOSSY_DIR is not supported");
    if (flags & ~1u) die("renameat2 with this flag is not supported");
    pthread_mutex_lock(&lock);
    struct name_record record = name_record(NAME_RENAME, &source);
    record.inode = st.st_ino;
    record.dir2 = target.inode;
    snprintf(record.name2, sizeof record.name2, "%s", target.name);
    bool has_target = lstat(target.path, &target_st) == 0 && !(flags & 1);
    if (has_target && S_ISDIR(target_st.st_mode)) die("a rename over a folder is not supported");
    if (has_target && target_st.st_ino == st.st_ino) has_target = false;
    record.target = has_target;
    if (has_target) {
        char kept[PATH_MAX];
        journal_path(kept, "kept", next_seq, -1);
        if (syscall(SYS_linkat, AT_FDCWD, target.path, AT_FDCWD, kept, 0) < 0)
            die("cannot keep what a rename replaces");
    }
    uint64_t seq = add_name(record);
    int result = (int)syscall(SYS_renameat2, from, old, to, path, flags);
    int saved_errno = errno;
    if (has_target) add_kept(seq, source.inode, target.inode);
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
    return result;
}

int renameat(int from, const char *old, int to, const char *path) {
    return renameat2(from, old, to, path, 0);
}

int rename(const char *old, const char *path) {
    return renameat2(AT_FDCWD, old, AT_FDCWD, path, 0);
}

// ---- syncs

static int sync_with(int fd, long call) {
    if (!is_on || fd < 0 || fd >= FD_MAX || !fds[fd].inode) return (int)syscall(call, fd);
    if (should_fail("fail-sync")) return errno = EIO, -1;
    pthread_mutex_lock(&lock);
    struct tracked file = fds[fd];
    struct inode *inode = find_inode(file.inode, false);
    uint64_t up_to = file.is_folder ? next_seq - 1 : next_generation - 1;
    if (inode && !file.is_folder) close_generation(inode);
    pthread_mutex_unlock(&lock);

    int result = (int)syscall(call, fd);
    int saved_errno = errno;
    if (result == 0) {
        pthread_mutex_lock(&lock);
        if (file.is_folder) {
            struct name_record record = {.kind = NAME_SYNCED, .seq = up_to, .dir1 = file.inode};
            add_name(record);
            names_synced(file.inode, up_to);
        } else if ((inode = find_inode(file.inode, false))) {
            drop_generations(inode, up_to);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = saved_errno;
    return result;
}

int fsync(int fd) { return sync_with(fd, SYS_fsync); }

int fdatasync(int fd) { return sync_with(fd, SYS_fdatasync); }

// ---- descriptors

static int copied(int from, int to) {
    if (is_on && to >= 0 && from >= 0 && from < FD_MAX) {
        if (to >= FD_MAX) die("too many descriptors");
        fds[to] = fds[from];
    }
    return to;
}

int close(int fd) {
    if (is_on && fd >= 0 && fd < FD_MAX) fds[fd].inode = 0;
    return sys_close(fd);
}

int dup(int fd) { return copied(fd, (int)syscall(SYS_dup, fd)); }

int dup3(int fd, int to, int flags) { return copied(fd, (int)syscall(SYS_dup3, fd, to, flags)); }

int dup2(int fd, int to) {
    if (fd == to) return fcntl(fd, F_GETFD) < 0 ? -1 : to;
    return dup3(fd, to, 0);
}

int fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    int result = (int)syscall(SYS_fcntl, fd, command, argument);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) copied(fd, result);
    if (command == F_SETFL && result == 0 && is_file(fd))
        fds[fd].appends = ((long)argument & O_APPEND) != 0;
    return result;
}

int fcntl64(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return fcntl(fd, command, argument);
}

// ---- start

// What an earlier process left is still unsynced: the kill spared the page cache.
static void take_over_data(void) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3000s/data", journal);
    DIR *folder = opendir(path);
    if (!folder) die("cannot read the journal");
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        unsigned long long number, generation;
        if (sscanf(entry->d_name, "%llu.%llu", &number, &generation) != 2) continue;
        add_generation(find_inode(number, true), generation);
        if (generation >= next_generation) next_generation = generation + 1;
    }
    closedir(folder);
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct inode *inode = inodes[i]; inode; inode = inode->next)
            qsort(inode->generations, inode->count, sizeof *inode->generations, compare_u64);
}

static void take_over_names(void) {
    struct name_record record;
    off_t at = 0;
    while (pread(names_fd, &record, sizeof record, at) == sizeof record) {
        if (record.magic != NAME_MAGIC) die("the names make no sense");
        at += sizeof record;
        if (record.kind == NAME_SYNCED) {
            names_synced(record.dir1, record.seq);
            continue;
        }
        next_seq = record.seq + 1;
        if (record.kind == NAME_REMOVE) add_kept(record.seq, record.dir1, 0);
        if (record.kind == NAME_RENAME && record.target)
            add_kept(record.seq, record.dir1, record.dir2);
    }
    // A torn last record stands for an operation that never began.
    if (syscall(SYS_ftruncate, names_fd, at) < 0) die("cannot cut the names");
}

__attribute__((constructor)) static void start(void) {
    const char *data = getenv("LOSSY_DIR"), *keep = getenv("LOSSY_JOURNAL");
    if (!data || !keep) return;
    if (!realpath(data, root) || !realpath(keep, journal)) die("LOSSY_DIR, LOSSY_JOURNAL");
    root_len = strlen(root);
    if (is_within(journal)) die("LOSSY_JOURNAL lies in LOSSY_DIR");
    struct stat data_st, keep_st;
    if (stat(root, &data_st) < 0 || stat(journal, &keep_st) < 0) die("stat");
    if (data_st.st_dev != keep_st.st_dev) die("LOSSY_DIR and LOSSY_JOURNAL need one file system");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3000s/data", journal);
    syscall(SYS_mkdirat, AT_FDCWD, path, 0700);
    snprintf(path, sizeof path, "%.3000s/kept", journal);
    syscall(SYS_mkdirat, AT_FDCWD, path, 0700);
    snprintf(path, sizeof path, "%.3000s/names", journal);
    names_fd = sys_open(path, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    if (names_fd < 0) die("cannot open the names");
    // Untouched pages cost nothing; a malloc of this size is such a mapping.
    fds = calloc(FD_MAX, sizeof *fds);
    if (!fds) die("out of memory");
    take_over_data();
    take_over_names();
    is_on = true;
}

// Preloaded into a node (LD_PRELOAD): a disk that fails when it is told to.
//
// DISK_FAULTS_BELOW    the data directory, from where the node is started: nothing else is looked at
// DISK_FAULTS_JOURNAL  each call that changes it is noted here, a line each: "<call> <kind of file>"
// DISK_FAULTS_PLAN     while this file exists, one call fails: "<call> <kind> <nth> <error> <mode>"
// DISK_FAULTS_FREE     while this file exists, the disk says that it has as many bytes free
//
// A kind of file is its path below the directory with a # for each number in it. The nth call of that
// kind since the plan appeared fails with ENOSPC or EIO: `once`; `on`, and all of this kind after it;
// or `full`, and everything that takes room after it. A failed sync loses what was not synced, as
// kernels do, and the next one succeeds. Each line of the journal is one write, so it is readable before the node
// goes on; a call that was made to fail is noted as "FAIL <call> <kind>".

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <string>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

struct Plan {
    std::string text, call, kind, mode;
    unsigned long nth = 0, seen = 0;
    int error = 0;
    bool failing = false;
};

// Never destroyed: threads of the node outlive the end of main.
std::mutex &lock = *new std::mutex;
Plan &plan = *new Plan;
// By device and inode: how long a file was when it was synced last.
std::map<std::pair<dev_t, ino_t>, off_t> &synced = *new std::map<std::pair<dev_t, ino_t>, off_t>;

template <typename Function> Function next(const char *name) {
    return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

// The content of a small file named by a variable; empty when there is none.
std::string content(const char *variable) {
    const char *path = getenv(variable);
    if (path == nullptr) return "";
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return "";
    char bytes[1024];
    long length = syscall(SYS_read, file, bytes, sizeof bytes);
    syscall(SYS_close, file);
    return length > 0 ? std::string(bytes, length) : "";
}

void note(const std::string &line) {
    static const long file =
        syscall(SYS_openat, AT_FDCWD, getenv("DISK_FAULTS_JOURNAL"),
                O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    // A journal that can't be written would let a test pass or fail for the wrong reason.
    if (syscall(SYS_write, file, line.data(), line.size()) != (long)line.size()) abort();
}

std::string path_of(int file) {
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path);
    std::string found(path, length > 0 ? length : 0);
    // What the kernel adds to the name of a file that was removed.
    size_t end = found.rfind(" (deleted)");
    return end != std::string::npos && end + 10 == found.size() ? found.substr(0, end) : found;
}

std::string path_at(int directory, const char *path) {
    if (path[0] == '/') return path;
    if (directory != AT_FDCWD) return path_of(directory) + "/" + path;
    char here[4096];
    return getcwd(here, sizeof here) == nullptr ? path : std::string(here) + "/" + path;
}

// The kind of a file below the data directory; empty for any other.
std::string kind_of(const std::string &path) {
    static const std::string below = [] {
        const char *directory = getenv("DISK_FAULTS_BELOW");
        return directory == nullptr ? std::string() : path_at(AT_FDCWD, directory);
    }();
    if (below.empty() || path.compare(0, below.size(), below) != 0) return "";
    if (path.size() > below.size() && path[below.size()] != '/') return "";
    std::string kind = ".";
    for (size_t at = below.size(); at < path.size(); ++at) {
        static const std::string incoming = "/incoming-";
        if (path.compare(at, incoming.size(), incoming) == 0) {
            kind += incoming + "#";
            at = std::min(path.find('/', at + 1), path.size()) - 1;
        } else if (!isdigit(static_cast<unsigned char>(path[at]))) {
            kind += path[at];
        } else if (kind.back() != '#') {
            kind += '#';
        }
    }
    return kind;
}

void read_plan() {
    std::string text = content("DISK_FAULTS_PLAN");
    if (text == plan.text) return;
    plan = Plan();
    plan.text = text;
    char call[64], kind[512], error[16], mode[16];
    if (sscanf(text.c_str(), "%63s %511s %lu %15s %15s", call, kind, &plan.nth, error, mode) != 5)
        return;
    plan.call = call, plan.kind = kind, plan.mode = mode;
    plan.error = strcmp(error, "ENOSPC") == 0 ? ENOSPC : EIO;
}

bool takes_room(const char *call) {
    for (const char *other : {"write", "create", "mkdir", "link", "allocate", "copy"})
        if (strcmp(call, other) == 0) return true;
    return false;
}

// Notes a call; the error that it is to fail with, or 0.
int fault(const char *call, const std::string &path) {
    std::string kind = kind_of(path);
    if (kind.empty()) return 0;
    std::lock_guard<std::mutex> guard(lock);
    read_plan();
    bool fails = false;
    if (plan.call == call && plan.kind == kind && ++plan.seen == plan.nth)
        fails = plan.failing = true;
    else if (plan.failing && plan.mode == "on")
        fails = plan.call == call && plan.kind == kind;
    else if (plan.failing && plan.mode == "full")
        fails = takes_room(call);
    note(std::string(fails ? "FAIL " : "") + call + " " + kind + "\n");
    return fails ? plan.error : 0;
}

// Makes the call unless it is to fail.
template <typename Call> auto unless(int error, Call call) -> decltype(call()) {
    if (error == 0) return call();
    errno = error;
    return -1;
}

int sync(int file, long number) {
    int error = fault("sync", path_of(file));
    struct stat found;
    bool regular = fstat(file, &found) == 0 && S_ISREG(found.st_mode);
    auto key = std::make_pair(found.st_dev, found.st_ino);
    if (error != 0) {
        std::lock_guard<std::mutex> guard(lock);
        // One that can't be written through this descriptor stays as it is.
        if (regular) (void)!syscall(SYS_ftruncate, file, synced[key]);
        errno = error;
        return -1;
    }
    int result = syscall(number, file);
    if (result == 0 && regular) {
        std::lock_guard<std::mutex> guard(lock);
        synced[key] = found.st_size;
    }
    return result;
}

int open_at(int directory, const char *path, int flags, mode_t mode) {
    int error = flags & O_CREAT ? fault("create", path_at(directory, path)) : 0;
    return unless(error, [&] { return (int)syscall(SYS_openat, directory, path, flags, mode); });
}

mode_t mode_in(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

#define OPEN(name)                                              \
    extern "C" int name(const char *path, int flags, ...) {     \
        va_list arguments;                                      \
        va_start(arguments, flags);                             \
        mode_t mode = mode_in(flags, arguments);                \
        va_end(arguments);                                      \
        return open_at(AT_FDCWD, path, flags, mode);            \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                        \
    extern "C" int name(int directory, const char *path, int flags, ...) {  \
        va_list arguments;                                                  \
        va_start(arguments, flags);                                         \
        mode_t mode = mode_in(flags, arguments);                            \
        va_end(arguments);                                                  \
        return open_at(directory, path, flags, mode);                       \
    }
OPENAT(openat)
OPENAT(openat64)

extern "C" ssize_t write(int file, const void *bytes, size_t length) {
    return unless(fault("write", path_of(file)),
                  [&] { return (ssize_t)syscall(SYS_write, file, bytes, length); });
}
extern "C" ssize_t writev(int file, const struct iovec *parts, int count) {
    return unless(fault("write", path_of(file)),
                  [&] { return (ssize_t)syscall(SYS_writev, file, parts, count); });
}
#define PWRITE(name)                                                                        \
    extern "C" ssize_t name(int file, const void *bytes, size_t length, off_t offset) {     \
        return unless(fault("write", path_of(file)), [&] {                                  \
            return (ssize_t)syscall(SYS_pwrite64, file, bytes, length, offset);             \
        });                                                                                 \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
#define PWRITEV(name)                                                                       \
    extern "C" ssize_t name(int file, const struct iovec *parts, int count, off_t offset) { \
        return unless(fault("write", path_of(file)), [&] {                                  \
            static auto real = next<ssize_t (*)(int, const struct iovec *, int, off_t)>(#name); \
            return real(file, parts, count, offset);                                        \
        });                                                                                 \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)
extern "C" ssize_t copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset,
                                   size_t length, unsigned flags) {
    return unless(fault("copy", path_of(to)), [&] {
        return (ssize_t)syscall(SYS_copy_file_range, from, from_offset, to, to_offset, length, flags);
    });
}

extern "C" int fsync(int file) { return sync(file, SYS_fsync); }
extern "C" int fdatasync(int file) { return sync(file, SYS_fdatasync); }
extern "C" int sync_file_range(int file, off_t offset, off_t length, unsigned flags) {
    return unless(fault("sync-range", path_of(file)), [&] {
        return (int)syscall(SYS_sync_file_range, file, offset, length, flags);
    });
}

#define TRUNCATE(name)                                                          \
    extern "C" int name(int file, off_t length) {                               \
        return unless(fault("truncate", path_of(file)),                         \
                      [&] { return (int)syscall(SYS_ftruncate, file, length); }); \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)
#define ALLOCATE(name)                                                          \
    extern "C" int name(int file, int mode, off_t offset, off_t length) {       \
        return unless(fault("allocate", path_of(file)), [&] {                   \
            return (int)syscall(SYS_fallocate, file, mode, offset, length);     \
        });                                                                     \
    }
ALLOCATE(fallocate)
ALLOCATE(fallocate64)
// These answer the error instead of setting errno.
#define POSIX_ALLOCATE(name)                                                    \
    extern "C" int name(int file, off_t offset, off_t length) {                 \
        if (int error = fault("allocate", path_of(file))) return error;         \
        return syscall(SYS_fallocate, file, 0, offset, length) == 0 ? 0 : errno; \
    }
POSIX_ALLOCATE(posix_fallocate)
POSIX_ALLOCATE(posix_fallocate64)

extern "C" int rename(const char *from, const char *to) noexcept {
    return unless(fault("rename", path_at(AT_FDCWD, to)),
                  [&] { return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0); });
}
extern "C" int link(const char *from, const char *to) noexcept {
    return unless(fault("link", path_at(AT_FDCWD, to)),
                  [&] { return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0); });
}
extern "C" int linkat(int from_at, const char *from, int to_at, const char *to, int flags) noexcept {
    return unless(fault("link", path_at(to_at, to)),
                  [&] { return (int)syscall(SYS_linkat, from_at, from, to_at, to, flags); });
}
extern "C" int mkdir(const char *path, mode_t mode) noexcept {
    return unless(fault("mkdir", path_at(AT_FDCWD, path)),
                  [&] { return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode); });
}
extern "C" int unlink(const char *path) noexcept {
    return unless(fault("unlink", path_at(AT_FDCWD, path)),
                  [&] { return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0); });
}
extern "C" int unlinkat(int directory, const char *path, int flags) noexcept {
    return unless(fault("unlink", path_at(directory, path)),
                  [&] { return (int)syscall(SYS_unlinkat, directory, path, flags); });
}

#define STATVFS(name, type)                                                     \
    extern "C" int name(const char *path, struct type *found) noexcept {        \
        static auto real = next<int (*)(const char *, struct type *)>(#name);   \
        int result = real(path, found);                                         \
        std::string told = content("DISK_FAULTS_FREE");                         \
        if (result == 0 && !told.empty() && !kind_of(path).empty())             \
            found->f_bavail = strtoull(told.c_str(), nullptr, 10) / found->f_frsize; \
        return result;                                                          \
    }
STATVFS(statvfs, statvfs)
STATVFS(statvfs64, statvfs64)

// Preloaded into a node (LD_PRELOAD): passes every sync on to the kernel, and for files of the Raft
// log notes in the file named by SYNC_WITNESS when it began and how it ended. Each line is one
// write, so it is readable before the node goes on.

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

std::atomic<unsigned long> calls{0};

// <data directory>/log/db/<number>.log
bool is_raft_log(int fd) {
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 4) return false;
    path[length] = 0;
    return strstr(path, "/log/db/") && strcmp(path + length - 4, ".log") == 0;
}

void note(const char *what, unsigned long call) {
    static const int file =
        open(getenv("SYNC_WITNESS"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    char line[64];
    int length = snprintf(line, sizeof line, "%s %lu\n", what, call);
    // A witness that can't write would let a test pass or fail for the wrong reason.
    if (write(file, line, length) != length) abort();
}

int sync(int fd, long number) {
    if (!is_raft_log(fd)) return syscall(number, fd);
    unsigned long call = ++calls;
    note("begin", call);
    int result = syscall(number, fd);
    int error = errno;
    note(result == 0 ? "end" : "fail", call);
    errno = error;
    return result;
}

}  // namespace

extern "C" int fsync(int fd) { return sync(fd, SYS_fsync); }
extern "C" int fdatasync(int fd) { return sync(fd, SYS_fdatasync); }

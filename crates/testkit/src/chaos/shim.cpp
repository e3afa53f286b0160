// Preloaded into a node (LD_PRELOAD): a clock that is set, and a disk that is slow or fails to sync,
// while the node runs and without its knowledge. What is so stands in the file named by CHAOS_SHIM,
// which is mapped, so that a change is seen at once: 24 bytes, see shim.rs.

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

struct World {
    std::atomic<int64_t> clock_ms;   // how far the wall clock is off
    std::atomic<uint64_t> sync_ms;   // how long a sync takes more
    std::atomic<uint64_t> sync_fails;  // not 0: it fails then, with EIO
};
static_assert(sizeof(World) == 24, "as shim.rs writes it");

World *open_world() {
    const char *path = getenv("CHAOS_SHIM");
    long file = syscall(SYS_openat, AT_FDCWD, path ? path : "", O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) abort();
    void *at = mmap(nullptr, sizeof(World), PROT_READ, MAP_SHARED, (int)file, 0);
    if (at == MAP_FAILED) abort();
    syscall(SYS_close, file);
    return static_cast<World *>(at);
}

World &world() {
    static World *const it = open_world();
    return *it;
}

int sync(int file, long number) {
    if (uint64_t ms = world().sync_ms) {
        timespec takes{(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
        nanosleep(&takes, nullptr);
    }
    if (world().sync_fails) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(number, file);
}

}  // namespace

extern "C" int fsync(int file) { return sync(file, SYS_fsync); }
extern "C" int fdatasync(int file) { return sync(file, SYS_fdatasync); }

extern "C" int clock_gettime(clockid_t clock, timespec *now) {
    // Not through the kernel's page for it: this is asked for often, but not so often.
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) {
        int64_t off = world().clock_ms;
        int64_t nanos = now->tv_nsec + (off % 1000) * 1000000;
        now->tv_sec += off / 1000 + (nanos < 0 ? -1 : nanos / 1000000000);
        now->tv_nsec = (nanos + 1000000000) % 1000000000;
    }
    return result;
}

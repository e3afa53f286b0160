//! How much memory one input takes: an allocator that counts, for a thread that asks it to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;

/// Passes on to the system, and counts what a thread that measures has at once. A program that fuzzes
/// makes it its global allocator; without that nothing is counted, and nothing fails for it.
pub struct Counting;

/// Bytes at once beyond which the process ends, so that a lying length takes the fuzzer down and not the
/// machine.
const PROCESS_BYTES_MAX: isize = 1 << 30;

thread_local! {
    static WATCHED: Cell<Option<(&'static str, u64)>> = const { Cell::new(None) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Runs `work` for an input of a decoder, and says how many bytes it had at once, at most.
pub(super) fn peak_bytes<T>(
    decoder: &'static str,
    number: u64,
    work: impl FnOnce() -> T,
) -> (T, usize) {
    LIVE.set(0);
    PEAK.set(0);
    WATCHED.set(Some((decoder, number)));
    let done = work();
    WATCHED.set(None);
    (done, usize::try_from(PEAK.get()).unwrap_or(0))
}

fn count(bytes: usize, layout: Layout) {
    // A thread that ends has no counters any more.
    let _ = WATCHED.try_with(|watched| {
        let Some((decoder, number)) = watched.get() else { return };
        let change = isize::try_from(bytes).unwrap_or(isize::MAX);
        let live = LIVE.get().saturating_add(change);
        LIVE.set(live);
        PEAK.set(PEAK.get().max(live));
        if live > PROCESS_BYTES_MAX {
            watched.set(None);
            let bytes = layout.size();
            // Nothing here allocates.
            let _ = writeln!(
                std::io::stderr(),
                "quorate-fuzz: {decoder} asks for {bytes} bytes in input {number}, and has {live} then"
            );
            std::process::abort();
        }
    });
}

fn uncount(bytes: usize) {
    let _ = WATCHED.try_with(|watched| {
        if watched.get().is_some() {
            LIVE.set(LIVE.get().saturating_sub(isize::try_from(bytes).unwrap_or(isize::MAX)));
        }
    });
}

#[expect(unsafe_code, reason = "only an allocator sees how much is asked for before it is written")]
// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), layout);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), layout);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while it is copied.
        count(size, layout);
        uncount(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        uncount(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

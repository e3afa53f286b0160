//! Decoding never allocates on the word of a length prefix alone.
//!
//! A test program of its own, because it counts what the whole process allocates.

use quorate_state::{
    AccessRolePut, AccessTokenCreate, AccessTokenId, Batch, Command, Outcome, codec,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Passes on to the system, and keeps the largest request.
struct Counting;

static LARGEST_BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "only an allocator sees how much is asked for before it is written")]
// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST_BYTES.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST_BYTES.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST_BYTES.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `codec` documents as the most it takes on a prefix's word.
const PREFIX_BYTES_MAX: usize = 16 << 20;

fn largest_while(work: impl FnOnce()) -> usize {
    LARGEST_BYTES.store(0, Ordering::Relaxed);
    work();
    LARGEST_BYTES.load(Ordering::Relaxed)
}

/// A number as bincode writes it: as one byte, or as a tag and eight bytes.
fn number(value: u64) -> Vec<u8> {
    match u8::try_from(value) {
        Ok(small) if small <= 250 => vec![small],
        _ => [&[253][..], &value.to_le_bytes()].concat(),
    }
}

fn encoding(parts: &[&[u8]]) -> Vec<u8> {
    [&[codec::FORMAT, codec::FEATURE_LEVEL][..], &parts.concat()].concat()
}

fn token_create() -> Command {
    Command::AccessTokenCreate(AccessTokenCreate {
        id: AccessTokenId(7),
        hash: Default::default(),
        name: String::new(),
        roles: Vec::new(),
        ttl_ms: None,
    })
}

fn role_put() -> Command {
    Command::AccessRolePut(AccessRolePut { name: String::new(), rules: Vec::new() })
}

/// A variant's place in the enum, of those that are written as one byte.
fn place(command: &Command) -> u8 {
    codec::encode(command)[2]
}

// One test, so that no other one allocates meanwhile.
#[test]
fn length_prefixes_are_not_believed() {
    // Where the lists of access commands are: an id, a hash and a name come before a token's, a name
    // before a role's, and a service before a rule's.
    let (token, role) = (place(&token_create()), place(&role_put()));
    const LENGTHS: [u64; 6] = [1 << 25, 1 << 32, 1 << 40, 1 << 62, u64::MAX - 1, u64::MAX];
    for length in LENGTHS {
        let prefix = number(length);
        // Variants by their place in the enum: 1 is KvSet (its key first), 6 is SessionExpire, 10 is
        // Transaction (its three lists).
        let key = encoding(&[&[1], &prefix, b"k"]);
        let ids = encoding(&[&[6], &prefix, b"\x01\x02"]);
        let conditions = encoding(&[&[10], &prefix, b"\x01\x01k"]);
        let then = encoding(&[&[10, 0], &prefix, b"\x00\x01k"]);
        let otherwise = encoding(&[&[10, 0, 0], &prefix, b"\x00\x01k"]);
        let roles = encoding(&[&[token, 7, 0, 0], &prefix, b"\x01r"]);
        let rules = encoding(&[&[role, 0], &prefix, b"\x00\x00\x00\x00"]);
        let actions = encoding(&[&[role, 0, 1, 0], &prefix, b"\x00\x00"]);
        // Two clocks, then the commands.
        let commands = encoding(&[&[0, 0], &prefix, b"\x00\x00\x00"]);
        // Two clocks, one command, then its namespace.
        let namespace = encoding(&[&[0, 0, 1], &prefix, b"ns"]);
        // Rejected, Invalid, then its text.
        let text = encoding(&[&[0, 1], &prefix, b"text"]);
        let largest = largest_while(|| {
            codec::decode::<Command>(&key).unwrap_err();
            codec::decode::<Command>(&ids).unwrap_err();
            codec::decode::<Command>(&conditions).unwrap_err();
            codec::decode::<Command>(&then).unwrap_err();
            codec::decode::<Command>(&otherwise).unwrap_err();
            codec::decode::<Command>(&roles).unwrap_err();
            codec::decode::<Command>(&rules).unwrap_err();
            codec::decode::<Command>(&actions).unwrap_err();
            codec::decode_batch(&commands).unwrap_err();
            codec::decode_batch(&namespace).unwrap_err();
            codec::decode::<Outcome>(&text).unwrap_err();
        });
        // What serde sets aside for a list of unknown length is at most 1 MiB.
        assert!(largest <= 1 << 20, "a prefix of {length} made decoding ask for {largest} bytes");
    }

    // Within the limit a byte string's prefix is believed, and no further than that.
    let key = encoding(&[&[1], &number(PREFIX_BYTES_MAX as u64 - 64), b"k"]);
    let largest = largest_while(|| {
        codec::decode::<Command>(&key).unwrap_err();
    });
    assert!(largest <= PREFIX_BYTES_MAX, "{largest}");

    // Many small commands stop at the bound on commands, not at the end of the input.
    let count = 500_000;
    let mut ticks = encoding(&[&[0, 0], &number(count)]);
    ticks.extend(std::iter::repeat_n([0, 0, 0], 500_000).flatten());
    let largest = largest_while(|| {
        codec::decode::<Batch>(&ticks).unwrap_err();
    });
    assert!(largest <= 1 << 20, "{largest}");

    // So do many small steps of a transaction.
    let mut steps = encoding(&[&[10, 0], &number(count)]);
    steps.extend(std::iter::repeat_n(*b"\x00\x01k", 500_000).flatten());
    let largest = largest_while(|| {
        codec::decode::<Command>(&steps).unwrap_err();
    });
    assert!(largest <= 1 << 20, "{largest}");
}

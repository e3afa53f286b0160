//! Every bound of the state machine, with its unit and its reason, in one place.
//!
//! Bounds that [`crate::Machine::apply`] checks are constants: they must be the same on every
//! replica, now and when an old log is applied again. [`Limits`] holds those that are checked at
//! the door, before a command is proposed; they are configurable, never above the constants.

use serde::{Deserialize, Serialize};

/// Bytes of a key. Keys stand in tables, indexes and watch events; larger ones belong in values.
pub const KEY_BYTES_MAX: u64 = 1 << 10;
/// Bytes of a value. One entry must fit a peer frame, and be copied without a pause.
pub const VALUE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a namespace's name: its length takes one byte in keys.
pub const NAMESPACE_BYTES_MAX: u64 = 255;
/// Commands in one log entry. Below 2^12, which is what a revision has room for.
pub const ENTRY_COMMANDS_MAX: usize = 512;
/// Encoded bytes of one log entry, unless a single command is larger: keeps one apply, one append
/// and one retransmission short.
pub const ENTRY_BYTES_MAX: usize = 256 << 10;
/// Milliseconds a key may live, ten years: keeps deadlines far from overflow.
pub const TTL_MS_MAX: u64 = 315_360_000_000;
/// Milliseconds a session must live at least: less would not survive one election.
pub const SESSION_TTL_MS_MIN: u64 = 1_000;
/// Milliseconds a session may live without a keep-alive: what it holds stays blocked that long.
pub const SESSION_TTL_MS_MAX: u64 = 3_600_000;
/// Milliseconds a session lives when its client names no ttl.
pub const SESSION_TTL_MS_DEFAULT: u64 = 30_000;
/// Open sessions per group. Each costs a keep-alive every ttl/3, and about 200 bytes of memory;
/// besides about 70 for each answer that its client has not passed with its floor yet, and the
/// newest answers themselves (512 bytes encoded), so up to 80 KiB for one whose client
/// never does.
pub const SESSIONS_MAX: u64 = 100_000;
/// Unanswered sequences per session: bounds what is remembered for one client.
pub const SESSION_WINDOW: u64 = 1_024;
/// Bytes of an encoded answer that is remembered; a larger one is remembered as dropped.
pub const REMEMBERED_ANSWER_BYTES_MAX: usize = 4 << 10;
/// Bytes of a session's row with the answers in it; with more, the newest get a row of their own.
/// Enough for a few callers that share a session, and little to write again with each request.
pub(crate) const SESSION_ROW_BYTES_MAX: usize = 512;
/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: u64 = 64;
/// Milliseconds (lease time) an idempotency key is remembered: longer than any sane retry.
pub const IDEMPOTENCY_TTL_MS: u64 = 600_000;
/// Idempotency keys remembered per group, those that ran out and are not yet swept included:
/// about 200 MiB of disk with answers of usual size.
pub const IDEMPOTENCY_KEYS_MAX: u64 = 1_000_000;
/// Expired items swept per entry, and rows of expired sessions deleted by one before no further
/// session is ended: bounds how long one entry holds up the others. What is expired is invisible
/// before it is swept.
pub const EXPIRE_PER_ENTRY_MAX: usize = 1_000;
/// Bytes of the history of changes that watches resume from: of each event its row, key and value,
/// and [`HISTORY_ROW_BYTES`]. What is older is trimmed by the entries that add to it. While huge
/// events take the place of tiny ones, [`HISTORY_TRIM_ROWS_MAX`] lets it grow beyond for some
/// entries, to less than three times as much in the worst case.
pub const HISTORY_BYTES_MAX: u64 = 64 << 20;
/// Bytes that each event of the history counts for beside its row: what storage keeps with it.
pub const HISTORY_ROW_BYTES: u64 = 64;
/// Events trimmed from the history per entry: as many as one entry can add.
pub const HISTORY_TRIM_ROWS_MAX: usize = 10_000;
/// Selectors of one watch: each event is held against all of them.
pub const WATCH_SELECTORS_MAX: usize = 64;
/// Bytes of all selectors of one watch together: each takes up to 16 bytes of memory.
pub const WATCH_SELECTOR_BYTES_MAX: u64 = 4 << 10;
/// Bytes of a pattern, as of a key: bounds what each subscription or permission keeps in memory
/// (16 bytes for each).
pub const PATTERN_BYTES_MAX: u64 = 1 << 10;
/// Keys deleted by selectors per entry: one batch of table changes holds all of them.
pub const DELETE_PATTERN_KEYS_MAX: usize = 10_000;
/// Steps of the scans of one entry, or of one page of a list: a step is a byte that is read or
/// compared. Tens of milliseconds, in which some ten thousand keys are passed.
pub const SCAN_STEPS_MAX: usize = 16 << 20;
/// Steps that each row costs a scan beside its bytes: to find it takes about as long.
pub const SCAN_ROW_STEPS: usize = 256;
/// Bytes that each item of a list counts for beside its key and value: its numbers.
pub const KV_LIST_ITEM_BYTES: usize = 64;
/// Conditions of a transaction, and operations of each of its branches: it holds up the others
/// while it applies.
pub const TRANSACTION_STEPS_MAX: usize = 128;
/// Bytes of all keys, values, tags, messages and names of locks in a transaction: it has to fit a peer frame, and is
/// applied at once.
pub const TRANSACTION_BYTES_MAX: u64 = 2 << 20;
/// Bytes of the values that one transaction's operations read: they are one answer, and as many
/// as a single value may have. What conditions are held against does not count.
pub const TRANSACTION_READ_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a number's text that `IncrementFloat` reads: the longest it writes has 327.
pub const NUMBER_BYTES_MAX: usize = 1 << 10;
/// Bytes of a lock's name, as of a key.
pub const LOCK_NAME_BYTES_MAX: u64 = 1 << 10;
/// Milliseconds a lock's lease must last at least: a client renews at a third of it.
pub const LOCK_TTL_MS_MIN: u64 = 100;
/// Milliseconds a lock's lease may last, as a session's: it stays blocked that long.
pub const LOCK_TTL_MS_MAX: u64 = SESSION_TTL_MS_MAX;
/// Milliseconds to wait for a lock, one day: a place in a queue is memory.
pub const LOCK_WAIT_MS_MAX: u64 = 86_400_000;
/// Holders of a lock at once: all of them are in one row.
pub const LOCK_HOLDERS_MAX: usize = 1_000;
/// Locks held or waited for per group; each is in memory on every node, in about 500 bytes with
/// its holder.
pub const LOCKS_MAX: u64 = 100_000;
/// Tickets per group: `Acquire`s that wait, and those that waited and are not passed by their
/// sessions' floors yet. Each is in memory on every node, in about 500 bytes.
pub const TICKETS_MAX: u64 = 100_000;
/// What a session owns: locks held, tickets, keys that end with it, and what its consumers may have,
/// or have. All of it goes in one entry.
pub const SESSION_OWNED_MAX: u64 = 4_096;
/// Waiters that one `LockDetachNode` detaches, and one `LockDetach`.
pub const LOCK_DETACH_PER_ENTRY_MAX: usize = 1_000;
/// Bytes of a queue's name, those of its dead letters included: `<name>.dead` is a queue's name, so
/// that other names have 507 bytes at most.
pub const QUEUE_NAME_BYTES_MAX: u64 = 512;
/// Queues per group, each in memory on every node in about 1 KiB.
pub const QUEUES_MAX: u64 = 10_000;
/// Jobs per group, in all queues together, those that were purged and are not deleted yet included.
/// All of them are read when a node starts. Each that is ready is in memory on every node in about
/// 50 bytes, each that a consumer has in about 70, and each in a group in about 350 bytes more.
pub const JOBS_MAX: u64 = 5_000_000;
/// Jobs a queue may be configured to hold.
pub const QUEUE_JOBS_MAX: u64 = JOBS_MAX;
/// Jobs a queue holds when nothing is said.
pub const QUEUE_JOBS_DEFAULT: u64 = 1_000_000;
/// Jobs a queue of dead letters holds when nothing is said; then the oldest ones go.
pub const DEAD_LETTERS_DEFAULT: u64 = 100_000;
/// Bytes of a job's payload, as of a value.
pub const JOB_PAYLOAD_BYTES_MAX: u64 = VALUE_BYTES_MAX;
/// Headers of a job: they are for a handful of names such as those of traces.
pub const JOB_HEADERS_MAX: usize = 64;
/// Bytes of all names and values of a job's headers together.
pub const JOB_HEADER_BYTES_MAX: u64 = 8 << 10;
/// Bytes of a job's content type.
pub const JOB_CONTENT_TYPE_BYTES_MAX: u64 = 255;
/// Bytes of a group key, and of a dedupe key.
pub const JOB_KEY_BYTES_MAX: u64 = 255;
/// Jobs in one push, and jobs that one pull answers.
pub const JOBS_PER_CALL_MAX: usize = 128;
/// Milliseconds a job may be put off, and live, one year: it is in the tables meanwhile.
pub const JOB_DELAY_MS_MAX: u64 = 31_622_400_000;
/// Milliseconds of a visibility timeout at least: less would not survive a failover.
pub const JOB_VISIBILITY_MS_MIN: u64 = 1_000;
/// Milliseconds of a visibility timeout, and of an extension of it, half a day: a job whose worker
/// died is blocked that long.
pub const JOB_VISIBILITY_MS_MAX: u64 = 43_200_000;
/// Deliveries after which a job is a dead letter, at most; the same number counts them.
pub const JOB_ATTEMPTS_MAX: u32 = 1_000_000;
/// Milliseconds between two attempts.
pub const JOB_BACKOFF_MS_MAX: u64 = 86_400_000;
/// Milliseconds a job is kept after it was done, 30 days.
pub const JOB_KEEP_DONE_MS_MAX: u64 = 2_592_000_000;
/// Dedupe keys that are remembered per group, in all queues together: each is two rows, of about 100
/// bytes, and outlives its job. They are counted when a node starts.
pub const DEDUPE_KEYS_MAX: u64 = JOBS_MAX;
/// Milliseconds a dedupe key is remembered, one day.
pub const DEDUPE_WINDOW_MS_MAX: u64 = 86_400_000;
/// Bytes of the text of a failure, or of a note on progress: the rest is cut off.
pub const JOB_NOTE_BYTES_MAX: usize = 1 << 10;
/// Failures of a job that are remembered, the newest ones.
pub const JOB_FAILURES_MAX: usize = 10;
/// Jobs that one consumer may have unacknowledged.
pub const CONSUMER_WINDOW_MAX: u32 = 1_000;
/// Consumers per group, pulls that wait and those answered in the last half minute included: each
/// is in memory on every node in about 300 bytes.
pub const CONSUMERS_MAX: u64 = 100_000;
/// Milliseconds a pull may wait, one hour.
pub const PULL_WAIT_MS_MAX: u64 = 3_600_000;
/// Bytes of what is in jobs, from which on a pull takes no further one: so an answer has about twice
/// as much at most.
pub const PULL_BODY_BYTES_MAX: u64 = 1 << 20;
/// Milliseconds the answer to a pull that waited is kept for a repetition of it: the leases it names
/// don't live long either.
pub const PULL_KEEP_MS: u64 = 30_000;
/// Jobs that one entry delivers; the rest goes with the next ones.
pub const DELIVERIES_PER_ENTRY_MAX: usize = 4_096;
/// Rows of purged jobs that one entry deletes, in the tables and in memory.
pub const PURGE_PER_ENTRY_MAX: usize = 5_000;
/// Dead letters that one entry puts back.
pub const REDRIVE_PER_ENTRY_MAX: u64 = 1_000;
/// Rows that one entry looks at for dead letters to put back.
pub const REDRIVE_STEPS_MAX: usize = 10_000;
/// Consumers that one `ConsumerDetachNode` detaches.
pub const CONSUMER_DETACH_PER_ENTRY_MAX: usize = 1_000;
/// Jobs shown by a peek: they stand in the queue's row, which is written with each entry that
/// touches the queue.
pub const PEEK_MAX: usize = 16;
/// Jobs per unit of time that a rate limit may name.
pub const RATE_JOBS_MAX: u32 = 1_000_000;
/// Milliseconds of that unit of time.
pub const RATE_PER_MS_MAX: u64 = 86_400_000;
/// Schedules per group: so many jobs are kept beside those of the queues.
pub const SCHEDULES_MAX: u64 = 10_000;
/// Bytes of what is in the job of a schedule, which all nodes keep as long as the schedule: 640 MiB
/// for all of them, on disk.
pub const SCHEDULE_JOB_BYTES_MAX: u64 = 64 << 10;
/// Milliseconds between two jobs of a schedule at least: what repeats faster is no schedule.
pub const SCHEDULE_EVERY_MS_MIN: u64 = 1_000;
/// Milliseconds between two jobs of a schedule, and until its first one, ten years.
pub const SCHEDULE_EVERY_MS_MAX: u64 = TTL_MS_MAX;
/// Bytes of the text of a schedule, and of its time zone.
pub const SCHEDULE_TEXT_BYTES_MAX: u64 = 255;
/// Bytes of the cache of a group when nothing is said, as [`CACHE_ENTRY_OVERHEAD_BYTES`] counts them.
/// They are on disk, and as many of them in memory as the page cache holds. A group whose bound was
/// never changed has this one: it may not be another in a later build.
pub const CACHE_BYTES_DEFAULT: u64 = 256 << 20;
/// Bytes that the cache may be configured to: fewer would hold few entries of some size.
pub const CACHE_BYTES_MIN: u64 = 1 << 20;
/// Bytes that the cache may be configured to: more could not be sent to a new node in good time.
pub const CACHE_BYTES_MAX: u64 = 64 << 30;
/// An entry may take one part in so many of the cache: a larger one would drive all others out.
pub const CACHE_ENTRY_SHARE: u64 = 8;
/// Bytes that an entry of the cache counts for beside its key, value and tags: its numbers, and the
/// rows of its deadline and tags.
pub const CACHE_ENTRY_OVERHEAD_BYTES: u64 = 128;
/// Tags of an entry of the cache: each costs a row, and one more is written when it changes.
pub const CACHE_ENTRY_TAGS_MAX: usize = 16;
/// Bytes of a tag: it stands in the key of a row of each of its entries, with a length of one byte.
pub const CACHE_TAG_BYTES_MAX: u64 = 128;
/// Tags that one call invalidates: each is a row.
pub const CACHE_INVALIDATE_TAGS_MAX: usize = 64;
/// Tags per group that entries have, or that were invalidated in the last
/// [`CACHE_BUILD_LEASE_MS_MAX`] while something was built: about 200 MiB of disk.
pub const CACHE_TAGS_MAX: u64 = 1_000_000;
/// Builds of entries of the cache that are under way, per group: one for each key that is missed.
pub const CACHE_BUILDS_MAX: u64 = 100_000;
/// Milliseconds a build's lease must last at least: less would not survive the way to the builder.
pub const CACHE_BUILD_LEASE_MS_MIN: u64 = 100;
/// Milliseconds a build's lease may last: others wait that long for a builder that died.
pub const CACHE_BUILD_LEASE_MS_MAX: u64 = 600_000;
/// Bytes of why a build failed; the rest is cut off.
pub const CACHE_BUILD_ERROR_BYTES_MAX: usize = 1 << 10;
/// Entries that one `CacheEvict` evicts.
pub const CACHE_EVICT_PER_ENTRY_MAX: usize = 1_000;
/// Rows of entries and their tags that one entry of the log deletes because they expired, were
/// invalidated or evicted; each is about three writes.
pub const CACHE_ROWS_PER_ENTRY_MAX: usize = 5_000;
/// Bytes of entries that one entry of the log reads to do that: tens of milliseconds.
pub const CACHE_BYTES_PER_ENTRY_MAX: usize = 16 << 20;
/// Bytes of a channel's name, as of a key.
pub const CHANNEL_BYTES_MAX: u64 = 1 << 10;
/// Bytes of a message's payload, as of a value.
pub const PUBLICATION_PAYLOAD_BYTES_MAX: u64 = VALUE_BYTES_MAX;
/// Bytes of a message's content type.
pub const PUBLICATION_CONTENT_TYPE_BYTES_MAX: u64 = 256;
/// Headers of a message: they are for a handful of names such as those of traces.
pub const PUBLICATION_HEADERS_MAX: usize = 32;
/// Bytes of all names and values of a message's headers together.
pub const PUBLICATION_HEADER_BYTES_MAX: u64 = 8 << 10;
/// Bytes of an address of a member.
pub const ADDRESS_BYTES_MAX: u64 = 255;
/// Bytes of the hash of a join token, and of an access token: SHA-256.
pub const TOKEN_HASH_BYTES: usize = 32;
/// The shortest time a join token holds: somebody has to carry it to another machine.
pub const INVITATION_TTL_MS_MIN: u64 = 1_000;
/// The longest: a week.
pub const INVITATION_TTL_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Join tokens that are valid at once; they are scanned when one is made.
pub const INVITATIONS_MAX: u64 = 100;
/// Changes of members that are planned at once.
pub const MEMBER_PLANS_MAX: u64 = 16;
/// Nodes that a cluster remembers; their rows are scanned when one joins. One that replaces a node a
/// day comes there in ten years.
pub const MEMBERS_EVER_MAX: u64 = 4_096;

/// Bytes of the name of an access token, a role, or the subject of a certificate: they are for people,
/// and a role's stands in the key of a row of each of its holders, with a length of one byte.
pub const ACCESS_NAME_BYTES_MAX: u64 = 128;
/// Access tokens per group, those that ran out and are not yet swept included: all of them are listed
/// at once, in about 3 MiB with usual names.
pub const ACCESS_TOKENS_MAX: u64 = 10_000;
/// Roles per group besides those built in; all of them may be in memory on every node, ready to be held
/// against requests.
pub const ACCESS_ROLES_MAX: u64 = 1_000;
/// Subjects of certificates that have roles, per group, as tokens.
pub const ACCESS_SUBJECTS_MAX: u64 = 10_000;
/// Rules of a role: each request of who has it is held against them one by one.
pub const ACCESS_RULES_PER_ROLE_MAX: usize = 64;
/// Roles of a token or a subject, likewise; and each costs a row.
pub const ACCESS_ROLES_PER_HOLDER_MAX: usize = 16;
/// Actions of a rule: there are no more, and each is named once.
pub const ACCESS_ACTIONS_PER_RULE_MAX: usize = 5;
/// Milliseconds an access token holds at least: it has to reach whoever uses it.
pub const ACCESS_TOKEN_TTL_MS_MIN: u64 = 1_000;
/// Milliseconds an access token holds, ten years, as keys live: what is to hold longer has no ttl.
pub const ACCESS_TOKEN_TTL_MS_MAX: u64 = TTL_MS_MAX;

/// The bounds checked at the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a key, up to [`KEY_BYTES_MAX`].
    pub key_bytes_max: u64,
    /// Bytes of a value, up to [`VALUE_BYTES_MAX`].
    pub value_bytes_max: u64,
    /// Bytes of one request message.
    pub request_bytes_max: u64,
    /// Bytes of proposals on their way; past it new ones are refused with RESOURCE_EXHAUSTED.
    pub proposal_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes_max: KEY_BYTES_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
            request_bytes_max: 2 << 20,
            proposal_bytes_max: 32 << 20,
        }
    }
}

impl Limits {
    /// The bounds as (name, value), for display.
    #[must_use]
    pub fn listed(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("key_bytes_max", self.key_bytes_max),
            ("value_bytes_max", self.value_bytes_max),
            ("request_bytes_max", self.request_bytes_max),
            ("proposal_bytes_max", self.proposal_bytes_max),
            ("namespace_bytes_max", NAMESPACE_BYTES_MAX),
            ("sessions_max", SESSIONS_MAX),
            ("session_window", SESSION_WINDOW),
            ("session_ttl_ms_max", SESSION_TTL_MS_MAX),
            ("ttl_ms_max", TTL_MS_MAX),
            ("idempotency_keys_max", IDEMPOTENCY_KEYS_MAX),
            ("lock_name_bytes_max", LOCK_NAME_BYTES_MAX),
            ("lock_ttl_ms_max", LOCK_TTL_MS_MAX),
            ("lock_wait_ms_max", LOCK_WAIT_MS_MAX),
            ("lock_holders_max", LOCK_HOLDERS_MAX as u64),
            ("locks_max", LOCKS_MAX),
            ("tickets_max", TICKETS_MAX),
            ("session_owned_max", SESSION_OWNED_MAX),
            ("queue_name_bytes_max", QUEUE_NAME_BYTES_MAX),
            ("queues_max", QUEUES_MAX),
            ("jobs_max", JOBS_MAX),
            ("job_payload_bytes_max", JOB_PAYLOAD_BYTES_MAX),
            ("job_header_bytes_max", JOB_HEADER_BYTES_MAX),
            ("jobs_per_call_max", JOBS_PER_CALL_MAX as u64),
            ("job_delay_ms_max", JOB_DELAY_MS_MAX),
            ("job_visibility_ms_max", JOB_VISIBILITY_MS_MAX),
            ("consumer_window_max", CONSUMER_WINDOW_MAX.into()),
            ("schedules_max", SCHEDULES_MAX),
            ("consumers_max", CONSUMERS_MAX),
            ("pull_wait_ms_max", PULL_WAIT_MS_MAX),
            ("pattern_bytes_max", PATTERN_BYTES_MAX),
            ("delete_pattern_keys_max", DELETE_PATTERN_KEYS_MAX as u64),
            ("scan_steps_max", SCAN_STEPS_MAX as u64),
            ("history_bytes_max", HISTORY_BYTES_MAX),
            ("watch_selectors_max", WATCH_SELECTORS_MAX as u64),
            ("watch_selector_bytes_max", WATCH_SELECTOR_BYTES_MAX),
            ("cache_bytes_default", CACHE_BYTES_DEFAULT),
            ("cache_bytes_max", CACHE_BYTES_MAX),
            ("cache_entry_tags_max", CACHE_ENTRY_TAGS_MAX as u64),
            ("cache_tag_bytes_max", CACHE_TAG_BYTES_MAX),
            ("cache_invalidate_tags_max", CACHE_INVALIDATE_TAGS_MAX as u64),
            ("cache_tags_max", CACHE_TAGS_MAX),
            ("cache_builds_max", CACHE_BUILDS_MAX),
            ("cache_build_lease_ms_max", CACHE_BUILD_LEASE_MS_MAX),
            ("channel_bytes_max", CHANNEL_BYTES_MAX),
            ("publication_payload_bytes_max", PUBLICATION_PAYLOAD_BYTES_MAX),
            ("publication_headers_max", PUBLICATION_HEADERS_MAX as u64),
            ("publication_header_bytes_max", PUBLICATION_HEADER_BYTES_MAX),
            ("access_name_bytes_max", ACCESS_NAME_BYTES_MAX),
            ("access_tokens_max", ACCESS_TOKENS_MAX),
            ("access_roles_max", ACCESS_ROLES_MAX),
            ("access_subjects_max", ACCESS_SUBJECTS_MAX),
            ("access_rules_per_role_max", ACCESS_RULES_PER_ROLE_MAX as u64),
            ("access_roles_per_holder_max", ACCESS_ROLES_PER_HOLDER_MAX as u64),
            ("access_token_ttl_ms_max", ACCESS_TOKEN_TTL_MS_MAX),
            ("transaction_steps_max", TRANSACTION_STEPS_MAX as u64),
            ("transaction_bytes_max", TRANSACTION_BYTES_MAX),
            ("transaction_read_bytes_max", TRANSACTION_READ_BYTES_MAX),
        ]
    }
}

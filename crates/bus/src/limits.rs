//! Every bound of the bus, with its unit and its reason, in one place.

/// Bytes of a channel's name, as of a key: one language of patterns speaks of both.
pub const CHANNEL_BYTES_MAX: usize = 1 << 10;
/// Bytes of a selector's text: what [`quorate_state::glob`] takes, and as many as the longest
/// channel has.
pub const SELECTOR_BYTES_MAX: usize = 1 << 10;
/// Bytes of a namespace's name, as everywhere else.
pub const NAMESPACE_BYTES_MAX: usize = 255;
/// Bytes of the name of a queue group: it goes with every message that the group is served.
pub const GROUP_BYTES_MAX: usize = 255;
/// Selectors of one subscription: each is a row at the leader.
pub const SELECTORS_MAX: usize = 64;
/// Bytes of a payload, as of a value: one message must fit a peer frame.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Headers of a message, each of which is copied as often as the message is encoded.
pub const HEADERS_MAX: usize = 64;
/// Bytes of all headers, the content type and the channel to reply to: they are no second payload.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Bytes that each message counts for beside what is in it: its numbers, and its places in queues.
pub const MESSAGE_OVERHEAD_BYTES: usize = 256;
/// Nodes with a link, or with one that may be resumed: a set of them is one word in each message of
/// the ring. Raft clusters are far smaller.
pub const NODES_MAX: usize = 64;
/// Patterns that are neither a channel nor open at one end only, and begin (or end) with the same
/// literal bytes: a match looks at each of them.
pub const ALIKE_MAX: usize = 1_024;

/// Bytes of the messages that the leader keeps for slow and resuming links: a second or two of a
/// loaded cluster.
pub const RING_BYTES_MAX: usize = 16 << 20;
/// Messages that the leader keeps: a link that looks for its own looks through all of them.
pub const RING_MESSAGES_MAX: usize = 1 << 16;
/// Messages of which the leader remembers the channel, for clients that come back: 16 bytes each,
/// beside the names.
pub const JOURNAL_MESSAGES_MAX: usize = 262_144;
/// Bytes of the names in the journal, as if none were shared: long names make it shorter, so that
/// its memory has a bound.
pub const JOURNAL_BYTES_MAX: usize = 32 << 20;
/// Entries of the journal that one question looks at: some milliseconds.
pub const MISSED_MESSAGES_MAX: u64 = 1 << 16;
/// Bytes of names that one such question compares with patterns: the worst patterns compare each
/// name many times.
pub const MISSED_STEPS_MAX: usize = 16 << 20;
/// Channels (and groups) for which a node's losses are counted one by one; with more it only hears
/// that there were some.
pub const LOST_ROWS_MAX: usize = 4_096;
/// Channels in each of the two generations of counters: about 100 bytes each with a usual name.
pub const COUNTERS_MAX: usize = 500_000;
/// Rows of interest of one node, by selector and group.
pub const INTEREST_ROWS_MAX: usize = 1_000_000;
/// Bytes of memory that those take together, about: at the leader, and as many at the node. A million
/// channels or patterns like `user.*` of usual length fit.
pub const INTEREST_BYTES_MAX: usize = 256 << 20;
/// Bytes that a row counts for beside its names: its place in a table.
pub const INTEREST_ROW_BYTES: usize = 100;
/// Bytes that each byte of a pattern counts for that is no channel and not open at one end only: as
/// many as it takes when it is ready to be matched, and the text.
pub const INTEREST_PATTERN_BYTES: usize = 24;
/// Subscriptions of one node.
pub const SUBSCRIPTIONS_MAX: usize = 1_000_000;
/// Rows of one page of an operator's list.
pub const LIST_ROWS_MAX: usize = 1_000;

/// The bounds of a [`crate::Hub`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubLimits {
    /// See [`RING_BYTES_MAX`].
    pub ring_bytes_max: usize,
    /// See [`RING_MESSAGES_MAX`].
    pub ring_messages_max: usize,
    /// See [`JOURNAL_MESSAGES_MAX`].
    pub journal_messages_max: usize,
    /// See [`JOURNAL_BYTES_MAX`].
    pub journal_bytes_max: usize,
    /// See [`MISSED_MESSAGES_MAX`].
    pub missed_messages_max: u64,
    /// See [`LOST_ROWS_MAX`].
    pub lost_rows_max: usize,
    /// See [`COUNTERS_MAX`].
    pub counters_max: usize,
    /// See [`INTEREST_ROWS_MAX`].
    pub interest_rows_max: usize,
    /// See [`INTEREST_BYTES_MAX`].
    pub interest_bytes_max: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            ring_bytes_max: RING_BYTES_MAX,
            ring_messages_max: RING_MESSAGES_MAX,
            journal_messages_max: JOURNAL_MESSAGES_MAX,
            journal_bytes_max: JOURNAL_BYTES_MAX,
            missed_messages_max: MISSED_MESSAGES_MAX,
            lost_rows_max: LOST_ROWS_MAX,
            counters_max: COUNTERS_MAX,
            interest_rows_max: INTEREST_ROWS_MAX,
            interest_bytes_max: INTEREST_BYTES_MAX,
        }
    }
}

/// The bounds of a [`crate::Router`]. What it takes its hub should not refuse: its bounds of interest
/// are not above the hub's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterLimits {
    /// See [`SUBSCRIPTIONS_MAX`].
    pub subscriptions_max: usize,
    /// See [`INTEREST_ROWS_MAX`].
    pub interest_rows_max: usize,
    /// See [`INTEREST_BYTES_MAX`].
    pub interest_bytes_max: usize,
}

impl Default for RouterLimits {
    fn default() -> Self {
        Self {
            subscriptions_max: SUBSCRIPTIONS_MAX,
            interest_rows_max: INTEREST_ROWS_MAX,
            interest_bytes_max: INTEREST_BYTES_MAX,
        }
    }
}

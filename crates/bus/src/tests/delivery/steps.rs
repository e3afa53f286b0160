//! What may happen, at random.

use crate::{OutboxOptions, SlowPolicy};
use proptest::prelude::*;
use std::ops::Range;

pub(super) const NAMESPACES: [&str; 2] = ["", "other"];
pub(super) const CHANNELS: [&str; 7] = ["a", "a.b", "a.b.error", "b", "b.error", "*", "c"];
pub(super) const SELECTORS: [&str; 12] =
    ["a", "a.*", "*", "*.error", "?", "[ab]", "[^a]", r"\*", "a.*error", "*b*", "*.[a-e]rror", "c"];
pub(super) const GROUPS: [&str; 2] = ["workers", "others"];

/// One thing that happens. Numbers are taken modulo whatever there is.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Subscribe {
        node: usize,
        namespace: usize,
        selectors: Vec<usize>,
        group: Option<usize>,
        options: OutboxOptions,
    },
    Unsubscribe {
        subscription: usize,
    },
    Publish {
        namespace: usize,
        channel: usize,
        bytes: usize,
    },
    /// The leader hears of the next change of a node's interest.
    Hear {
        node: usize,
    },
    /// A link takes a part, if it knows that there is one.
    Take {
        node: usize,
        messages: usize,
    },
    /// What a link carries arrives.
    Arrive {
        node: usize,
        frames: usize,
    },
    Read {
        subscription: usize,
        items: usize,
    },
    Break {
        node: usize,
    },
    Link {
        node: usize,
    },
    Forget {
        node: usize,
    },
    /// Another leader.
    Elect,
    /// Somebody asks what was missed.
    Ask {
        namespace: usize,
        selectors: Vec<usize>,
        back: u64,
        length: u64,
    },
}

fn options() -> impl Strategy<Value = OutboxOptions> {
    let policy = prop_oneof![3 => Just(SlowPolicy::DropOldest), 1 => Just(SlowPolicy::Disconnect)];
    (1..6_usize, 500..4_000_usize, policy).prop_map(|(messages_max, bytes_max, policy)| {
        OutboxOptions { messages_max, bytes_max, policy }
    })
}

fn some_selectors() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..SELECTORS.len(), 1..4)
}

pub(super) fn steps(length: Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..4_usize;
    // Most are in one namespace and group, so that they meet.
    let some = || prop_oneof![5 => Just(0_usize), 1 => Just(1)];
    let bytes = prop_oneof![8 => 0..300_usize, 1 => 3_000..5_000_usize];
    let step = prop_oneof![
        12 => (node(), some(), some_selectors(), prop::option::weighted(0.4, some()), options())
            .prop_map(|(node, namespace, selectors, group, options)| Step::Subscribe {
                node, namespace, selectors, group, options
            }),
        4 => (0..64_usize).prop_map(|subscription| Step::Unsubscribe { subscription }),
        40 => (some(), 0..CHANNELS.len(), bytes).prop_map(|(namespace, channel, bytes)| {
            Step::Publish { namespace, channel, bytes }
        }),
        15 => node().prop_map(|node| Step::Hear { node }),
        15 => (node(), 1..5_usize).prop_map(|(node, messages)| Step::Take { node, messages }),
        20 => (node(), 1..4_usize).prop_map(|(node, frames)| Step::Arrive { node, frames }),
        15 => (0..64_usize, 1..5_usize).prop_map(|(subscription, items)| Step::Read {
            subscription, items
        }),
        4 => node().prop_map(|node| Step::Break { node }),
        6 => node().prop_map(|node| Step::Link { node }),
        2 => node().prop_map(|node| Step::Forget { node }),
        1 => Just(Step::Elect),
        5 => (some(), some_selectors(), 0..60_u64, 0..60_u64).prop_map(
            |(namespace, selectors, back, length)| Step::Ask { namespace, selectors, back, length }
        ),
    ];
    prop::collection::vec(step, length)
}

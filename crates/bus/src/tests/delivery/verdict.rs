//! Whether everybody saw what it had to see.

use super::world::{Subscription, World};
use crate::{Gap, Item, Message, Place};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn verdict(&self) -> TestCaseResult {
        for one in &self.subscriptions {
            self.only_what_it_asked_for(one)?;
            if one.group.is_none() {
                self.nothing_lost_silently(one)?;
            }
        }
        self.groups_are_served_once()?;
        self.sequences_have_no_hole_and_never_repeat()
    }

    /// In order, none twice, and each as it was published.
    fn only_what_it_asked_for(&self, one: &Subscription) -> TestCaseResult {
        let mut last = Place::default();
        let mut unknown = 0;
        let mut after_gap = false;
        for item in &one.log {
            match item {
                Item::Message(message) => {
                    prop_assert!(message.place() > last, "{message:?} after {last}");
                    last = message.place();
                    prop_assert!(one.matches(message), "{message:?} was not asked for");
                    prop_assert!(
                        self.published.contains(message),
                        "{message:?} is not as published"
                    );
                    let started = one.start.is_some_and(|start| start < last);
                    prop_assert!(started || one.group.is_some(), "{message:?} came too early");
                    after_gap = false;
                }
                Item::Gap(gap) => {
                    prop_assert!(gap.missed != Some(0), "a gap of nothing");
                    unknown += usize::from(gap.missed.is_none());
                    // One may have been taken when the next came, so two in a row are no mistake.
                    prop_assert!(!after_gap || gap.through > last);
                    after_gap = true;
                }
            }
        }
        prop_assert!(unknown <= one.lapses, "{unknown} unknown gaps, {} allowed", one.lapses);
        Ok(())
    }

    /// Between what it saw there are gaps for all it did not, also behind the last message: up to
    /// where it says that it is.
    pub(super) fn nothing_lost_silently(&self, one: &Subscription) -> TestCaseResult {
        let (Some(start), Some(end)) = (one.start, one.position()) else {
            prop_assert!(one.log.is_empty());
            return Ok(());
        };
        let mut last = start;
        let mut told = Some(0_u64);
        for item in &one.log {
            match item {
                Item::Gap(Gap { missed, through }) => {
                    prop_assert!(*through <= end);
                    told = told.zip(*missed).map(|(a, b)| a + b);
                }
                Item::Message(message) => {
                    let missing = self.missing(one, last, message.place()) - 1;
                    prop_assert!(
                        told.is_none_or(|told| told == missing),
                        "{missing} missing before {message:?}, told {told:?}"
                    );
                    (last, told) = (message.place(), Some(0));
                }
            }
        }
        let missing = self.missing(one, last, end);
        prop_assert!(
            told.is_none_or(|told| told == missing),
            "{missing} missing above {last} up to {end}, told {told:?}"
        );
        Ok(())
    }

    /// How many messages it asked for, above a place and up to another.
    fn missing(&self, one: &Subscription, after: Place, through: Place) -> u64 {
        let between = |message: &&Message| message.place() > after && message.place() <= through;
        self.published.iter().filter(between).filter(|message| one.matches(message)).count() as u64
    }

    fn groups_are_served_once(&self) -> TestCaseResult {
        type Told = (BTreeSet<Place>, u64);
        let mut groups: BTreeMap<(&str, &str), Told> = BTreeMap::new();
        let mut is_exact = self.groups_exact;
        for one in &self.subscriptions {
            let Some(group) = one.group else { continue };
            let (served, missed) = groups.entry((one.namespace, group)).or_default();
            for item in &one.log {
                match item {
                    Item::Message(message) => {
                        let first = served.insert(message.place());
                        prop_assert!(first, "{message:?} was served twice");
                    }
                    Item::Gap(gap) => match gap.missed {
                        Some(some) => *missed += some,
                        None => is_exact = false,
                    },
                }
            }
            // One that was too slow has not told what it was given last.
            is_exact &= !one.is_slow();
        }
        for (group, assigned) in &self.assigned {
            let (served, missed) = groups.remove(group).unwrap_or_default();
            let assigned: BTreeSet<Place> = assigned.iter().map(Message::place).collect();
            prop_assert!(served.is_subset(&assigned));
            if is_exact {
                prop_assert_eq!(served.len() as u64 + missed, assigned.len() as u64);
            }
        }
        Ok(())
    }

    /// Per channel. Counters are few here, so some begin anew: then there is a hole, but no way back.
    fn sequences_have_no_hole_and_never_repeat(&self) -> TestCaseResult {
        let mut last = BTreeMap::new();
        for message in &self.published {
            let channel = (message.epoch(), message.namespace(), message.channel());
            if let Some(before) = last.insert(channel, message.sequence()) {
                prop_assert!(message.sequence() > before);
            }
        }
        Ok(())
    }
}

//! `bus channels`: what is subscribed to.

use super::Bus;
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::kv::call_settings;
use crate::paged::paged;
use futures::Stream;
use quorate_proto::v1::{BusChannelEntry, BusListChannelsRequest};

/// A channel or a pattern that is subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// As it was subscribed to.
    pub pattern: String,
    /// How many subscribe to it outside of queue groups.
    pub subscribers: u64,
    /// On how many nodes, those in groups included.
    pub nodes: u32,
    /// How many queue groups subscribe to it.
    pub queue_groups: u32,
    /// How many subscriptions those groups have together.
    pub members: u64,
    /// Of a channel: the number of its newest message; 0 when there was none in this epoch, and of
    /// patterns.
    pub last_sequence: u64,
}

impl From<BusChannelEntry> for ChannelInfo {
    fn from(entry: BusChannelEntry) -> Self {
        let BusChannelEntry { pattern, subscribers, nodes, queue_groups, last_sequence, members } =
            entry;
        Self { pattern, subscribers, nodes, queue_groups, members, last_sequence }
    }
}

/// A list of channels to be asked for.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when its stream is polled"]
pub struct ListChannels {
    bus: Bus,
    pattern: String,
    options: CallOptions,
}

impl ListChannels {
    pub(super) fn new(bus: Bus, pattern: String) -> Self {
        Self { bus, pattern, options: CallOptions::default() }
    }

    call_settings!();

    /// The channels and patterns, in the order of their bytes, as the leader knows them; page after
    /// page, each as it is then. The time of a call counts for each page.
    pub fn stream(self) -> impl Stream<Item = Result<ChannelInfo, Error>> + Send + use<> {
        paged(move |cursor| {
            let list = self.clone();
            async move { list.page(cursor).await }
        })
    }

    async fn page(&self, cursor: String) -> Result<(Vec<ChannelInfo>, String), Error> {
        let plan = self.bus.inner.plan("bus channels", Effect::Read, &self.options);
        let request = || BusListChannelsRequest {
            namespace: self.bus.namespace.to_string(),
            pattern: self.pattern.clone(),
            cursor: cursor.clone(),
            limit: 0,
        };
        let answer = self.bus.inner.read(&plan, request).await?;
        Ok((answer.channels.into_iter().map(ChannelInfo::from).collect(), answer.cursor))
    }
}

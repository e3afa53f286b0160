//! `bus sub`: how a subscription is asked for, and begun.

use super::subscription::{Begun, Subscription};
use super::{Bus, sent_when_awaited};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::kv::call_settings;
use quorate_proto::v1::{BusOverflow, BusPlace, BusSubscribeRequest};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Patterns of one subscription.
const PATTERNS: RangeInclusive<usize> = 1..=64;
/// Messages that a node keeps for one.
const BUFFER_MESSAGES: RangeInclusive<u32> = 1..=65_536;
/// Bytes that it keeps.
const BUFFER_BYTES: RangeInclusive<u32> = 1_024..=16_777_216;
/// How long going on at another node may take when nothing is said.
const RESUME_TIMEOUT: Duration = Duration::from_secs(60);

/// What happens when a subscription reads more slowly than messages come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest message that waits is dropped, and a gap says how many.
    #[default]
    DropOldest,
    /// The subscription ends with [`Error::ResourceExhausted`], reason `SLOW_SUBSCRIBER`, after what
    /// waits.
    Disconnect,
}

/// A subscription to be begun; it is when this is awaited.
#[derive(Clone, Debug)]
#[must_use = "nothing is subscribed to before it is awaited"]
pub struct Subscribe {
    pub(super) bus: Bus,
    patterns: Vec<String>,
    queue_group: String,
    buffer_messages: Option<u32>,
    buffer_bytes: Option<u32>,
    pub(super) overflow: Overflow,
    resume_timeout: Duration,
    options: CallOptions,
}

impl Subscribe {
    pub(super) fn new(bus: Bus, patterns: Vec<String>) -> Self {
        Self {
            bus,
            patterns,
            queue_group: String::new(),
            buffer_messages: None,
            buffer_bytes: None,
            overflow: Overflow::default(),
            resume_timeout: RESUME_TIMEOUT,
            options: CallOptions::default(),
        }
    }

    call_settings!();

    /// Of all subscriptions of the namespace with the same group, one gets each message; at most 256
    /// bytes. Default: none, and every message comes.
    pub fn queue_group(mut self, group: impl Into<String>) -> Self {
        self.queue_group = group.into();
        self
    }

    /// How many messages wait for it at most, at its node, 1 to 65536; default: 1024.
    pub fn buffer_messages(mut self, messages: u32) -> Self {
        self.buffer_messages = Some(messages);
        self
    }

    /// How many bytes of messages wait for it at most, at its node, 1 KiB to 16 MiB; default: 4 MiB.
    pub fn buffer_bytes(mut self, bytes: u32) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// What happens beyond either; default: [`Overflow::DropOldest`].
    pub fn on_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How long it may take to go on at another node when one fails; default: 60 s, at most 5 min.
    /// ([`Subscribe::timeout`] is how long it may take to begin.)
    pub fn resume_timeout(mut self, timeout: Duration) -> Self {
        self.resume_timeout = timeout;
        self
    }

    /// Begins it; the same as awaiting it. Any message that is published after this has answered, by
    /// whichever node, will come, or be part of a gap.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it has no or more than 64 patterns, or a buffer out of bounds;
    /// otherwise as a read.
    ///
    /// # Cancel safety
    /// When the future is dropped nothing is subscribed to.
    pub async fn start(self) -> Result<Subscription, Error> {
        self.check()?;
        let begun = self.clone().begin(None, self.options.clone(), Duration::ZERO).await?;
        Subscription::new(self, begun)
    }

    async fn send(self) -> Result<Subscription, Error> {
        self.start().await
    }

    fn check(&self) -> Result<(), Error> {
        let count = self.patterns.len();
        if !PATTERNS.contains(&count) {
            let (least, most) = PATTERNS.into_inner();
            return Err(Error::bad_option(format!(
                "the subscription has {count} patterns; it must have {least} to {most}"
            )));
        }
        let buffers = [
            ("buffer_messages", self.buffer_messages, BUFFER_MESSAGES),
            ("buffer_bytes", self.buffer_bytes, BUFFER_BYTES),
        ];
        for (name, value, bounds) in buffers {
            if let Some(value) = value.filter(|value| !bounds.contains(value)) {
                let (least, most) = bounds.into_inner();
                return Err(Error::bad_option(format!(
                    "{name} is {value}; it must be {least} to {most}"
                )));
            }
        }
        Ok(())
    }

    /// Goes on behind a place at another node, after a pause; without one it begins anew.
    pub(super) async fn go_on(
        self,
        place: Option<BusPlace>,
        pause: Duration,
    ) -> Result<Begun, Error> {
        let timeout = Some(self.resume_timeout);
        let options = CallOptions { timeout, ..self.options.clone() };
        self.begin(place, options, pause).await
    }

    async fn begin(
        self,
        resume: Option<BusPlace>,
        options: CallOptions,
        pause: Duration,
    ) -> Result<Begun, Error> {
        tokio::time::sleep(pause).await;
        let inner = &self.bus.inner;
        let overflow = match self.overflow {
            Overflow::DropOldest => BusOverflow::DropOldest,
            Overflow::Disconnect => BusOverflow::Disconnect,
        };
        let request = BusSubscribeRequest {
            namespace: self.bus.namespace.to_string(),
            patterns: self.patterns,
            queue_group: self.queue_group,
            // 0 leaves it to the cluster.
            buffer_messages: self.buffer_messages.unwrap_or(0),
            buffer_bytes: self.buffer_bytes.unwrap_or(0),
            overflow: overflow.into(),
            resume,
        };
        let plan = inner.plan("bus sub", Effect::Read, &options);
        Ok(inner.engine.open_bus(&plan, request).await?)
    }
}

sent_when_awaited!(Subscribe => Subscription);

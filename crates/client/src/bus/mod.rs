//! The message bus: publish and subscribe with patterns, queue groups, requests that are answered.

mod channels;
mod content;
mod message;
mod publish;
mod publish_all;
mod reply;
mod request;
mod respond;
mod subscribe;
mod subscription;

pub use channels::{ChannelInfo, ListChannels};
pub use content::Content;
pub use message::{BusEvent, Message};
pub use publish::{Publish, Published};
pub use publish_all::PublishAll;
pub use reply::Reply;
pub use request::Request;
pub use respond::{Respond, RespondError, Responder, ResponderCounts};
pub use subscribe::{Overflow, Subscribe};
pub use subscription::Subscription;

use crate::Error;
use crate::client::Inner;
use crate::queue::sent_when_awaited;
use bytes::Bytes;
use serde::Serialize;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// The message bus of one namespace. Cheap to clone.
///
/// A message goes to whoever subscribes at that moment, at most once; it is not stored. What must
/// not be lost belongs into a [`Queue`](crate::Queue), or a key that is
/// [watched](crate::KeyValue::watch). All subscribers see the same order, and where messages are
/// missing they are told so.
///
/// ```no_run
/// # use quorate_client::{BusEvent, Client, Content, Error};
/// # use std::time::Duration;
/// # async fn example(client: Client) -> Result<(), Error> {
/// let bus = client.bus();
/// let mut users = bus.subscribe(["user.*"]).await?;
/// bus.publish("user.created", r#"{"id": 17}"#).content_type("application/json").await?;
/// while let Some(event) = users.next().await {
///     match event? {
///         BusEvent::Message(message) => println!("{}: {:?}", message.channel, message.payload),
///         // Read again what the messages are about.
///         BusEvent::Gap { missed, .. } => println!("missed {missed:?} messages"),
///         _ => {}
///     }
/// }
///
/// // Of all responders of a group, one gets each request.
/// let responder = bus
///     .respond("sum", "adders", |message| async move {
///         let numbers: Vec<i64> = message.json()?;
///         Ok(Content::of_json(&numbers.iter().sum::<i64>())?)
///     })
///     .start()
///     .await?;
/// match bus.request("sum", "[1, 2]").timeout(Duration::from_secs(1)).await {
///     Ok(sum) => println!("{}", sum.json::<i64>()?),
///     Err(Error::NoSubscribers { .. }) => println!("nobody adds"),
///     Err(Error::NoReply { .. }) => println!("whoever adds is slow"),
///     Err(error) => return Err(error),
/// }
/// responder.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
    namespace: Arc<str>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Bus {
    pub(crate) fn new(inner: Arc<Inner>, namespace: Arc<str>) -> Self {
        Self { inner, namespace }
    }

    /// Publishes a message to a channel, whose name has 1 to 1024 bytes, without wildcards: `*` is a
    /// byte as any other here. See [`Publish`].
    pub fn publish(&self, channel: impl Into<String>, content: impl Into<Content>) -> Publish {
        Publish::new(self.clone(), channel.into(), content.into())
    }

    /// Publishes messages, each with its channel, with one call: all of them or none, 1 to 1024 of
    /// 1 MiB together. See [`PublishAll`].
    pub fn publish_all<T: Into<String>, C: Into<Content>>(
        &self,
        messages: impl IntoIterator<Item = (T, C)>,
    ) -> PublishAll {
        let messages = messages.into_iter();
        let messages = messages.map(|(channel, content)| (channel.into(), content.into()));
        PublishAll::new(self.clone(), messages)
    }

    /// As [`Bus::publish`], of a value written as JSON.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_SERIALIZABLE` when the value can't be JSON.
    pub fn publish_json(
        &self,
        channel: impl Into<String>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<Publish, Error> {
        Ok(self.publish(channel, Content::of_json(value)?))
    }

    /// Publishes a message and waits for the first answer to it; see [`Request`].
    pub fn request(&self, channel: impl Into<String>, content: impl Into<Content>) -> Request {
        Request::new(self.clone(), channel.into(), content.into())
    }

    /// As [`Bus::request`], of a value written as JSON.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_SERIALIZABLE` when the value can't be JSON.
    pub fn request_json(
        &self,
        channel: impl Into<String>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<Request, Error> {
        Ok(self.request(channel, Content::of_json(value)?))
    }

    /// Subscribes to channels, or patterns of them, 1 to 64, as in [`crate::KeyValue::list`]:
    /// `user.*` has `user.created` and also `user.profile.updated`. A message that several of them
    /// match comes once. See [`Subscription`].
    pub fn subscribe<P: Into<String>>(&self, patterns: impl IntoIterator<Item = P>) -> Subscribe {
        Subscribe::new(self.clone(), patterns.into_iter().map(Into::into).collect())
    }

    /// Answers a message of which only [`Message::reply_to`] is known. A [`Message`] has its own
    /// [`Message::reply`].
    pub fn reply(&self, reply_to: impl Into<Bytes>, content: impl Into<Content>) -> Reply {
        Reply::new(self.clone(), reply_to.into(), content.into())
    }

    /// Has a function answer what is requested on the channels that match a pattern, together with
    /// all others that do so in the same queue group; see [`Respond`].
    pub fn respond<F, R>(
        &self,
        pattern: impl Into<String>,
        group: impl Into<String>,
        handler: F,
    ) -> Respond<F>
    where
        F: Fn(Message) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Content, RespondError>> + Send + 'static,
    {
        Respond::new(self.clone(), pattern.into(), group.into(), handler)
    }

    /// The channels and patterns that are subscribed to, those whose own text a pattern matches: `*`
    /// for all.
    pub fn channels(&self, pattern: impl Into<String>) -> ListChannels {
        ListChannels::new(self.clone(), pattern.into())
    }
}

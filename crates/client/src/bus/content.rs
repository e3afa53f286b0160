//! What is sent: a payload, and what goes with it.

use crate::Error;
use bytes::Bytes;
use quorate_proto::v1::{BusContent, BusHeader};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The content type of what is written as JSON.
const JSON: &str = "application/json";

/// A payload, and what goes with it. Made of anything that is bytes.
///
/// ```
/// use quorate_client::Content;
///
/// let plain = Content::from("hello");
/// let typed = Content::new("{}").content_type("application/json").header("trace", "17");
/// assert_eq!((plain.header_value("trace"), typed.header_value("trace")), (None, Some("17")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Content {
    /// At most 1 MiB.
    pub payload: Bytes,
    /// Of the payload, such as `application/json`; at most 256 bytes. Empty when nothing was said.
    pub content_type: String,
    /// Names and values, in the order in which they were added; a name may come again.
    pub headers: Vec<(String, String)>,
}

/// What can be said of a payload that is sent, on whatever holds its content.
macro_rules! content_settings {
    ($($content:ident)?) => {
        /// Of the payload, such as `application/json`; at most 256 bytes.
        pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
            self$(.$content)?.content_type = content_type.into();
            self
        }

        /// Goes with it; at most 32, of 8 KiB together, with names of 1 to 256 bytes and values of at
        /// most 4 KiB. A name may come again.
        pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self$(.$content)?.headers.push((name.into(), value.into()));
            self
        }
    };
}
pub(super) use content_settings;

impl Content {
    /// With this payload, of at most 1 MiB.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// A value written as JSON, with the content type of that.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_SERIALIZABLE` when the value can't be JSON.
    pub fn of_json(value: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        let json = serde_json::to_vec(value).map_err(|error| Error::InvalidArgument {
            reason: "NOT_SERIALIZABLE".to_owned(),
            message: format!("the value can't be written as JSON: {error}"),
        })?;
        Ok(Self::new(json).content_type(JSON))
    }

    content_settings!();

    /// The first header of this name.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&str> {
        header_value(&self.headers, name)
    }

    /// The payload, read as JSON, whatever its content type.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `NOT_THE_TYPE` when it is not JSON of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json(&self.payload)
    }

    pub(crate) fn into_wire(self) -> BusContent {
        let header = |(name, value)| BusHeader { name, value };
        BusContent {
            payload: self.payload,
            content_type: self.content_type,
            headers: self.headers.into_iter().map(header).collect(),
        }
    }

    /// What comes without any content has an empty one.
    pub(crate) fn of(wire: Option<BusContent>) -> Self {
        let BusContent { payload, content_type, headers } = wire.unwrap_or_default();
        let headers = headers.into_iter().map(|header| (header.name, header.value)).collect();
        Self { payload, content_type, headers }
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(payload: T) -> Self {
        Self::new(payload)
    }
}

pub(super) fn header_value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(named, _)| named == name).map(|(_, value)| value.as_str())
}

pub(super) fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|error| Error::InvalidArgument {
        reason: "NOT_THE_TYPE".to_owned(),
        message: format!(
            "the payload is no {}: {error}; read it as bytes, or under another type",
            std::any::type_name::<T>()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_comes() {
        let sent = Content::new("p").content_type("t").header("a", "1").header("a", "2");
        assert_eq!(Content::of(Some(sent.clone().into_wire())), sent);
        assert_eq!(sent.header_value("a"), Some("1"));
        assert_eq!(Content::of(None), Content::default());
    }

    #[test]
    fn json_is_written_and_read() {
        let content = Content::of_json(&vec![1, 2]).expect("it is JSON");
        assert_eq!(content, Content::new("[1,2]").content_type("application/json"));
        assert_eq!(content.json::<Vec<u8>>(), Ok(vec![1, 2]));
        let wrong = content.json::<String>().expect_err("it is a list");
        assert_eq!(wrong.reason(), "NOT_THE_TYPE");
        let no_key = std::collections::BTreeMap::from([((1, 2), 3)]);
        let wrong = Content::of_json(&no_key).expect_err("a key is text");
        assert_eq!(wrong.reason(), "NOT_SERIALIZABLE");
    }
}

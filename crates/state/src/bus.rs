//! The bus, as far as the state machine knows it: messages that transactions publish.

use crate::limits::{
    CHANNEL_BYTES_MAX, PUBLICATION_CONTENT_TYPE_BYTES_MAX, PUBLICATION_HEADER_BYTES_MAX,
    PUBLICATION_HEADERS_MAX, PUBLICATION_PAYLOAD_BYTES_MAX,
};
use crate::scope::{Scope, within};
use crate::{Event, Publication, Rejection};

/// Whether a message may be published, in a transaction or outside of one.
///
/// # Errors
/// When it has no channel, or one of its parts is too large.
pub fn check_publication(publication: &Publication) -> Result<(), Rejection> {
    let Publication { channel, payload, content_type, headers } = publication;
    if channel.is_empty() {
        return Err(Rejection::Invalid(
            "the channel is empty; name one of 1 byte or more".to_owned(),
        ));
    }
    within("channel bytes", channel.len(), CHANNEL_BYTES_MAX)?;
    within("payload bytes", payload.len(), PUBLICATION_PAYLOAD_BYTES_MAX)?;
    within("content type bytes", content_type.len(), PUBLICATION_CONTENT_TYPE_BYTES_MAX)?;
    within("headers of a message", headers.len(), PUBLICATION_HEADERS_MAX as u64)?;
    within("header bytes", publication.header_bytes(), PUBLICATION_HEADER_BYTES_MAX)
}

/// Changes no table. The event is taken back with the transaction, if that is refused.
pub(crate) fn publish(
    scope: &mut Scope<'_>,
    namespace: &str,
    publication: &Publication,
) -> Result<(), Rejection> {
    check_publication(publication)?;
    let (namespace, publication) = (namespace.to_owned(), publication.clone());
    scope.events.push(Event::Published { namespace, publication });
    Ok(())
}

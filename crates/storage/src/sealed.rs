//! Small files of ours: an encoded value and a checksum behind it.

use quorate_state::codec;
use serde::{Serialize, de::DeserializeOwned};

/// The content of a file that holds `value`.
pub(crate) fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let mut content = codec::encode(value);
    let crc = crc32c::crc32c(&content);
    content.extend_from_slice(&crc.to_be_bytes());
    content
}

/// The value in a file's content; the error says what is wrong with it.
pub(crate) fn open<T: DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    let Some((encoded, stored)) = content.split_last_chunk::<4>() else {
        return Err(format!("{} bytes are too few", content.len()));
    };
    let (stored, computed) = (u32::from_be_bytes(*stored), crc32c::crc32c(encoded));
    if stored != computed {
        return Err(format!("checksum mismatch: stored {stored:08x}, computed {computed:08x}"));
    }
    codec::decode(encoded).map_err(|error| error.to_string())
}

//! What the identity file says, and how: a few lines of JSON with a checksum.

use crate::Error;
use crate::files::{read_small, replace_file};
use quorate_state::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use uuid::Uuid;

/// Layout of a data directory.
const FORMAT: u32 = 1;
/// Name of the identity file.
pub(super) const IDENTITY: &str = "identity.json";
/// Name of the checksum in the identity file.
const CHECKSUM: &str = "crc32c";
/// Bytes of an identity file, at most.
const IDENTITY_BYTES_MAX: u64 = 4 << 10;

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Layout of the directory.
    pub format: u32,
    /// The cluster, once the node has become part of one.
    pub cluster_id: Option<String>,
    /// The node.
    pub node_id: NodeId,
    /// Random, made with the directory: tells it from another one of the same node id.
    pub uuid: Uuid,
    /// It was made to join a cluster and must not found one. Its node id is 0 until the cluster has
    /// given it one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub joins: bool,
    /// The cluster that has given it its node id, and does not have it as a member yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joining: Option<String>,
    /// The node was removed from its cluster.
    #[serde(default, skip_serializing_if = "is_false")]
    pub left: bool,
}

impl Identity {
    pub(super) fn new(node_id: NodeId, uuid: Uuid) -> Self {
        Self {
            format: FORMAT,
            cluster_id: None,
            node_id,
            uuid,
            joins: false,
            joining: None,
            left: false,
        }
    }
}

// The signature is the one serde calls.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

pub(super) fn read(path: &Path) -> Result<Option<Identity>, Error> {
    let content = read_small(&path.join(IDENTITY), IDENTITY_BYTES_MAX)?;
    content.map(|content| parse(path, &content)).transpose()
}

/// The identity in the content of the file of the directory `path`.
pub(crate) fn parse(path: &Path, content: &[u8]) -> Result<Identity, Error> {
    let file = path.join(IDENTITY);
    /// All that is read of a layout that may be another one.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let corrupt = |error: serde_json::Error| Error::Corrupt {
        location: file.display().to_string(),
        reason: error.to_string(),
    };
    let Format { format } = serde_json::from_slice(content).map_err(corrupt)?;
    if format != FORMAT {
        return Err(Error::Identity(format!(
            "directory {} has format {format}, this version reads format {FORMAT}: run the \
             version that wrote it. If that is this one, its {IDENTITY} is damaged",
            path.display()
        )));
    }
    let mut fields: serde_json::Map<String, Value> =
        serde_json::from_slice(content).map_err(corrupt)?;
    // None in a file that an earlier version has written. A flipped bit does not take it away, but
    // makes a field of it that is unknown.
    let stored = fields.remove(CHECKSUM);
    let identity =
        serde_json::from_value(Value::Object(fields)).map_err(|error| Error::Corrupt {
            location: file.display().to_string(),
            reason: format!("{error}: it is damaged, or a newer version wrote it"),
        })?;
    let computed = checksum(&identity)?;
    match stored {
        Some(stored) if stored != computed => Err(Error::Corrupt {
            location: file.display().to_string(),
            reason: format!("checksum mismatch: stored {stored}, computed \"{computed}\""),
        }),
        _ => Ok(identity),
    }
}

/// The content of the file.
#[derive(Serialize)]
struct Sealed<'i> {
    #[serde(flatten)]
    identity: &'i Identity,
    /// In hexadecimal. Its name is [`CHECKSUM`].
    crc32c: String,
}

/// The checksum of what the file says, not of how it is written down.
fn checksum(identity: &Identity) -> Result<String, Error> {
    let content = serde_json::to_vec(identity).map_err(|error| not_encoded(&error))?;
    Ok(format!("{:08x}", crc32c::crc32c(&content)))
}

fn not_encoded(error: &serde_json::Error) -> Error {
    Error::Invariant(format!("an identity does not encode: {error}"))
}

pub(super) fn write(path: &Path, identity: &Identity) -> Result<(), Error> {
    replace_file(&path.join(IDENTITY), &encode(identity)?)
}

/// The content of the file of a directory with this identity.
pub(crate) fn encode(identity: &Identity) -> Result<Vec<u8>, Error> {
    let sealed = Sealed { identity, crc32c: checksum(identity)? };
    let mut content = serde_json::to_vec_pretty(&sealed).map_err(|error| not_encoded(&error))?;
    content.push(b'\n');
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories made by one version are opened by the next: these bytes never change.
    #[test]
    fn bytes_are_frozen() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let uuid = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
        let mut identity = Identity::new(NodeId(2), uuid);
        let new = r#"{
  "format": 1,
  "cluster_id": null,
  "node_id": 2,
  "uuid": "01234567-89ab-4def-8123-456789abcdef"
}
"#;
        let of_cluster = new.replace("null", r#""c-1""#);
        for (content, sum) in [(new, "a9f54733"), (&of_cluster, "43da514d")] {
            write(dir.path(), &identity).expect("written");
            let path = dir.path().join(IDENTITY);
            let written = std::fs::read_to_string(&path).expect("readable");
            let sealed = content.replace("\"\n}", &format!("\",\n  \"crc32c\": \"{sum}\"\n}}"));
            assert_eq!(written, sealed);
            assert_eq!(read(dir.path()).expect("readable"), Some(identity.clone()));
            // What earlier versions wrote.
            std::fs::write(&path, content).expect("written");
            assert_eq!(read(dir.path()).expect("readable"), Some(identity.clone()));
            identity.cluster_id = Some(String::from("c-1"));
        }
    }

    /// Each bit: the file is refused and named, or it still says the same.
    #[test]
    fn every_flipped_bit_is_told_or_changes_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let identity = Identity {
            format: FORMAT,
            cluster_id: Some(String::from("00f1")),
            node_id: NodeId(2),
            uuid: Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef),
            joins: true,
            joining: Some(String::from("00f1")),
            left: false,
        };
        write(dir.path(), &identity).expect("written");
        let path = dir.path().join(IDENTITY);
        let content = std::fs::read(&path).expect("readable");
        let mut told = 0;
        for bit in 0..content.len() * 8 {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &damaged).expect("written");
            match read(dir.path()) {
                Ok(found) => assert_eq!(found, Some(identity.clone()), "bit {bit}"),
                Err(error) => {
                    told += 1;
                    assert!(error.to_string().contains(IDENTITY), "bit {bit}: {error}");
                }
            }
        }
        assert!(told > content.len() * 7, "only {told} were told");
    }
}

//! Random protobuf messages of any kind there is, made from the descriptors: whatever is added to the
//! protocol is fuzzed without a line of code.

use super::rng::Rng;
use super::world::world;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{FieldDescriptorProto, FileDescriptorSet};
use quorate_proto::DESCRIPTORS;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Messages within messages, at most: below that only what is not repeated.
const DEPTH_MAX: usize = 6;

struct Field {
    number: u32,
    name: String,
    kind: Type,
    /// Of a message: which.
    message: String,
    repeated: bool,
    /// Which of the message's choices it is in, of which one is made.
    choice: Option<i32>,
}

fn kinds() -> &'static BTreeMap<String, Vec<Field>> {
    static KINDS: OnceLock<BTreeMap<String, Vec<Field>>> = OnceLock::new();
    KINDS.get_or_init(|| {
        let files = FileDescriptorSet::decode(DESCRIPTORS).expect("the build made the descriptors");
        let mut kinds = BTreeMap::new();
        for file in &files.file {
            let mut messages: Vec<_> = file
                .message_type
                .iter()
                .map(|message| (format!(".{}.{}", file.package(), message.name()), message))
                .collect();
            while let Some((name, message)) = messages.pop() {
                let nested = message.nested_type.iter();
                messages.extend(nested.map(|inner| (format!("{name}.{}", inner.name()), inner)));
                kinds.insert(name, message.field.iter().map(field).collect());
            }
        }
        kinds
    })
}

fn field(field: &FieldDescriptorProto) -> Field {
    Field {
        number: u32::try_from(field.number()).expect("fields are numbered from 1"),
        name: field.name().to_owned(),
        kind: field.r#type(),
        message: field.type_name().to_owned(),
        repeated: field.label() == Label::Repeated,
        choice: field.oneof_index,
    }
}

/// A message of a kind, such as `quorate.v1.SetRequest`.
///
/// # Panics
/// When there is no such kind.
pub(super) fn message(rng: &mut Rng, kind: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(rng, &mut bytes, &format!(".{kind}"), 0);
    bytes
}

fn write(rng: &mut Rng, to: &mut Vec<u8>, kind: &str, depth: usize) {
    let fields = kinds().get(kind).unwrap_or_else(|| panic!("there is no message {kind}"));
    let mut chosen: BTreeMap<i32, u32> = BTreeMap::new();
    for choice in fields.iter().filter_map(|field| field.choice) {
        chosen.entry(choice).or_insert_with(|| {
            let of: Vec<_> = fields.iter().filter(|field| field.choice == Some(choice)).collect();
            rng.pick(&of).number
        });
    }
    for field in fields {
        let wanted = match field.choice {
            Some(choice) => chosen.get(&choice) == Some(&field.number) && !rng.one_in(16),
            None => !rng.one_in(4),
        };
        let times = match (wanted, field.repeated) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) if depth >= DEPTH_MAX => 0,
            (true, true) if rng.one_in(256) => rng.below(100),
            (true, true) => rng.below(4),
        };
        for _ in 0..times {
            value(rng, to, field, depth);
        }
    }
}

fn value(rng: &mut Rng, to: &mut Vec<u8>, field: &Field, depth: usize) {
    let tag = |wire: u64| u64::from(field.number) << 3 | wire;
    match field.kind {
        Type::Message | Type::Group => {
            let mut inner = Vec::new();
            if depth < DEPTH_MAX {
                write(rng, &mut inner, &field.message, depth + 1);
            }
            delimited(to, tag(2), &inner);
        }
        Type::String => {
            let text = text(rng, &field.name);
            delimited(to, tag(2), text.as_bytes());
        }
        Type::Bytes => {
            let bytes = bytes(rng, &field.name);
            delimited(to, tag(2), &bytes);
        }
        Type::Double => {
            varint(to, tag(1));
            let number = *rng.pick(&[0.0, 0.5, -1e300, f64::MAX, f64::NAN, f64::INFINITY]);
            to.extend(number.to_le_bytes());
        }
        Type::Fixed64 | Type::Sfixed64 => {
            varint(to, tag(1));
            to.extend(number(rng, &field.name).to_le_bytes());
        }
        Type::Float | Type::Fixed32 | Type::Sfixed32 => {
            varint(to, tag(5));
            to.extend(&number(rng, &field.name).to_le_bytes()[..4]);
        }
        Type::Bool => {
            varint(to, tag(0));
            varint(to, (!rng.one_in(3)).into());
        }
        Type::Enum => {
            varint(to, tag(0));
            let most = if rng.one_in(16) { 100 } else { 4 };
            let value = rng.below(most);
            varint(to, value as u64);
        }
        Type::Int64 | Type::Uint64 | Type::Int32 | Type::Uint32 | Type::Sint32 | Type::Sint64 => {
            varint(to, tag(0));
            varint(to, number(rng, &field.name));
        }
    }
}

fn delimited(to: &mut Vec<u8>, tag: u64, bytes: &[u8]) {
    varint(to, tag);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}

/// What goes well with the name of a field more often than not, so that checks are passed that come late.
fn text(rng: &mut Rng, name: &str) -> String {
    if rng.one_in(12) {
        let most = if rng.one_in(8) { 2_000 } else { 8 };
        let count = rng.below(most);
        let letters = ["a", "*", "[", "]", "\\", ".", "?", "-", "0", "é", "\u{0}", "語", " "];
        return (0..count).map(|_| *rng.pick(&letters)).collect();
    }
    let usual: &[&str] = match name {
        "namespace" => &["shop", "shop", "", "other"],
        "queue" => &["mail", "mail", "mail.dead", "other"],
        "name" | "schedule" => &["nightly", "leader", "nightly"],
        "channel" => &["user.created", "user.updated", "a"],
        "pattern" | "patterns" => &["user.*", "*", "*.created", "user.[a-c]?", r"a\*b", "a"],
        "queue_group" | "queue_groups" => &["group", "group", ""],
        "text" => &["0 6 * * MON-FRI", "*/30 * * * * *", "@daily", "0 0 29 2 *"],
        "time_zone" => &["", "Europe/Berlin", "Asia/Tokyo"],
        "reason" => &["NOT_LEADER", "LOCK_LOST", "CONDITION_FAILED", "NO_REPLY"],
        "cluster_id" => &["c-1", "c-1", ""],
        "peer_addr" | "client_addr" | "http_addr" => &["127.0.0.1:8812", "node-1:8812"],
        "tags" | "tag" => &["price", "user", "price"],
        _ => &["", "a", "key", "user.created", "000012.sst", "CURRENT"],
    };
    (*rng.pick(usual)).to_owned()
}

fn bytes(rng: &mut Rng, name: &str) -> Vec<u8> {
    if rng.one_in(16) {
        let most = if rng.one_in(8) { 2_000 } else { 40 };
        let count = rng.below(most);
        return rng.bytes(count);
    }
    match name {
        "commands" => rng.pick(&world().batches).clone(),
        "command" => rng.pick(&world().envelopes).clone(),
        "outcome" => rng.pick(&world().outcomes).clone(),
        "uuid" | "from_uuid" | "to_uuid" => vec![rng.byte(); 16],
        "key" | "keys" => rng.pick(&[&b"key"[..], b"a", b"user.1"]).to_vec(),
        "reply_to" => b"1.5eed.7".to_vec(),
        "pattern" => rng.pick(&[&b"user.*"[..], b"*", b"k[a-f]?"]).to_vec(),
        "cursor" | "idempotency_key" | "group" | "dedupe_key" => {
            rng.pick(&[&b""[..], b"", b"key"]).to_vec()
        }
        _ => rng.pick(&[&b""[..], b"7", b"0.25", b"value", b"{\"a\":1}"]).to_vec(),
    }
}

fn number(rng: &mut Rng, name: &str) -> u64 {
    if rng.one_in(12) {
        return *rng.pick(&[u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 53, 1 << 32, 65_536, 4_096]);
    }
    if name.ends_with("_ms") {
        return *rng.pick(&[0, 1, 1_000, 30_000, 60_000, 3_600_000]);
    }
    match name {
        "group_id" | "consistency" | "min_revision" => 0,
        // One each, so that they agree with each other.
        "session_id" | "floor" | "sequence" | "epoch" | "term" => 1,
        _ => rng.below(5) as u64,
    }
}

//! What was released stays on the wire: every service, message, field and value that is frozen in
//! `tests/compat/wire.txt` is there, with the same number and type. What is new is free until it is
//! frozen, which `scripts/freeze-data` does at each release (`UPDATE_WIRE=1` adds it to the file).

use super::workspace::root;
use super::{assert_found, assert_none};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;
use std::fs;

const FILE: &str = "tests/compat/wire.txt";

/// What a declaration is called, and what must not change of it.
type Declared = BTreeMap<String, String>;

fn declared(descriptors: &[u8]) -> Declared {
    let set = FileDescriptorSet::decode(descriptors).expect("the descriptors are well-formed");
    let mut found = Declared::new();
    for file in &set.file {
        let package = file.package();
        for message in &file.message_type {
            add_message(&mut found, package, message);
        }
        for values in &file.enum_type {
            add_enum(&mut found, package, values);
        }
        for service in &file.service {
            for method in &service.method {
                let stream = |is: bool| if is { "stream " } else { "" };
                let what = format!(
                    "({}{}) returns ({}{})",
                    stream(method.client_streaming()),
                    type_name(method.input_type()),
                    stream(method.server_streaming()),
                    type_name(method.output_type())
                );
                let name = format!("{package}.{}.{}", service.name(), method.name());
                found.insert(name, what);
            }
        }
    }
    found
}

fn add_message(found: &mut Declared, scope: &str, message: &DescriptorProto) {
    let scope = format!("{scope}.{}", message.name());
    found.insert(scope.clone(), "message".to_owned());
    for field in &message.field {
        found.insert(format!("{scope}.{}", field.name()), field_as(message, field));
    }
    for nested in &message.nested_type {
        add_message(found, &scope, nested);
    }
    for values in &message.enum_type {
        add_enum(found, &scope, values);
    }
}

fn field_as(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Message | Type::Enum => type_name(field.type_name()).to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    let label = match field.label() {
        Label::Repeated => "repeated ",
        _ if field.proto3_optional() => "optional ",
        _ => "",
    };
    // Of an optional field protobuf makes one of its own.
    let of = match field.oneof_index {
        Some(index) if !field.proto3_optional() => {
            let index = usize::try_from(index).expect("an index is not negative");
            format!(" in {}", message.oneof_decl[index].name())
        }
        _ => String::new(),
    };
    format!("{} {label}{kind}{of}", field.number())
}

fn add_enum(found: &mut Declared, scope: &str, values: &EnumDescriptorProto) {
    for value in &values.value {
        let name = format!("{scope}.{}.{}", values.name(), value.name());
        found.insert(name, value.number().to_string());
    }
}

fn type_name(name: &str) -> &str {
    name.trim_start_matches('.')
}

fn parsed(text: &str) -> Declared {
    let lines = text.lines().map(|line| {
        let (name, what) = line.split_once(" = ").expect("a line is a name and what it is");
        (name.to_owned(), what.to_owned())
    });
    lines.collect()
}

fn breaches(frozen: &Declared, now: &Declared) -> Vec<String> {
    let changed = frozen.iter().filter_map(|(name, before)| match now.get(name) {
        Some(found) if found == before => None,
        Some(found) => Some(format!(
            "{name} was `{before}` when it was released, and is `{found}` now: other versions would \
             misread it; restore it, and give what is new a name and number of its own"
        )),
        None => Some(format!(
            "{name} = {before} was released, and is gone: other versions rely on it; restore it, and \
             say in its comment that it is no longer used"
        )),
    });
    changed.collect()
}

#[test]
fn what_was_released_is_still_on_the_wire() {
    let file = root().join(FILE);
    let text = fs::read_to_string(&file).unwrap_or_default();
    let (mut frozen, now) = (parsed(&text), declared(quorate_proto::DESCRIPTORS));
    assert_none(&breaches(&frozen, &now));
    if std::env::var("UPDATE_WIRE").is_ok_and(|value| value == "1") {
        frozen.extend(now);
        let lines = frozen.iter().map(|(name, what)| format!("{name} = {what}\n"));
        fs::write(&file, lines.collect::<String>()).expect("the file can be written");
    }
    assert!(frozen.len() > 1_000, "{FILE} has {} lines only; freeze it again", frozen.len());
}

#[test]
fn planted_changes_on_the_wire_are_found() {
    let frozen = parsed(
        "p.M = message\np.M.gone = 1 bytes\np.M.kept = 2 uint64\np.M.moved = 3 uint64\n\
         p.M.typed = 4 uint64\np.R.A = 0\np.S.Call = (p.M) returns (p.M)\n",
    );
    let now = parsed(
        "p.M = message\np.M.kept = 2 uint64\np.M.moved = 5 uint64\np.M.typed = 4 sint64\n\
         p.M.new = 1 string\np.R.A = 0\np.S.Call = (p.M) returns (stream p.M)\n",
    );
    let expected =
        ["p.M.gone = 1 bytes was released, and is gone", "p.M.moved", "p.M.typed", "p.S.Call"];
    assert_found(&breaches(&frozen, &now), &expected);
    assert_none(&breaches(&now, &now));
}

#[test]
fn descriptors_are_understood() {
    let now = declared(quorate_proto::DESCRIPTORS);
    for (name, what) in [
        ("quorate.v1.GetRequest.key", "2 bytes"),
        ("quorate.v1.SetRequest.ttl_ms", "5 optional uint64"),
        ("quorate.v1.SetRequest.if_version", "6 uint64 in expect"),
        ("quorate.v1.ListResponse.entries", "1 repeated quorate.v1.KvEntry"),
        ("quorate.v1.Role.ROLE_LEADER", "1"),
        (
            "quorate.v1.KvService.Watch",
            "(quorate.v1.WatchRequest) returns (stream quorate.v1.WatchResponse)",
        ),
        ("quorate.peer.v1.Hello.feature_level", "7 uint32"),
    ] {
        assert_eq!(now.get(name).map(String::as_str), Some(what), "{name}");
    }
}

//! What the server decodes: requests of clients, what goes between its ends of the bus, backups, its
//! configuration, schedules.

use crate::fuzz::messages::message;
use crate::fuzz::world::world;
use crate::fuzz::{Decoder, Memory, Rng};
use quorate_server::fuzzing::{self, AUTH, STREAMS, UNARY};

pub(super) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "unary-request",
        decode: fuzzing::unary_request,
        example: |rng| kinds(rng, UNARY),
        words: REQUEST_WORDS,
        memory: REQUEST,
    },
    Decoder {
        name: "stream-request",
        decode: fuzzing::stream_request,
        example: |rng| kinds(rng, STREAMS),
        words: REQUEST_WORDS,
        memory: Memory::PROTOBUF,
    },
    Decoder {
        name: "auth-request",
        decode: fuzzing::auth_request,
        example: |rng| kinds(rng, AUTH),
        words: REQUEST_WORDS,
        memory: Memory::PROTOBUF,
    },
    Decoder {
        name: "authorization",
        decode: fuzzing::authorization,
        example: |rng| {
            format!("Bearer qt_{:016x}_{:x}", rng.next_u64(), rng.next_u64()).into_bytes()
        },
        words: &["Bearer ", "bearer", "Basic ", "qt_", "_", " ", "+", "-", "0x"],
        memory: Memory::USUAL,
    },
    Decoder {
        name: "pipeline-frame",
        decode: fuzzing::pipeline_frame,
        example: |rng| message(rng, "quorate.v1.PipelineRequest"),
        words: REQUEST_WORDS,
        memory: REQUEST,
    },
    Decoder {
        name: "aside-up",
        decode: fuzzing::aside_up,
        example: |rng| message(rng, "quorate.peer.v1.AsideUp"),
        words: REQUEST_WORDS,
        memory: BUS,
    },
    Decoder {
        name: "aside-down",
        decode: fuzzing::aside_down,
        example: |rng| message(rng, "quorate.peer.v1.AsideDown"),
        words: REQUEST_WORDS,
        memory: BUS,
    },
    Decoder {
        name: "reply-to",
        decode: fuzzing::reply_to,
        example: |rng| format!("{:x}.{:x}.7", rng.below(9), rng.next_u64()).into_bytes(),
        words: &[".", "f", "+", "-", "0x"],
        memory: Memory::USUAL,
    },
    Decoder {
        name: "backup",
        decode: fuzzing::backup,
        example: backup,
        words: &["\"rows\":", "\"", "{", "}", ":", "null", "1e999", "\\u"],
        memory: BACKUP,
    },
    Decoder {
        name: "config",
        decode: fuzzing::config,
        example: config,
        words: &[
            "\n[limits]\n",
            "\n[raft]\n",
            "\n[storage]\n",
            "=",
            "\"",
            "'''",
            "[",
            "]",
            "{",
            "}",
            "#",
            ".",
            ",",
            "true",
            "false",
            "1979-05-27",
            "0x",
            "_",
            "\\u{",
            "inf",
            "\n",
            "é",
            "node_id",
            "insecure",
            "log_level",
            "key_bytes_max",
            "heartbeat_ms",
        ],
        memory: CONFIG,
    },
    Decoder {
        name: "cron",
        decode: fuzzing::cron,
        example: cron,
        words: &[
            "*",
            "/",
            "-",
            ",",
            "L",
            "W",
            "#",
            "?",
            "MON",
            "FRI",
            "JAN",
            "+",
            "@daily",
            "@yearly",
            " ",
            "\n",
            "59",
            "31",
            "30 2",
            "29 2",
            "Europe/Berlin",
            "UTC",
            "../",
        ],
        memory: CRON,
    },
    Decoder {
        name: "timeout-header",
        decode: fuzzing::timeout_header,
        example: |rng| {
            let digits = rng.below(100_000_000);
            format!("{digits}{}", rng.pick(&["H", "M", "S", "m", "u", "n"])).into_bytes()
        },
        words: &["H", "n", "-", "+", "é"],
        memory: Memory::USUAL,
    },
];

const REQUEST_WORDS: &[&str] = &["*", "user.*", "[", "\\", "MON-FRI", "é", "\u{0}"];

/// A hub and a router have tables of their own, which do not grow with what they are told.
const BUS: Memory = Memory { bytes: 1 << 20, ..Memory::PROTOBUF };
/// The body of a part of rows, believed up to nine megabytes; what is in it, of which eight are decoded
/// whatever its compression says; and again for the copy whose checksums fit.
const BACKUP: Memory = Memory { bytes: (9 + 8 + 1) << 20, ..Memory::USUAL };
/// Filters of log lines may have regular expressions, which are compiled.
const CONFIG: Memory = Memory { bytes: 16 << 20, for_each: 1_024 };
/// Tables of time zones are read when they are first named.
const CRON: Memory = Memory { bytes: 1 << 20, ..Memory::USUAL };
/// A request may have a schedule in it, and that a time zone.
const REQUEST: Memory = Memory { bytes: CRON.bytes, ..Memory::PROTOBUF };

/// A message of one of these kinds, behind the number of the kind.
fn kinds(rng: &mut Rng, kinds: &[&str]) -> Vec<u8> {
    let kind = rng.below(kinds.len());
    let body = message(rng, &format!("quorate.v1.{}", kinds[kind]));
    [&[u8::try_from(kind).expect("there are fewer than 256")][..], &body].concat()
}

fn backup(_: &mut Rng) -> Vec<u8> {
    world().backup.clone()
}

fn config(rng: &mut Rng) -> Vec<u8> {
    let top = [
        "node_id = 1",
        "data_dir = \"data\"",
        "client_listen = \"127.0.0.1:8811\"",
        "peer_listen = \"[::1]:8812\"",
        "insecure = true",
        "client_advertise = \"node-1:8811\"",
        "initial_cluster = \"1=127.0.0.1:8812,2=127.0.0.1:8822\"",
        "log_format = \"json\"",
        "log_level = \"info,quorate=debug\"",
        "join = \"127.0.0.1:8821\"",
    ];
    let sections = [
        "[limits]\nkey_bytes_max = 512\nconnections_max = 1_000",
        "[raft]\nheartbeat_ms = 50\nelection_timeout_min_ms = 300\nelection_timeout_max_ms = 600",
        "[storage]\nblock_cache_bytes = 33554432\nsnapshot_every_ms = 1000",
    ];
    let mut lines: Vec<&str> = top.into_iter().filter(|_| rng.one_in(4)).collect();
    lines.extend(sections.into_iter().filter(|_| rng.one_in(3)));
    (lines.join("\n") + "\n").into_bytes()
}

fn cron(rng: &mut Rng) -> Vec<u8> {
    let fields = ["*", "0", "*/5", "1-5", "MON-FRI", "29", "2", "6,18", "L", "+MON", "15W", "5#2"];
    let text = match rng.below(8) {
        0 => (*rng.pick(&["@daily", "@hourly", "@weekly", "@yearly"])).to_owned(),
        1 => "0 0 30 2 *".to_owned(),
        _ => {
            let count = 5 + rng.below(2);
            let fields: Vec<_> = (0..count).map(|_| *rng.pick(&fields)).collect();
            fields.join(" ")
        }
    };
    let zone = rng.pick(&["", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC"]);
    let after_ms: u64 = *rng.pick(&[0, 1_774_612_800_000, 253_402_300_799_999, u64::MAX]);
    let after_ms = after_ms.saturating_add(rng.next_u64() % 31_536_000_000);
    [&after_ms.to_be_bytes()[..], text.as_bytes(), b"\n", zone.as_bytes()].concat()
}

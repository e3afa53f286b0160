//! Files that are as they were written, and files that are not.

use super::format::{self, BODY_BYTES_MAX, End, Kind, RAW_BYTES_MAX};
use super::write::{Unfinished, save};
use super::{Error, Header, export, info, verify};
use quorate_state::{
    Batch, Caller, Command, Envelope, GroupId, KvSet, LogIndex, LogPosition, Machine, MemoryTables,
    NewJob, QueuePush, Stamp, Term, query,
};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::NamedTempFile;

const GROUP: GroupId = GroupId(0);

fn header() -> Header {
    Header {
        cluster_id: "c-1".to_owned(),
        node_id: 2,
        version: "0.1.0".to_owned(),
        feature_level: 1,
        group_id: 0,
        applied: LogPosition { term: Term(3), index: LogIndex(7) },
        revision: 7 << 12,
        made_wall_ms: 1_700_000_000_000,
        linearizable: true,
        membership: Default::default(),
    }
}

fn tables(keys: usize) -> MemoryTables {
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open(GROUP, &tables).expect("empty tables are fine");
    let envelope = |command| Envelope {
        namespace: "shop".to_owned(),
        caller: Caller::Anonymous,
        guard: None,
        command,
    };
    for key in 0..keys {
        let set = KvSet {
            key: format!("key-{key:05}").into(),
            value: vec![0xFF; key % 1_000].into(),
            ttl_ms: Some(1_000),
            expect: Default::default(),
            owner: None,
        };
        let job = NewJob { payload: "to do".into(), ..NewJob::default() };
        let push = QueuePush { queue: "mail".to_owned(), jobs: vec![job] };
        let commands = vec![envelope(Command::KvSet(set)), envelope(Command::QueuePush(push))];
        let stamp = Stamp { lease_ms: 5, wall_ms: 6 };
        machine
            .apply(&mut tables, LogIndex(key as u64 + 1), &Batch { stamp, commands })
            .expect("it applies");
    }
    tables
}

fn saved(tables: &MemoryTables) -> Vec<u8> {
    let mut file = Vec::new();
    save(&header(), tables, GROUP, &mut |piece, _| {
        file.extend(piece);
        ControlFlow::Continue(())
    })
    .expect("it is written");
    file
}

fn verified(bytes: &[u8]) -> Result<(Header, End), Error> {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it is written");
    verify(file.path(), &mut |_, _| {})
}

/// The file made of these parts.
fn file(parts: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let mut file = format::opening();
    parts.iter().for_each(|(kind, body)| file.extend(format::part(*kind, body)));
    file
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("it encodes")
}

fn rows(rows: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for field in rows.iter().flat_map(|(key, value)| [key, value]) {
        block.extend(u32::try_from(field.len()).expect("short").to_be_bytes());
        block.extend(*field);
    }
    zstd::bulk::compress(&block, 3).expect("it compresses")
}

#[test]
fn what_is_written_is_what_the_nodes_have() {
    // Of several parts.
    let tables = tables(3_000);
    let bytes = saved(&tables);
    let (found, end) = verified(&bytes).expect("it is whole");
    assert_eq!(found, header());
    let checksum = query::checksum(&tables, GROUP).expect("tables in memory do not fail");
    assert_eq!(end.checksum, format!("{checksum:016x}"));
    assert_eq!(end.rows, tables.len() as u64);
    assert!(bytes.len() as u64 * 3 < end.bytes, "{} bytes of {}", bytes.len(), end.bytes);
    // Nothing at all can be backed up, too.
    assert_eq!(verified(&saved(&MemoryTables::default())).expect("it is whole").1.rows, 0);
}

#[test]
fn every_flipped_bit_is_found() {
    let whole = saved(&tables(2));
    verified(&whole).expect("it is whole");
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(&whole).expect("it is written");
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(file.path(), &damaged).expect("it is written");
        let error = verify(file.path(), &mut |_, _| {}).expect_err("a bit was flipped");
        let named = error.to_string().contains(&file.path().display().to_string());
        assert!(named, "bit {bit}: {error}");
    }
}

#[test]
fn whatever_is_missing_or_too_much_is_found() {
    let whole = saved(&tables(2));
    for len in 0..whole.len() {
        let error = verified(&whole[..len]).expect_err("it was cut off").to_string();
        assert!(error.contains("cut off"), "{len}: {error}");
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(verified(&longer).expect_err("it is longer").to_string().contains("follows its end"));
    let (key, other) = (&[0, 0, 0, 0, 1, 1][..], &[0, 0, 0, 0, 1, 2][..]);
    let header_hash = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&json(&header())));
    let end_of = |header: &str, rows, bytes| {
        json(&End { rows, bytes, checksum: String::new(), header: header.to_owned() })
    };
    let end = |rows, bytes| end_of(&header_hash, rows, bytes);
    for (parts, says) in [
        (vec![(Kind::End, end(0, 0))], "no header"),
        (vec![(Kind::Header, json(&header())), (Kind::Header, json(&header()))], "two headers"),
        (vec![(Kind::Header, b"{}".to_vec())], "its header"),
        (vec![(Kind::Header, json(&header())), (Kind::End, b"{}".to_vec())], "its end"),
        (vec![(Kind::Header, json(&header())), (Kind::Rows, b"no zstd".to_vec())], "its rows"),
        (
            vec![(Kind::Header, json(&header())), (Kind::Rows, rows(&[(other, b""), (key, b"")]))],
            "out of order",
        ),
        (
            vec![(Kind::Header, json(&header())), (Kind::Rows, rows(&[(key, b""), (key, b"")]))],
            "out of order",
        ),
        (
            vec![(Kind::Header, json(&header())), (Kind::Rows, rows(&[(b"other", b"")]))],
            "no table has its key",
        ),
        (
            vec![
                (Kind::Header, json(&header())),
                (Kind::Rows, rows(&[(key, b"v")])),
                (Kind::End, end(1, 7)),
            ],
            "not those that its end counts",
        ),
        (vec![(Kind::Header, json(&header())), (Kind::End, end_of("00", 0, 0))], "another header"),
    ] {
        let error = verified(&file(&parts)).expect_err(says).to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    // A part of it left out: each of them is right in itself.
    let (mut at, mut parts) = (16, Vec::new());
    let several = saved(&tables(3_000));
    while at < several.len() {
        let len: [u8; 4] = several[at + 1..at + 5].try_into().expect("four bytes");
        let to = at + 9 + u32::from_be_bytes(len) as usize;
        parts.push(several[at..to].to_vec());
        at = to;
    }
    assert!(parts.len() > 4, "{} parts", parts.len());
    for left_out in 1..parts.len() - 1 {
        let mut without = format::opening();
        let kept = parts.iter().enumerate().filter(|(number, _)| *number != left_out);
        kept.for_each(|(_, part)| without.extend(part));
        verified(&without).expect_err("a part is missing");
    }
}

#[test]
fn what_would_take_too_much_memory_is_refused_before_it_does() {
    let mut long = file(&[(Kind::Header, json(&header()))]);
    long.push(Kind::Rows as u8);
    long.extend(u32::MAX.to_be_bytes());
    long.extend([0; 4]);
    let error = verified(&long).expect_err("4 GiB").to_string();
    assert!(error.contains("would have 4294967295 bytes"), "{error}");
    // A few KiB that become much more.
    let bomb = zstd::bulk::compress(&vec![0; RAW_BYTES_MAX + 1], 3).expect("it compresses");
    assert!(bomb.len() < BODY_BYTES_MAX / 100);
    let error = verified(&file(&[(Kind::Header, json(&header())), (Kind::Rows, bomb)]));
    assert!(error.expect_err("too much").to_string().contains("its rows"));
}

#[test]
fn newer_ones_are_told_from_damaged_ones() {
    let mut newer = saved(&tables(1));
    newer[15] = 2;
    let error = verified(&newer).expect_err("it has another format");
    assert!(matches!(error, Error::TooNew { .. }), "{error}");
    let level = Header { feature_level: 200, ..header() };
    let error = verified(&file(&[(Kind::Header, json(&level))])).expect_err("it has a newer level");
    assert!(matches!(error, Error::TooNew { .. }), "{error}");
    let missing = info(Path::new("/nowhere/at/all")).expect_err("there is no such file");
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
}

#[test]
fn who_does_not_want_the_rest_is_not_given_it() {
    let mut pieces = 0;
    let stopped = save(&header(), &tables(3_000), GROUP, &mut |_, _| {
        pieces += 1;
        if pieces == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Unfinished::Unwanted)), "{stopped:?}");
    assert_eq!(pieces, 3);
}

/// Backups of one version are restored by the next: these bytes never change.
#[test]
fn bytes_are_frozen() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&format::opening()), "71756f72617465206261636b75700001");
    assert_eq!(hex(&format::part(Kind::Rows, b"abc")), "02000000032a5d5d30616263");
    let text = String::from_utf8(json(&header())).expect("JSON is text");
    assert_eq!(
        text,
        r#"{"cluster_id":"c-1","node_id":2,"version":"0.1.0","feature_level":1,"group_id":0,"applied":{"term":3,"index":7},"revision":28672,"made_wall_ms":1700000000000,"linearizable":true,"membership":{"position":null,"membership":{"voters":[],"nodes":{}}}}"#
    );
    let (header, checksum) = ("04".to_owned(), "03".to_owned());
    let end = End { rows: 1, bytes: 2, header, checksum };
    assert_eq!(json(&end), br#"{"rows":1,"bytes":2,"header":"04","checksum":"03"}"#);
}

#[test]
fn an_export_has_what_users_stored_a_line_each() {
    let mut text = Vec::new();
    export(&header(), &tables(2), GROUP, &mut |piece, _| {
        text.extend(piece);
        ControlFlow::Continue(())
    })
    .expect("it is written");
    let text = String::from_utf8(text).expect("JSON is text");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().expect("text")).collect();
    assert_eq!(kinds, ["header", "key", "key", "queue", "job", "job", "end"]);
    assert_eq!(lines[0]["revision"], 28_672);
    assert_eq!((&lines[1]["key"], &lines[1]["value"]), (&"key-00000".into(), &"".into()));
    assert_eq!(lines[2]["value_base64"], "/w==");
    assert_eq!((&lines[2]["namespace"], &lines[2]["ttl_ms"]), (&"shop".into(), &1_000.into()));
    assert_eq!((&lines[3]["name"], &lines[4]["queue"]), (&"mail".into(), &"mail".into()));
    assert_eq!((&lines[4]["payload"], &lines[4]["state"]), (&"to do".into(), &"ready".into()));
    assert_eq!(lines[6]["lines"], 6);
}

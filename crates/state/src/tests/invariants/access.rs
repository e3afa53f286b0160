//! The checker finds each relation of tokens, roles and subjects broken: one planted fault each.

use super::Plant;
use crate::keys::{self, AccessHolder, Clock, DeadlineKind};
use crate::rows::{self, AccessMetaRow, AccessRoleRow, AccessSubjectRow, AccessTokenRow};
use crate::testing::GROUP;
use crate::tests::group::Group;
use crate::{
    AccessRolePut, AccessSubjectPut, AccessTokenCreate, AccessTokenId, Command, MemoryTables, Read,
    Txn, codec, invariants,
};

const ID: AccessTokenId = AccessTokenId(7);

/// A role that a token with a ttl and a subject have; both may also do everything.
fn sound() -> MemoryTables {
    let mut group = Group::new();
    group.stamp.wall_ms = 1_000;
    let roles = || vec!["r".to_owned(), "admin".to_owned()];
    group.own(vec![
        Command::AccessRolePut(AccessRolePut { name: "r".to_owned(), rules: Vec::new() }),
        Command::AccessTokenCreate(AccessTokenCreate {
            id: ID,
            hash: vec![7; 32].into(),
            name: "ci".to_owned(),
            roles: roles(),
            ttl_ms: Some(10_000),
        }),
        Command::AccessSubjectPut(AccessSubjectPut { subject: "s".to_owned(), roles: roles() }),
    ]);
    group.check();
    group.tables
}

fn change_meta(tables: &mut MemoryTables, change: impl FnOnce(&mut AccessMetaRow)) {
    let mut row = rows::access_meta(tables, GROUP).unwrap();
    change(&mut row);
    tables.put(&keys::access_meta(GROUP), &codec::encode(&row));
}

fn change_token(tables: &mut MemoryTables, change: impl FnOnce(&mut AccessTokenRow)) {
    let key = keys::access_token(GROUP, ID);
    let stored = tables.get(&key).unwrap().unwrap();
    let mut row: AccessTokenRow = rows::decode("access token row", &stored).unwrap();
    change(&mut row);
    tables.put(&key, &codec::encode(&row));
}

fn put_role(tables: &mut MemoryTables, name: &str) {
    let row = AccessRoleRow { rules: Vec::new() };
    tables.put(&keys::access_role(GROUP, name), &codec::encode(&row));
}

fn put_subject(tables: &mut MemoryTables, subject: &str, roles: &[&str]) {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    let row = AccessSubjectRow { roles };
    tables.put(&keys::access_subject(GROUP, subject), &codec::encode(&row));
}

#[test]
fn faults_of_access_are_found() {
    let faults: [(&str, Plant); 17] = [
        ("counted", |t| change_meta(t, |meta| meta.tokens += 1)),
        ("counted", |t| change_meta(t, |meta| meta.roles += 1)),
        ("counted", |t| change_meta(t, |meta| meta.subjects -= 1)),
        ("has the row", |t| change_token(t, |row| row.hash = vec![7; 31].into())),
        ("has the row", |t| change_token(t, |row| row.expires_wall_ms = Some(1_000))),
        ("belongs to nothing", |t| change_token(t, |row| row.expires_wall_ms = None)),
        ("belongs to nothing", |t| change_token(t, |row| row.expires_wall_ms = Some(11_001))),
        ("is missing", |t| {
            let (key, kind) = (keys::access_token(GROUP, ID), DeadlineKind::AccessToken);
            t.delete(&keys::deadline(GROUP, Clock::Wall, 11_000, kind, &key));
        }),
        ("which is not there", |t| {
            t.delete(&keys::access_role(GROUP, "r"));
            change_meta(t, |meta| meta.roles -= 1);
        }),
        ("has the roles", |t| change_token(t, |row| row.roles.push("r".to_owned()))),
        ("has the roles", |t| put_subject(t, "s", &["r", "admin", &"x".repeat(256)])),
        ("differ in", |t| put_subject(t, "s", &["admin"])),
        ("differ in", |t| {
            t.delete(&keys::access_holder(GROUP, "admin", AccessHolder::Token(ID)));
        }),
        ("differ in", |t| {
            t.put(&keys::access_holder(GROUP, "r", AccessHolder::Subject("nobody")), b"");
        }),
        ("has a value", |t| {
            t.put(&keys::access_holder(GROUP, "r", AccessHolder::Token(ID)), b"v");
        }),
        ("has a row", |t| put_role(t, "admin")),
        ("has a row", |t| put_subject(t, "", &[])),
    ];
    for (expected, plant) in faults {
        let mut tables = sound();
        plant(&mut tables);
        let error = invariants::check(&tables, GROUP).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected:?}, found: {error}");
    }
}

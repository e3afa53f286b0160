//! A small world of valid things, from which inputs are made: requests, the commands that they come to,
//! what became of those, and the tables that a machine has then.

use super::messages::message;
use super::rng::Rng;
use quorate_server::fuzzing::{UNARY, envelope_of};
use quorate_state::{
    AccessAction, AccessRoleDelete, AccessRolePut, AccessRule, AccessService, AccessSubjectDelete,
    AccessSubjectPut, AccessTokenCreate, AccessTokenId, AccessTokenRevoke, Attachment, Batch,
    Caller, Command, ConsumerAttach, ConsumerDetachNode, Envelope, FeatureLevel, FeatureLevelRaise,
    FencingToken, GroupId, HeldLock, LeaseCheckpoint, LockDetachNode, LockExpire, LogIndex,
    Machine, MemberAim, MemberChange, MemberIdentity, MemberInvite, MemberJoin, MemberPublish,
    MemberSettle, MemoryTables, NodeId, Outcome, Read, Sequence, SessionExpire, SessionId,
    SessionOpen, Stamp, codec, query,
};
use std::ops::ControlFlow;
use std::sync::OnceLock;

/// Requests that are made up; about a third of them come to a command.
const REQUESTS: usize = 4_000;
/// Commands that are kept as examples of each sort of thing.
const KEPT: usize = 400;

/// See the module.
pub(super) struct World {
    /// The first log entries.
    pub(super) first: Vec<Batch>,
    /// Log entries, as batches.
    pub(super) decoded: Vec<Batch>,
    /// Log entries, encoded.
    pub(super) batches: Vec<Vec<u8>>,
    /// Commands with their origins, encoded.
    pub(super) envelopes: Vec<Vec<u8>>,
    /// What became of them, encoded.
    pub(super) outcomes: Vec<Vec<u8>>,
    /// Keys and values of tables.
    pub(super) rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// A backup of them.
    pub(super) backup: Vec<u8>,
}

/// The one there is. It is the same in every run.
pub(super) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    // What is made up on the way needs a world itself, for encodings within messages.
    static EMPTY: OnceLock<World> = OnceLock::new();
    thread_local!(static MAKING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    if MAKING.get() {
        let nothing = || vec![Vec::new()];
        return EMPTY.get_or_init(|| World {
            batches: nothing(),
            envelopes: nothing(),
            outcomes: nothing(),
            ..empty()
        });
    }
    WORLD.get_or_init(|| {
        MAKING.set(true);
        let world = make();
        MAKING.set(false);
        world
    })
}

fn empty() -> World {
    World {
        first: Vec::new(),
        decoded: Vec::new(),
        batches: Vec::new(),
        envelopes: Vec::new(),
        outcomes: Vec::new(),
        rows: Vec::new(),
        backup: Vec::new(),
    }
}

fn make() -> World {
    let mut rng = Rng::new(7);
    let group = GroupId(0);
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open(group, &tables).expect("empty tables are fine");
    let mut world = empty();
    let mut index = 0;
    let mut apply = |commands: Vec<Envelope>, world: &mut World| {
        index += 1;
        let stamp = Stamp { lease_ms: 10 * index, wall_ms: 1_700_000_000_000 + 10 * index };
        let batch = Batch { stamp, commands };
        let applied = machine
            .apply(&mut tables, LogIndex(index), &batch)
            .expect("a command that was let in is applied");
        world.outcomes.extend(applied.outcomes.iter().map(codec::encode));
        let envelopes = batch.commands.iter();
        world.envelopes.extend(envelopes.map(|one| codec::encode_envelope(one).to_vec()));
        world.batches.push(codec::encode_batch(&batch).to_vec());
        world.decoded.push(batch);
        applied.outcomes
    };
    let open = envelope(Command::SessionOpen(SessionOpen { ttl_ms: 30_000 }));
    let opened = apply(vec![open], &mut world);
    let Some(Outcome::SessionOpen { id, .. }) = opened.first() else {
        panic!("no session was opened: {opened:?}")
    };
    let session = *id;
    let mut sequence = 0;
    let mut waiting = own_commands();
    for number in 0..REQUESTS {
        let kind = number % UNARY.len();
        let body = message(&mut rng, &format!("quorate.v1.{}", UNARY[kind]));
        let kind = u8::try_from(kind).expect("there are fewer than 256 kinds of requests");
        waiting.extend(envelope_of(&[&[kind][..], &body].concat()));
        // Nobody closes the session that all others need.
        waiting.retain(|one| !matches!(one.command, Command::SessionClose(_)));
        if waiting.len() < 1 + rng.below(4) {
            continue;
        }
        for one in &mut waiting {
            if let Caller::Session { id, sequence: own, floor } = &mut one.caller {
                sequence += 1;
                (*id, *own, *floor) = (session, Sequence(sequence), Sequence(sequence));
            }
        }
        apply(std::mem::take(&mut waiting), &mut world);
    }
    assert!(world.batches.len() > 100, "only {} requests are valid", world.batches.len());
    world.backup = quorate_server::fuzzing::backup_of(&tables);
    let (from, to) = query::group_range(group);
    let mut rows = Vec::new();
    tables
        .scan(&from, &to, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .expect("tables in memory do not fail");
    world.rows = rows;
    for list in [&mut world.batches, &mut world.envelopes, &mut world.outcomes] {
        thin(&mut rng, list);
    }
    world.first = world.decoded.iter().take(8).cloned().collect();
    thin(&mut rng, &mut world.decoded);
    world
}

/// Keeps some of many.
fn thin<T>(rng: &mut Rng, list: &mut Vec<T>) {
    while list.len() > KEPT {
        let at = rng.below(list.len());
        list.swap_remove(at);
    }
}

fn envelope(command: Command) -> Envelope {
    Envelope { namespace: String::new(), caller: Caller::Anonymous, guard: None, command }
}

/// Commands that no client sends.
fn own_commands() -> Vec<Envelope> {
    let node = NodeId(2);
    let attachment = Attachment { node, call: 3 };
    let member = MemberIdentity { node, uuid: 1 << 100 };
    let token_hash = bytes::Bytes::from(vec![7; 32]);
    let invite = MemberInvite { token_hash: token_hash.clone(), ttl_ms: 1_000, replaces: None };
    let join = MemberJoin {
        uuid: 1 << 101,
        peer_addr: "127.0.0.1:8822".to_owned(),
        client_addr: "127.0.0.1:8821".to_owned(),
        token_hash: Some(token_hash),
        learner: false,
        known: NodeId(3),
    };
    let publish = MemberPublish {
        node,
        client_addr: "127.0.0.1:8821".to_owned(),
        http_addr: "127.0.0.1:8823".to_owned(),
    };
    let attach = ConsumerAttach {
        queue: "mail".to_owned(),
        consumer: None,
        session: None,
        window: 4,
        attachment,
    };
    let held = HeldLock {
        namespace: "shop".to_owned(),
        name: "nightly".to_owned(),
        token: FencingToken(1),
    };
    let checkpoint = LeaseCheckpoint {
        sessions: vec![(SessionId(9), Some(1_000))],
        locks: vec![(held.clone(), None)],
    };
    let rule = AccessRule {
        service: AccessService::Kv,
        actions: vec![AccessAction::Read, AccessAction::Write],
        namespace: "shop".to_owned(),
        pattern: "user:*".into(),
    };
    let role = AccessRolePut { name: "reader".to_owned(), rules: vec![rule] };
    let roles = vec!["reader".to_owned(), "admin".to_owned()];
    let subject = AccessSubjectPut { subject: "ann".to_owned(), roles: roles.clone() };
    let token = AccessTokenCreate {
        id: AccessTokenId(7),
        hash: vec![9; 32].into(),
        name: "ci".to_owned(),
        roles,
        ttl_ms: Some(3_600_000),
    };
    let commands = [
        Command::Tick,
        Command::MemberInvite(invite),
        Command::MemberJoin(join),
        Command::MemberPublish(publish),
        Command::MemberChange(MemberChange { member, aim: MemberAim::Gone }),
        Command::MemberSettle(MemberSettle { member, gone: true }),
        Command::FeatureLevelRaise(FeatureLevelRaise { level: FeatureLevel::FIRST }),
        Command::AccessRolePut(role),
        Command::AccessTokenCreate(token),
        Command::AccessTokenRevoke(AccessTokenRevoke { id: AccessTokenId(8) }),
        Command::AccessSubjectPut(subject),
        Command::AccessSubjectDelete(AccessSubjectDelete { subject: "bob".to_owned() }),
        Command::AccessRoleDelete(AccessRoleDelete { name: "reader".to_owned() }),
        Command::ConsumerAttach(attach),
        Command::ConsumerDetachNode(ConsumerDetachNode { node: NodeId(7) }),
        Command::LockDetachNode(LockDetachNode { node }),
        Command::LockExpire(LockExpire { locks: vec![held] }),
        Command::LeaseCheckpoint(checkpoint),
        Command::SessionExpire(SessionExpire { ids: vec![SessionId(9)] }),
    ];
    let mut commands: Vec<_> = commands.map(envelope).into();
    for one in &mut commands {
        if matches!(one.command, Command::ConsumerAttach(_)) {
            one.namespace = "shop".to_owned();
            one.caller = Caller::Idempotency { key: "attach".into() };
        }
    }
    commands
}

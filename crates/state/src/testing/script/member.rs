//! The words for members: `cluster <what> <whom> ...`. The directory of node 4 has the uuid 44, unless
//! `uuid=` says another.

use super::{Parsed, millis, positional, string};
use crate::{
    Command, FeatureLevel, FeatureLevelRaise, MemberAim, MemberChange, MemberIdentity,
    MemberInvite, MemberJoin, MemberSettle, NodeId,
};
use bytes::Bytes;
use goldenscript::ArgumentConsumer;

pub(super) fn member(args: &mut ArgumentConsumer<'_>) -> Parsed<Command> {
    let word = positional(args, "what to do about a member")?;
    let whom = positional(args, "which token, directory, node or level")?;
    let replaces = args.take_key("replaces").map(identity).transpose()?;
    Ok(match word {
        "raise" => {
            Command::FeatureLevelRaise(FeatureLevelRaise { level: FeatureLevel(whom.parse()?) })
        }
        "invite" => Command::MemberInvite(MemberInvite {
            token_hash: token_hash(whom)?,
            ttl_ms: args.take_key("ttl").map_or(Ok(60_000), millis)?,
            replaces,
        }),
        "join" => Command::MemberJoin(MemberJoin {
            uuid: whom.parse()?,
            peer_addr: string(args.take_key("peer").unwrap_or("p"))?,
            client_addr: string(args.take_key("client").unwrap_or("c"))?,
            token_hash: args.take_key("token").map(token_hash).transpose()?,
            learner: args.take_key("learner").is_some_and(|learner| learner == "true"),
            known: NodeId(args.take_key("known").map_or(Ok(0), str::parse)?),
        }),
        "promote" => {
            let aim = MemberAim::Voter { replaces };
            Command::MemberChange(MemberChange { member: of(whom, args)?, aim })
        }
        "remove" => {
            Command::MemberChange(MemberChange { member: of(whom, args)?, aim: MemberAim::Gone })
        }
        "settle" => {
            let gone = args.take_key("gone").is_some_and(|gone| gone == "true");
            Command::MemberSettle(MemberSettle { member: of(whom, args)?, gone })
        }
        other => return Err(format!("no such word about members: {other}").into()),
    })
}

fn identity(node: &str) -> Parsed<MemberIdentity> {
    let node = NodeId(node.parse()?);
    Ok(MemberIdentity { node, uuid: u128::from(node.0) * 11 })
}

fn of(node: &str, args: &mut ArgumentConsumer<'_>) -> Parsed<MemberIdentity> {
    let identity = identity(node)?;
    let uuid = args.take_key("uuid").map_or(Ok(identity.uuid), str::parse)?;
    Ok(MemberIdentity { uuid, ..identity })
}

/// A number for all of its bytes; with `/` and how many, if they are not to be 32.
fn token_hash(text: &str) -> Parsed<Bytes> {
    let (byte, count) = text.split_once('/').unwrap_or((text, "32"));
    Ok(vec![byte.parse()?; count.parse()?].into())
}

//! The words for who may do what: `access <what> <whom> ...`. A rule is one word of a script, as
//! `"kv read,write user:* shop"`: service, actions, pattern, and the glob of a namespace; without one it
//! is the default namespace.

use super::{Parsed, millis, positional, string, text};
use crate::{
    AccessAction, AccessRoleDelete, AccessRolePut, AccessRule, AccessService, AccessSubjectDelete,
    AccessSubjectPut, AccessTokenCreate, AccessTokenId, AccessTokenRevoke, Command,
};
use bytes::Bytes;
use goldenscript::ArgumentConsumer;

pub(super) fn access(args: &mut ArgumentConsumer<'_>) -> Parsed<Command> {
    let word = positional(args, "what to do about access")?;
    let whom = positional(args, "which token, role or subject")?;
    Ok(match word {
        "create" => Command::AccessTokenCreate(AccessTokenCreate {
            id: AccessTokenId(whom.parse()?),
            hash: hash(args.take_key("hash").unwrap_or(whom))?,
            name: name(args.take_key("name").unwrap_or("ci"))?,
            roles: roles(args)?,
            ttl_ms: args.take_key("ttl").map(millis).transpose()?,
        }),
        "revoke" => {
            Command::AccessTokenRevoke(AccessTokenRevoke { id: AccessTokenId(whom.parse()?) })
        }
        "role" => {
            let mut rules = Vec::new();
            while let Some(word) = args.next_pos() {
                rules.push(rule(word)?);
            }
            // Stands for as many rules more that are like the last one.
            let more: usize = args.take_key("more").map_or(Ok(0), str::parse)?;
            let last = rules.last().cloned();
            rules.extend(std::iter::repeat_n(last, more).flatten());
            Command::AccessRolePut(AccessRolePut { name: name(whom)?, rules })
        }
        "delete-role" => Command::AccessRoleDelete(AccessRoleDelete { name: name(whom)? }),
        "subject" => {
            let roles = roles(args)?;
            Command::AccessSubjectPut(AccessSubjectPut { subject: name(whom)?, roles })
        }
        "delete-subject" => {
            Command::AccessSubjectDelete(AccessSubjectDelete { subject: name(whom)? })
        }
        other => return Err(format!("no such word about access: {other}").into()),
    })
}

/// `-` is the empty one.
fn name(word: &str) -> Parsed<String> {
    string(if word == "-" { "" } else { word })
}

/// All positional words that are left; `more=` stands for as many roles `r0`, `r1` and so on.
fn roles(args: &mut ArgumentConsumer<'_>) -> Parsed<Vec<String>> {
    let mut roles = Vec::new();
    while let Some(role) = args.next_pos() {
        roles.push(name(role)?);
    }
    let more: usize = args.take_key("more").map_or(Ok(0), str::parse)?;
    roles.extend((0..more).map(|number| format!("r{number}")));
    Ok(roles)
}

fn rule(word: &str) -> Parsed<AccessRule> {
    let words: Vec<&str> = word.split(' ').collect();
    let (service, actions, pattern, namespace) = match words[..] {
        [service, actions, pattern] => (service, actions, pattern, ""),
        [service, actions, pattern, namespace] => (service, actions, pattern, namespace),
        _ => return Err(format!("{word:?} is no rule").into()),
    };
    let service = match service {
        "any" => AccessService::Any,
        "kv" => AccessService::Kv,
        "cache" => AccessService::Cache,
        "queue" => AccessService::Queue,
        "lock" => AccessService::Lock,
        "bus" => AccessService::Bus,
        "cluster" => AccessService::Cluster,
        other => return Err(format!("no such service: {other}").into()),
    };
    let actions = actions.split(',').filter(|action| *action != "-").map(|action| match action {
        "read" => Ok(AccessAction::Read),
        "write" => Ok(AccessAction::Write),
        "consume" => Ok(AccessAction::Consume),
        "publish" => Ok(AccessAction::Publish),
        "admin" => Ok(AccessAction::Admin),
        other => Err(format!("no such action: {other}")),
    });
    let actions = actions.collect::<Result<_, _>>()?;
    let pattern = if pattern == "-" { Bytes::new() } else { text(pattern)? };
    Ok(AccessRule { service, actions, namespace: string(namespace)?, pattern })
}

/// A number for all of its bytes; with `/` and how many, if they are not to be 32.
fn hash(text: &str) -> Parsed<Bytes> {
    let (byte, count) = text.split_once('/').unwrap_or((text, "32"));
    Ok(vec![byte.parse()?; count.parse()?].into())
}

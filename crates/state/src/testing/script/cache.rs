//! The words for the cache: `cache <what> <key> ...`.

use super::{Parsed, millis, positional, revision, selector, string, text};
use crate::{
    BuildLease, CacheBuild, CacheBuildEnd, CacheDelete, CacheDeletePattern, CacheEvict, CacheFill,
    CacheInvalidateTags, CacheResize, CacheSet, CacheTouch, CacheVictim, Command, query,
};
use bytes::Bytes;
use goldenscript::ArgumentConsumer;

pub(super) fn cache(args: &mut ArgumentConsumer<'_>) -> Parsed<Command> {
    let word = positional(args, "what to do with the cache")?;
    let ttl_ms = args.take_key("ttl").map(millis).transpose()?;
    Ok(match word {
        "set" => Command::CacheSet(CacheSet {
            key: text(positional(args, "key")?)?,
            value: text(positional(args, "value")?)?,
            ttl_ms,
            stale_for_ms: args.take_key("stale").map_or(Ok(0), millis)?,
            tags: args.take_key("tags").map_or(Ok(Vec::new()), tags)?,
        }),
        "del" => Command::CacheDelete(CacheDelete { key: text(positional(args, "key")?)? }),
        "del-pattern" => Command::CacheDeletePattern(CacheDeletePattern {
            selector: selector(args)?,
            after: args.take_key("after").map(text).transpose()?,
            keys_max: args.take_key("max").map_or(Ok(u64::MAX), str::parse)?,
        }),
        "invalidate" => Command::CacheInvalidateTags(CacheInvalidateTags {
            tags: args.next_pos().map_or(Ok(Vec::new()), tags)?,
        }),
        "touch" => Command::CacheTouch(CacheTouch { key: text(positional(args, "key")?)?, ttl_ms }),
        "build" => Command::CacheBuild(CacheBuild {
            key: text(positional(args, "key")?)?,
            lease_ms: args.take_key("for").map_or(Ok(10_000), millis)?,
        }),
        "fill" => Command::CacheFill(CacheFill {
            key: text(positional(args, "key")?)?,
            lease: lease(args)?,
            value: text(positional(args, "value")?)?,
            ttl_ms,
            stale_for_ms: args.take_key("stale").map_or(Ok(0), millis)?,
            tags: args.take_key("tags").map_or(Ok(Vec::new()), tags)?,
        }),
        "give-up" => Command::CacheBuildEnd(CacheBuildEnd {
            key: text(positional(args, "key")?)?,
            lease: lease(args)?,
            error: args.take_key("error").map(string).transpose()?,
        }),
        "evict" => {
            let mut victims = Vec::new();
            while let Some(victim) = args.next_pos() {
                victims.push(one_victim(victim)?);
            }
            if let Some(copies) = args.take_key("copies") {
                victims = victims.iter().cycle().take(copies.parse()?).cloned().collect();
            }
            Command::CacheEvict(CacheEvict { victims })
        }
        "resize" => {
            Command::CacheResize(CacheResize { bytes_max: positional(args, "bytes")?.parse()? })
        }
        other => return Err(format!("no such cache command: {other}").into()),
    })
}

fn lease(args: &mut ArgumentConsumer<'_>) -> Parsed<BuildLease> {
    Ok(BuildLease(args.take_key("lease").ok_or("lease= is missing")?.parse()?))
}

/// With commas between them; `n*17` are 17 of them with numbers, `-` an empty one.
pub(super) fn tags(all: &str) -> Parsed<Vec<String>> {
    let mut tags = Vec::new();
    for tag in all.split(',') {
        match tag.split_once('*') {
            Some((tag, times)) => {
                tags.extend((0..times.parse::<usize>()?).map(|at| format!("{tag}{at}")));
            }
            None if tag == "-" => tags.push(String::new()),
            None => tags.push(string(tag)?),
        }
    }
    Ok(tags)
}

/// `<key>:r<entry>.<position>`, or `<namespace>/<key>:...`; `?:...` has a malformed id.
fn one_victim(victim: &str) -> Parsed<CacheVictim> {
    let (id, at) = victim.split_once(':').ok_or("a victim is <key>:<revision>")?;
    let (namespace, key) = id.split_once('/').unwrap_or(("", id));
    let id = match key {
        "?" => Bytes::new(),
        key => query::cache_id(namespace, &text(key)?).ok_or("the namespace is too long")?,
    };
    Ok(CacheVictim { id, mod_revision: revision(at)? })
}

//! Keys, and the value of one.

use super::answer::{Answer, Refusal, Told, b64, from_b64, text};
use super::ask::Ask;
use axum::extract::Path;
use axum::http::StatusCode;
use quorate_proto::v1;
use quorate_proto::v1::key_selector::Select;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use serde_json::{Value, json};

/// Keys of a page: by default, and at most.
const PAGE: (u32, u32) = (100, 500);
/// Bytes of a value that are shown: by default, and at most.
const VALUE_BYTES: (usize, usize) = (64 << 10, 1 << 20);

pub(super) async fn list(ask: Ask) -> Answer {
    let asked = &ask.asked;
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let select = match (some(&asked.prefix), some(&asked.pattern)) {
        (Some(_), Some(_)) => {
            let why = "there are both a prefix and a pattern; ask with one of them";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "INVALID", why));
        }
        (_, Some(pattern)) => Select::Pattern(pattern.into()),
        (prefix, None) => Select::Prefix(prefix.unwrap_or_default().into()),
    };
    let cursor = from_b64(asked.cursor.as_deref().unwrap_or_default(), "the cursor")?;
    let request = ask.request(v1::ListRequest {
        namespace: ask.namespace(),
        selector: Some(v1::KeySelector { select: Some(select) }),
        cursor: cursor.into(),
        show: v1::Show::Keys.into(),
        limit: asked.limit(PAGE.0, PAGE.1),
        consistency: ask.consistency(),
        min_revision: 0,
    });
    let page = KvServiceClient::new(ask.services()).list(request).await?.into_inner();
    let keys: Vec<Value> = page.entries.iter().map(told).collect();
    let cursor = (!page.cursor.is_empty()).then(|| b64(&page.cursor));
    Ok(Told(json!({"keys": keys, "cursor": cursor, "revision": page.revision.to_string()})))
}

fn told(entry: &v1::KvEntry) -> Value {
    json!({
        "key": text(&entry.key),
        "key_b64": b64(&entry.key),
        "version": entry.version,
        "mod_revision": entry.mod_revision.to_string(),
        "remaining_ttl_ms": entry.remaining_ttl_ms,
    })
}

pub(super) async fn get(ask: Ask, Path(key): Path<String>) -> Answer {
    let key = from_b64(&key, "the key")?;
    let request = ask.request(v1::GetRequest {
        namespace: ask.namespace(),
        key: key.clone().into(),
        consistency: ask.consistency(),
        min_revision: 0,
    });
    // A value may be as large as the node lets it be.
    let mut kv = KvServiceClient::new(ask.services()).max_decoding_message_size(usize::MAX);
    let found = kv.get(request).await?.into_inner();
    let Some(mut entry) = found.entry else {
        let why = "there is no such key, or not any more";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "KEY_UNKNOWN", why));
    };
    entry.key = key.into();
    let most = ask.asked.bytes_max.unwrap_or(VALUE_BYTES.0).min(VALUE_BYTES.1);
    let shown = &entry.value[..entry.value.len().min(most)];
    let mut answer = told(&entry);
    answer["value_b64"] = b64(shown).into();
    answer["value_bytes"] = entry.value.len().into();
    answer["create_revision"] = entry.create_revision.to_string().into();
    answer["revision"] = found.revision.to_string().into();
    Ok(Told(answer))
}

//! What the cache holds, and what this node read of it.

use super::answer::{Answer, Told};
use super::ask::Ask;
use quorate_proto::v1;
use quorate_proto::v1::cache_service_client::CacheServiceClient;
use serde_json::json;

pub(super) async fn get(ask: Ask) -> Answer {
    let request = ask.request(v1::CacheStatsRequest { namespace: ask.namespace() });
    let stats = CacheServiceClient::new(ask.services()).stats(request).await?.into_inner();
    Ok(Told(json!({
        "entries": stats.entries,
        "bytes": stats.bytes,
        "bytes_max": stats.bytes_max,
        "builds": stats.builds,
        "hits": stats.hits,
        "stale_hits": stats.stale_hits,
        "misses": stats.misses,
        "evicted": stats.evicted,
        "waits": ask.dashboard.context.counters().cache.waits.get(),
        "node_id": stats.node_id.to_string(),
        "revision": stats.revision.to_string(),
    })))
}

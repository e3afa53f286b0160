//! Who subscribes to what, and what this node counts of the bus.

use super::answer::{Answer, Told, some_text};
use super::ask::Ask;
use quorate_proto::v1;
use quorate_proto::v1::bus_service_client::BusServiceClient;
use quorate_state::glob::Pattern;
use serde_json::{Value, json};

/// Channels of a page: by default, and at most.
const PAGE: (u32, u32) = (100, 200);

pub(super) async fn list(ask: Ask) -> Answer {
    let request = ask.request(v1::BusListChannelsRequest {
        namespace: ask.namespace(),
        pattern: ask.asked.pattern.clone().unwrap_or_default(),
        cursor: ask.asked.cursor.clone().unwrap_or_default(),
        limit: ask.asked.limit(PAGE.0, PAGE.1),
    });
    let page = BusServiceClient::new(ask.services()).list_channels(request).await?.into_inner();
    let channels: Vec<Value> = page.channels.iter().map(told).collect();
    let context = &ask.dashboard.context;
    let bus = &context.counters().bus;
    Ok(Told(json!({
        "channels": channels,
        "cursor": some_text(page.cursor),
        "epoch": page.epoch,
        "node": {
            "node_id": context.replica().node_id().0.to_string(),
            "subscriptions": bus.subscriptions.get(),
            "requests_waiting": bus.requests.get(),
            "published": bus.published.get(),
            "received": bus.received.get(),
            "delivered": bus.delivered.get(),
            "slow_cut": bus.slow_cut.get(),
            "gaps": bus.gaps.get(),
        },
    })))
}

fn told(channel: &v1::BusChannelEntry) -> Value {
    // Whatever can't be read as one is taken for a name.
    let is_pattern =
        Pattern::parse(channel.pattern.as_bytes()).is_ok_and(|pattern| pattern.literal().is_none());
    json!({
        "pattern": channel.pattern,
        "is_pattern": is_pattern,
        "subscribers": channel.subscribers,
        "nodes": channel.nodes,
        "queue_groups": channel.queue_groups,
        "members": channel.members,
        "last_sequence": channel.last_sequence,
    })
}

//! `quorate bus sub`: a line for each message.

use super::put_content;
use crate::commands::kv;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::{Output, id};
use anyhow::anyhow;
use clap::Args;
use quorate_client::Message;
use quorate_client::bus::{BusEvent, Subscription};
use serde_json::{Map, Value, json};

const AFTER_HELP: &str = "\
A line has the channel, epoch, sequence and payload, with tabs between them; what is not text is
escaped. With -o json it is an object with these and more; a payload that is not UTF-8 is
payload_base64. Where messages are missing, because they came too fast or a node failed, a line on
stderr says so; with -o json it is an object on stdout, {\"gap\":3}, or {\"gap\":null} when their number
is not known.

It says on stderr when it has begun: what is published after that will come. It goes on at another
node when its own fails. Without --count it ends with Ctrl-C, or when --timeout is over.

Patterns: * any run of characters, ? one, [a-c] a class, \\ takes the next as it is. `user.*` has
user.created and also user.profile.updated. A message that several of them match comes once.

Example:
  quorate bus sub 'user.*' order.paid --count 1 --timeout 30s -o json";

/// `quorate bus sub`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Subscribe {
    /// Channels, or patterns of them, up to 64
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// End after so many messages; exit status 1 when --timeout is over before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Of all subscriptions with the same group, one gets each message
    #[arg(long, value_name = "GROUP")]
    queue_group: Option<String>,
}

impl Subscribe {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let mut shown = 0;
        connect.run(async |client| {
            let lines = async {
                let subscribe = client.bus().subscribe(self.patterns.iter().cloned());
                let subscribe = match &self.queue_group {
                    Some(group) => subscribe.queue_group(group),
                    None => subscribe,
                };
                let mut subscription = subscribe.await?;
                output.note(&format!("subscribed: {}", self.patterns.join(" ")));
                show(&mut subscription, self.count, &mut shown, output).await
            };
            let Some(timeout) = connect.timeout_said() else { return lines.await };
            match (tokio::time::timeout(timeout, lines).await, self.count) {
                (Ok(ended), _) => ended,
                (Err(_), None) => Ok(()),
                (Err(_), Some(count)) => Err(anyhow!(
                    "timeout: {shown} of {count} messages came in {timeout:?}; no more were \
                     published, or no node could be reached"
                )
                .into()),
            }
        })
    }
}

async fn show(
    subscription: &mut Subscription,
    count: Option<u64>,
    shown: &mut u64,
    output: Output,
) -> Result<(), Failure> {
    while count.is_none_or(|count| *shown < count)
        && let Some(event) = subscription.next().await
    {
        match event? {
            BusEvent::Message(message) => {
                output.result(|| document(&message), || line(&message))?;
                *shown += 1;
            }
            BusEvent::Gap { missed, .. } if output.is_json() => {
                output.line(&json!({ "gap": missed.map(id) }).to_string())?;
            }
            BusEvent::Gap { missed, .. } => output.note(&gap(missed)),
            _ => {}
        }
    }
    Ok(())
}

fn document(message: &Message) -> Value {
    let mut object = Map::new();
    object.insert("channel".to_owned(), message.channel.as_str().into());
    object.insert("epoch".to_owned(), id(message.epoch));
    object.insert("sequence".to_owned(), id(message.sequence));
    object.insert("position".to_owned(), id(message.position));
    let Message { payload, content_type, headers, .. } = message;
    put_content(&mut object, payload, content_type, headers);
    if message.wants_reply() {
        object.insert("wants_reply".to_owned(), true.into());
    }
    object.into()
}

fn line(message: &Message) -> String {
    let channel = kv::text(message.channel.as_bytes());
    let payload = kv::text(&message.payload);
    format!("{channel}\t{}\t{}\t{payload}", message.epoch, message.sequence)
}

fn gap(missed: Option<u64>) -> String {
    match missed {
        Some(missed) => format!("gap: {missed} messages are missing"),
        None => "gap: messages may be missing, nobody knows how many".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_says_how_many_are_missing_if_that_is_known() {
        assert_eq!(gap(Some(3)), "gap: 3 messages are missing");
        assert!(gap(None).contains("may be missing"));
        assert_eq!(json!({ "gap": None.map(id) }).to_string(), r#"{"gap":null}"#);
    }
}

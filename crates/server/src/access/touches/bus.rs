//! What requests about messages touch.

use super::{Action, See, Service, Touch, Touches, What, named, wide};
use quorate_proto::v1;

named! { Bus:
    BusPublishRequest => Publish channel,
    BusRequestRequest => Publish channel,
}

wide! { Bus:
    BusListChannelsRequest => Read |asked| match asked.pattern.is_empty() {
        true => What::All,
        false => What::Glob(asked.pattern.as_bytes()),
    },
    // Whoever heard the question has the address for the answer.
    BusReplyRequest => Consume |_asked| What::Some,
}

impl Touches for v1::BusPublishAllRequest {
    fn touches(&self, see: &mut See<'_>) {
        for message in &self.messages {
            let (service, action) = (Service::Bus, Action::Publish);
            let what = What::Name(message.channel.as_bytes());
            see(Touch { service, action, namespace: &self.namespace, what });
        }
    }
}

impl Touches for v1::BusSubscribeRequest {
    fn touches(&self, see: &mut See<'_>) {
        for pattern in &self.patterns {
            let (service, action) = (Service::Bus, Action::Consume);
            let what = What::Glob(pattern.as_bytes());
            see(Touch { service, action, namespace: &self.namespace, what });
        }
    }
}

/** Subscriptions by pattern: all events of users, and all errors, whoever they are from. */
import { type BrokerBus, Client } from "@quorate/client";

interface Event {
  text: string;
}

class EventHandler {
  userEventsSeen = 0;
  errorEventsSeen = 0;

  constructor(private bus: BrokerBus) {}

  async setupSubscriptions(changed: () => void) {
    // Subscribe to all user events
    const userEvents = await this.bus.subscribe<Event>("user.*");

    // Subscribe to all error events
    const errorEvents = await this.bus.subscribe<Event>("*.error");

    userEvents.subscribe((message, { channel }) => {
      console.log(`User event on ${channel}: ${message.text}`);
      this.userEventsSeen += 1;
      changed();
    });

    errorEvents.subscribe((message, { channel }) => {
      console.log(`Error event on ${channel}: ${message.text}`);
      this.errorEventsSeen += 1;
      changed();
    });
  }
}

const client = new Client({ namespace: "channel-patterns" });
const handler = new EventHandler(client.bus);

let allSeen!: () => void;
const seen = new Promise<void>((resolve) => (allSeen = resolve));
await handler.setupSubscriptions(() => {
  if (handler.userEventsSeen === 3 && handler.errorEventsSeen === 2) allSeen();
});

await client.bus.publish("user.created", { text: "Ann has joined" });
// `*` is any run of characters, dots too.
await client.bus.publish("user.profile.updated", { text: "Ann has a picture" });
await client.bus.publish("payment.error", { text: "the card was refused" });
// Both patterns have this one, and each of the two subscriptions gets it.
await client.bus.publish("user.error", { text: "Ann could not log in" });
const { subscribers } = await client.bus.publish("order.created", { text: "nobody listens to this" });
await seen;
console.log(`3 user events and 2 error events; order.created went to ${subscribers} subscribers.`);

await client.close();

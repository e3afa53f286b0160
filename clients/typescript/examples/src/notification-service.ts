/** Notifications between processes: published on the bus, received by whoever subscribes. */
import { type BrokerBus, Client } from "@quorate/client";

interface Notification {
  userId: number;
  message: string;
  /** A `Date` when it is published; text when it arrives, as JSON has it. */
  timestamp: Date | string;
}

class NotificationService {
  constructor(private bus: BrokerBus) {}

  async publishNotification(userId: number, message: string) {
    await this.bus.publish("user.notification", {
      userId,
      message,
      timestamp: new Date(),
    });
  }

  async subscribeToNotifications() {
    const subscription = await this.bus.subscribe<Notification>("user.notification");

    subscription.subscribe((message) => {
      console.log(`Received notification for user ${message.userId}: ${message.message}`);
    });

    return subscription;
  }
}

const client = new Client({ namespace: "notification-service" });
const service = new NotificationService(client.bus);

const subscription = await service.subscribeToNotifications();
// A subscription may have several callbacks; this one counts, so that the program knows when to end.
const allReceived = new Promise<void>((resolve) => {
  let received = 0;
  subscription.subscribe(() => {
    received += 1;
    if (received === 3) resolve();
  });
});

await service.publishNotification(7, "your order was packed");
await service.publishNotification(7, "your order was sent");
await service.publishNotification(8, "welcome");
await allReceived;
console.log("All 3 notifications have arrived.");

await client.close();

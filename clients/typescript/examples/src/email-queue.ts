/**
 * E-mails that are sent in the background: whoever wants one sent does not wait, and no e-mail is lost
 * when a worker or a node fails. Takes the number of e-mails: `node dist/email-queue.js 500`.
 */
import { type BrokerQueue, Client } from "@quorate/client";

interface Email {
  to: string;
  subject: string;
  body: string;
  timestamp: Date | string;
}

class EmailService {
  /** A job is delivered at least once; what was sent is remembered, so that it is sent once. */
  readonly sent = new Set<string>();

  constructor(
    private queue: BrokerQueue,
    private changed: () => void = () => {},
  ) {}

  async sendEmailAsync(to: string, subject: string, body: string) {
    // Add email to queue for background processing
    await this.queue.add("email.send", {
      to,
      subject,
      body,
      timestamp: new Date(),
    });
  }

  async processEmailQueue() {
    const subscription = await this.queue.subscribe<Email>("email.send");

    return subscription.subscribe(async (job) => {
      try {
        await this.sendEmailNow(job.data);
        await job.ack(); // Acknowledge successful processing
      } catch (error) {
        console.error("Email sending failed:", error);
        await job.nack(); // Negative acknowledgment
      }
    });
  }

  private async sendEmailNow(emailData: Email) {
    // Actual email sending logic
    if (this.sent.has(emailData.to)) return;
    this.sent.add(emailData.to);
    console.log(`Sending email to ${emailData.to}`);
    this.changed();
  }
}

const count = Number(process.argv[2] ?? 3);
const client = new Client({ namespace: "email-queue" });
await client.queue.purge("email.send").catch(() => {}); // of an earlier run that was interrupted

let allSent!: () => void;
const done = new Promise<void>((resolve) => (allSent = resolve));
const service = new EmailService(client.queue, () => {
  if (service.sent.size === count) allSent();
});

const consumption = await service.processEmailQueue();
for (let number = 1; number <= count; number++) {
  await service.sendEmailAsync(`user${number}@example.org`, "Hello", "How are you?");
}
console.log(`All ${count} emails are queued.`);
await done;
await consumption.stop(); // waits until the last one is acknowledged

const { ready, leased, delayed } = await client.queue.stats("email.send");
console.log(`All ${count} emails were sent, and ${ready + leased + delayed} jobs are left.`);
await client.close();

/**
 * An application of the framework: it sends letters. Producers and workers are processes of their own. Which
 * broker it has is one import, by the environment; all else is the same source.
 *
 * `app.js send FROM COUNT` produces jobs, `app.js work` handles them until it is told to stop, and
 * `app.js server:start` starts the framework's server, with a broker where the config says so.
 */
import { App } from "@deepkit/app";
import { BrokerCache, BrokerKeyValue, BrokerQueue } from "@deepkit/broker";
import { FrameworkModule } from "@deepkit/framework";
import { quorateBroker } from "@quorate/deepkit/framework";

interface Letter {
  id: number;
  to: string;
  written: Date;
}

interface Template {
  text: string;
  builder: number;
}

class PostOffice {
  constructor(
    private queue: BrokerQueue,
    private cache: BrokerCache,
    private keyValue: BrokerKeyValue,
  ) {}

  /** Hands in letters, one after the other. */
  async send(from: number, count: number): Promise<void> {
    const letters = this.queue.channel<Letter>("letters");
    for (let id = from; id < from + count; id++) {
      const letter = { id, to: `person-${id}@example.org`, written: new Date() };
      await letters.produce(letter);
      // For a broker that loses what a busy consumer can't take at once.
      while (process.env["CAREFUL"] !== undefined && !(await this.#delivered(id))) await letters.produce(letter);
      console.log(`sent ${id}`);
    }
  }

  /** Delivers letters until it is told to stop. */
  async work(): Promise<void> {
    const letters = this.queue.channel<Letter>("letters");
    const template = this.cache.item<Template>("template", () => this.#makeTemplate(), { ttl: "10m" });
    const release = await letters.consume(async ({ data }) => {
      const { text, builder } = await template.get();
      await this.keyValue.set<string>(`delivered/${data.id}`, `${text} ${data.to} (template of ${builder})`);
      console.log(`delivered ${data.id} ${data.written instanceof Date}`);
    });
    console.log("works");
    await new Promise((resolve) => process.stdin.once("end", resolve).resume());
    await release();
  }

  async #makeTemplate(): Promise<Template> {
    await this.keyValue.increment("templates", 1);
    return { text: "Dear", builder: process.pid };
  }

  async #delivered(id: number): Promise<boolean> {
    for (let looks = 0; looks < 50; looks++) {
      if ((await this.keyValue.get<string>(`delivered/${id}`)) !== undefined) return true;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return false;
  }
}

const quorate = process.env["BROKER"] === "quorate";
const app = new App({
  providers: [PostOffice],
  imports: [new FrameworkModule({ debug: false }), ...(quorate ? [quorateBroker({ sessionTtlMs: 5_000 })] : [])],
});
app.command("send", async (from: number, count: number, office: PostOffice) => office.send(from, count));
app.command("work", async (office: PostOffice) => office.work());
app.loadConfigFromEnv({ prefix: "APP_" }).run();

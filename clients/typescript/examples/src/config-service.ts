/** Configuration that all processes share, in the key-value store. */
import { type BrokerKeyValue, Client } from "@quorate/client";

class ConfigService {
  constructor(private kv: BrokerKeyValue) {}

  async setConfig(key: string, value: unknown) {
    await this.kv.set(`config:${key}`, value);
  }

  async getConfig<T = unknown>(key: string, defaultValue?: T): Promise<T | undefined> {
    const value = await this.kv.get<T>(`config:${key}`);
    return value !== undefined ? value : defaultValue;
  }

  async getAllConfigs() {
    return await this.kv.getPattern("config:*");
  }
}

const client = new Client({ namespace: "config-service" });
const service = new ConfigService(client.kv);
await client.kv.deletePattern("config:*");

// Another process would hear of changes like this, without asking again and again.
const changes = await client.kv.watch<unknown>("config:*");

await service.setConfig("theme", "dark");
await service.setConfig("limits", { uploads: 5 });
console.log(`The theme is ${await service.getConfig("theme", "light")}.`);
console.log(`The language is ${await service.getConfig("language", "English")}, since none is set.`);
console.log(`All of it: ${JSON.stringify(await service.getAllConfigs())}`);

const heard: string[] = [];
for await (const { events } of changes) {
  for (const event of events) heard.push(event.key);
  if (heard.length >= 2) break;
}
console.log(`Heard of changes to ${heard.join(" and ")}.`);

await client.close();

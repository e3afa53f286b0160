/** Users in the cache, and a database behind it that is asked only when the cache has nothing. */
import { type BrokerCache, Client } from "@quorate/client";

interface User {
  id: number;
  name: string;
}

class CacheService {
  /** How often the slow way was taken. */
  databaseReads = 0;

  constructor(private cache: BrokerCache) {}

  async cacheUser(userId: number, userData: User) {
    // Cache for 1 hour (3600 seconds)
    await this.cache.set(`user:${userId}`, userData, 3600);
  }

  async getUser(userId: number) {
    return await this.cache.get<User>(`user:${userId}`);
  }

  async invalidateUser(userId: number) {
    await this.cache.delete(`user:${userId}`);
  }

  async getUserWithFallback(userId: number) {
    let user = await this.cache.get<User>(`user:${userId}`);

    if (!user) {
      user = await this.loadUserFromDatabase(userId);
      await this.cache.set(`user:${userId}`, user, 3600);
    }

    return user;
  }

  /** The same in one call: of all who miss it at once, in all processes, one loads it. */
  async getUserBuiltOnce(userId: number) {
    return await this.cache.getOrBuild<User>(`user:${userId}`, () => this.loadUserFromDatabase(userId), 3600);
  }

  private async loadUserFromDatabase(userId: number): Promise<User> {
    this.databaseReads += 1;
    return { id: userId, name: `user number ${userId}` };
  }
}

const client = new Client({ namespace: "user-cache" });
const service = new CacheService(client.cache);
await client.cache.deletePattern("*");

await service.cacheUser(7, { id: 7, name: "Ann" });
console.log(`Cached: ${(await service.getUser(7))?.name}.`);

await service.invalidateUser(7);
console.log(`After invalidating: ${(await service.getUser(7))?.name ?? "nothing"}.`);

const first = await service.getUserWithFallback(7);
const second = await service.getUserWithFallback(7);
console.log(`With fallback: ${first.name}, then ${second.name}; the database was read ${service.databaseReads} time.`);

const many = await Promise.all(Array.from({ length: 20 }, () => service.getUserBuiltOnce(8)));
console.log(`${many.length} at once want user 8; the database was read ${service.databaseReads - 1} time for them.`);

await client.close();

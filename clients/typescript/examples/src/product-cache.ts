/** A list that is expensive to make, cached for half an hour, and cleared together with all like it. */
import { type BrokerCache, Client } from "@quorate/client";

interface Product {
  name: string;
  sold: number;
}

class ProductService {
  calculations = 0;

  constructor(private cache: BrokerCache) {}

  async getPopularProducts() {
    const cacheKey = "products:popular";
    let products = await this.cache.get<Product[]>(cacheKey);

    if (!products) {
      products = await this.calculatePopularProducts();
      // Cache for 30 minutes
      await this.cache.set(cacheKey, products, 1800);
    }

    return products;
  }

  async invalidateProductCache() {
    // Clear all product-related cache entries
    return await this.cache.deletePattern("products:*");
  }

  private async calculatePopularProducts(): Promise<Product[]> {
    this.calculations += 1;
    return [
      { name: "umbrella", sold: 30 + this.calculations },
      { name: "kettle", sold: 20 },
    ];
  }
}

const client = new Client({ namespace: "product-cache" });
const service = new ProductService(client.cache);
await client.cache.deletePattern("*");

await service.getPopularProducts();
const [product] = await service.getPopularProducts();
console.log(`Asked twice, calculated ${service.calculations} time: the most popular is the ${product?.name}.`);

await client.cache.set("products:new", [], 1800);
await client.cache.set("orders:today", 12, 1800);
console.log(`Invalidated ${await service.invalidateProductCache()} entries of products.`);
console.log(`What is not a product is still cached: ${await client.cache.get("orders:today")} orders.`);

await service.getPopularProducts();
console.log(`Asked again, calculated ${service.calculations} times in all.`);

await client.close();

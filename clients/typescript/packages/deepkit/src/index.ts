/** Quorate as the broker of Deepkit applications. With the framework itself: `@quorate/deepkit/framework`. */
export { QuorateBrokerAdapter } from "./adapter.js";
export type { QuorateBrokerOptions } from "./adapter.js";
export type { Report } from "./report.js";
export { QuorateCache } from "./get-or-build.js";

/** Quorate in an application of the framework: one import takes the place of the broker it has. */
import { AppModule, onAppShutdown, type FunctionalModule } from "@deepkit/app";
import { BrokerBus, BrokerCache, BrokerDeepkitAdapter, BrokerKeyValue, BrokerLock, BrokerQueue } from "@deepkit/broker";
import { BrokerServer, FrameworkModule, onServerWorkerShutdown } from "@deepkit/framework";
import { QuorateBrokerAdapter, type QuorateBrokerOptions } from "./adapter.js";
import { QuorateCache } from "./get-or-build.js";
import { QuorateServer, addressOf, isAddress, type QuorateServerOptions } from "./server.js";

export { QuorateServer } from "./server.js";
export type { QuorateServerOptions } from "./server.js";

/** How the broker of an application is set up. What is not said here is as the framework's config says. */
export interface QuorateModuleOptions
  extends Omit<QuorateBrokerOptions, "endpoints" | "client">,
    Omit<QuorateServerOptions, "arguments"> {
  /** Starts a broker of one node with the application, in its main process. Default: the framework's. */
  readonly startOnBootstrap?: boolean | undefined;
  /** Where that broker listens, `host:port`. Default: the framework's, else `127.0.0.1:8811`. */
  readonly listen?: string | undefined;
  /**
   * The nodes to connect to, each `host:port`. Default: the framework's; where that is the path of a
   * socket the broker that is started, else the environment variable `QUORATE_ENDPOINTS`.
   */
  readonly host?: string | readonly string[] | undefined;
}

/** What of the framework's config is looked at. */
interface BrokerConfig {
  readonly listen: string;
  readonly host: string | readonly string[];
  startOnBootstrap: boolean;
}

/**
 * Makes Quorate the broker of an application: all that asks for `BrokerBus`, `BrokerQueue`, `BrokerCache`,
 * `BrokerLock` or `BrokerKeyValue` has it.
 *
 * ```ts
 * new App({ imports: [new FrameworkModule({ broker: { host: ["10.0.0.1:8811", "10.0.0.2:8811"] } }), quorateBroker()] });
 * ```
 */
export function quorateBroker(options: QuorateModuleOptions = {}): FunctionalModule {
  return (module) => {
    module.name = "quorate";
    // Everything is imported by then, and nothing is built yet.
    module.setup(() => install(module, options));
  };
}

function install(module: AppModule<any>, options: QuorateModuleOptions): void {
  const root = rootOf(module);
  const framework = findFramework(root);
  if (framework === undefined) {
    throw new Error("quorateBroker() is imported without the FrameworkModule; import that, too, or use QuorateBrokerAdapter");
  }
  // The framework's own listener starts and ends the broker; its config may be loaded after this.
  const tell = (config: { broker: BrokerConfig }) => {
    if (options.startOnBootstrap !== undefined) config.broker.startOnBootstrap = options.startOnBootstrap;
  };
  framework.setupConfig((_, config) => tell(config));
  tell(framework.config);
  let made: Broker | undefined;
  const broker = () => (made ??= brokerOf(framework.config.broker, options));
  root.addProvider(
    { provide: BrokerDeepkitAdapter, useFactory: () => broker().adapter },
    { provide: BrokerServer, useFactory: () => broker().server },
    { provide: BrokerCache, useFactory: () => new QuorateCache(broker().quorate) },
    { provide: BrokerLock, useFactory: () => new BrokerLock(broker().adapter) },
    { provide: BrokerQueue, useFactory: () => new BrokerQueue(broker().adapter) },
    { provide: BrokerBus, useFactory: () => new BrokerBus(broker().adapter) },
    { provide: BrokerKeyValue, useFactory: () => new BrokerKeyValue(broker().adapter) },
  );
  // The debugger has a bus of its own, by which it would talk to a broker of the framework.
  for (const provider of framework.getProviders()) {
    if (typeof provider !== "function" || !(provider.prototype instanceof BrokerBus)) continue;
    root.addProvider({ provide: provider, useFactory: () => new BrokerBus(lent(broker().adapter)) });
  }
  // The main process is told by the framework to disconnect; its workers, and commands, are not.
  const disconnect = async () => void (await made?.adapter.disconnect());
  root.addListener(onServerWorkerShutdown.listen(disconnect), onAppShutdown.listen(disconnect));
}

interface Broker {
  readonly quorate: QuorateBrokerAdapter;
  readonly adapter: BrokerDeepkitAdapter;
  readonly server: BrokerServer;
}

function brokerOf(config: BrokerConfig, options: QuorateModuleOptions): Broker {
  const { startOnBootstrap, listen, host, dataDir, binary, ...adapterOptions } = options;
  const server = new QuorateServer({ listen: listen ?? config.listen, dataDir, binary });
  const starts = startOnBootstrap ?? config.startOnBootstrap;
  // From the environment a list comes as one text.
  const named = [host ?? config.host].flat().flatMap((one) => one.split(","));
  const hosts = named.map((one) => one.trim()).filter(isAddress).map(addressOf);
  const endpoints = hosts.length > 0 ? hosts : starts ? [server.listen] : undefined;
  const adapter = new QuorateBrokerAdapter({ ...adapterOptions, endpoints });
  const disconnect = adapter.disconnect.bind(adapter);
  // The framework ends its broker before it disconnects, and waits for the latter only. Here what is under
  // way is ended first, and then the broker.
  adapter.disconnect = async () => {
    await disconnect();
    await server.stop();
  };
  // Their classes are what the framework asks for by name; it uses them as it does the interfaces.
  return {
    quorate: adapter,
    adapter: adapter as unknown as BrokerDeepkitAdapter,
    server: { start: () => server.start(), close: () => {} } as unknown as BrokerServer,
  };
}

/** An adapter that is not disconnected by who has it. */
function lent(adapter: BrokerDeepkitAdapter): BrokerDeepkitAdapter {
  return new Proxy(adapter, {
    get(target, name) {
      if (name === "disconnect") return async () => {};
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

function rootOf(module: AppModule<any>): AppModule<any> {
  let root = module;
  for (let parent = root.getParent(); parent instanceof AppModule; parent = root.getParent()) root = parent;
  return root;
}

function findFramework(module: AppModule<any>): FrameworkModule | undefined {
  if (module instanceof FrameworkModule) return module;
  for (const imported of module.getImports()) {
    const found = findFramework(imported);
    if (found !== undefined) return found;
  }
  return undefined;
}

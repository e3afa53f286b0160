/**
 * `Symbol.asyncDispose` where the runtime does not have it yet (Node.js before 18.18), so that
 * `await using` works wherever TypeScript compiles it.
 */
const symbol = Symbol as { asyncDispose?: symbol };
if (symbol.asyncDispose === undefined) {
  Object.defineProperty(Symbol, "asyncDispose", { value: Symbol.for("Symbol.asyncDispose") });
}

export {};

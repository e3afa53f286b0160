/** `Symbol.asyncDispose`, also where the runtime does not have it yet. */
const symbol = Symbol as { asyncDispose?: symbol };
if (symbol.asyncDispose === undefined) {
  Object.defineProperty(Symbol, "asyncDispose", { value: Symbol.for("Symbol.asyncDispose") });
}

export {};

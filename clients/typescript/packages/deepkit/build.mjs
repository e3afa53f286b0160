/**
 * Compiles a project of TypeScript with the types that Deepkit has at run time: `node build.mjs tsconfig.json`.
 *
 * Deepkit's own way is to rewrite the compiler that is installed, which here is that of the other packages
 * as well; as a transformer it does the same.
 */
import { transformer } from "@deepkit/type-compiler";
import ts from "typescript";

const [project] = process.argv.slice(2);
if (project === undefined) throw new Error("usage: node build.mjs TSCONFIG");

const host = {
  ...ts.sys,
  onUnRecoverableConfigFileDiagnostic(diagnostic) {
    throw new Error(ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n"));
  },
};
const config = ts.getParsedCommandLineOfConfigFile(project, {}, host);
const program = ts.createProgram({
  rootNames: config.fileNames,
  options: config.options,
  projectReferences: config.projectReferences,
  configFileParsingDiagnostics: config.errors,
});
const diagnostics = [
  ...ts.getPreEmitDiagnostics(program),
  ...program.emit(undefined, undefined, undefined, false, { before: [transformer] }).diagnostics,
];
if (diagnostics.length > 0) {
  console.error(
    ts.formatDiagnostics(diagnostics, {
      getCurrentDirectory: () => process.cwd(),
      getCanonicalFileName: (name) => name,
      getNewLine: () => "\n",
    }),
  );
  process.exitCode = 1;
}

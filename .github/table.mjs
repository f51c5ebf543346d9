// Makes one table of the reports of `gpu-gan verify --json` from several adapters: node table.mjs REPORT.json...
//
// The table has a row for each operation; a cell is the largest error of an element, as a share of its bound. Exits with 1 if a report
// is missing, did not pass, or lacks an operation that another report has.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

const files = process.argv.slice(2);
const problems = files.length === 0 ? ['no report was given'] : [];
const reports = [];
for (const file of files) {
    const name = basename(file, '.json');
    try {
        const report = JSON.parse(readFileSync(file, 'utf8'));
        if (!Array.isArray(report.operations) || report.operations.length === 0) {
            throw new Error('it has no operations');
        }
        reports.push({ name, ...report });
        if (report.passed !== true) {
            problems.push(`${name}: verify did not pass`);
        }
    } catch (error) {
        problems.push(`${name}: no report: ${error.message}`);
    }
}

const plain = (text) => String(text).replaceAll('|', '\\|').replaceAll('\n', ' ');
const line = (cells) => `| ${cells.map(plain).join(' | ')} |`;
const percent = (share) => (Number.isFinite(share) ? `${Math.round(100 * share)} %` : 'not a number');
const verdict = (report, operation) => {
    const row = report.operations.find((row) => row.operation === operation);
    if (row === undefined) {
        problems.push(`${report.name}: ${operation} was not run`);
        return 'not run';
    }
    if (row.failed !== 0) {
        problems.push(`${report.name}: ${operation} fails: ${row.complaints[0]}`);
        return `${row.failed} of ${row.cases} FAILED`;
    }
    return percent(row.share);
};
const step = (report, model) => {
    const found = (report.steps ?? []).find((step) => step.model === model);
    return found === undefined ? '' : found.complaints.length > 0 ? 'FAILED' : percent(found.share);
};

const operations = [...new Set(reports.flatMap((report) => report.operations.map((row) => row.operation)))];
const models = [...new Set(reports.flatMap((report) => (report.steps ?? []).map((step) => step.model)))];
const whys = new Map(reports.flatMap((report) => report.operations.map((row) => [row.operation, row.why])));
console.log(line(['', ...reports.map((report) => report.name), 'where the bound comes from']));
console.log(line(['---', ...reports.map(() => '---:'), '---']));
console.log(line(['adapter', ...reports.map((report) => report.device), '']));
console.log(line(['driver', ...reports.map((report) => report.driver), '']));
for (const operation of operations) {
    console.log(line([operation, ...reports.map((report) => verdict(report, operation)), whys.get(operation)]));
}
for (const model of models) {
    const why = 'three times as far from f64 as f32 on the CPU';
    console.log(line([`one step of ${model}`, ...reports.map((report) => step(report, model)), why]));
}
const repeats = (report) => (report.repeated ?? []).join(', ') || 'none';
console.log(line(['two runs with equal bits', ...reports.map(repeats), '']));
console.log(line(['scope, seconds', ...reports.map(({ scope, seconds }) => `${scope}, ${Math.round(seconds)}`), '']));
console.log(line(['passed', ...reports.map((report) => (report.passed === true ? 'yes' : 'NO')), '']));
for (const problem of problems) {
    console.log(`\n**${plain(problem)}**`);
}
process.exitCode = problems.length > 0 ? 1 : 0;

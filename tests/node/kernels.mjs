// Runs kernels in a browser's WebGPU: node kernels.mjs FOLDER BROWSER
//
// FOLDER has plan.json, the cases to run, and before.bin, the memory of all cases before they run. Writes after.bin, the memory
// afterwards, and report.json: the adapter, and all errors and warnings.
import { closeSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [folder, executablePath] = process.argv.slice(2);
const before = openSync(join(folder, 'before.bin'), 'r');
const after = openSync(join(folder, 'after.bin'), 'w');

// A page from localhost may use WebGPU and fetch the cases; a page from a file cannot fetch.
const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    const [offset, length] = ['offset', 'length'].map((name) => Number(searchParams.get(name)));
    if (pathname === '/') {
        response.setHeader('content-type', 'text/html').end('<!doctype html><script src="page.js"></script>');
    } else if (pathname === '/page.js') {
        response.setHeader('content-type', 'text/javascript').end(readFileSync(new URL('page.js', import.meta.url)));
    } else if (pathname === '/plan.json') {
        response.end(readFileSync(join(folder, 'plan.json')));
    } else if (pathname === '/before') {
        const bytes = Buffer.alloc(length);
        readSync(before, bytes, 0, length, offset);
        response.end(bytes);
    } else if (pathname === '/after') {
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        writeSync(after, Buffer.concat(chunks), 0, undefined, offset);
        response.end();
    } else {
        response.writeHead(404).end();
    }
});
server.listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));

const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
});
try {
    const page = await browser.newPage();
    await page.goto(`http://localhost:${server.address().port}/`);
    const report = await page.evaluate('runAll()');
    writeFileSync(join(folder, 'report.json'), JSON.stringify({ browser: browser.version(), ...report }));
} finally {
    await browser.close();
    server.close();
    closeSync(before);
    closeSync(after);
}

// Measures an exported page in a browser on SwiftShader: node speed.mjs PAGE BROWSER OUT
//
// Writes OUT as JSON. `firstImage`, `compiled` and `step` are from opening the page to the first image, the compilation of the kernels
// of a step, and a step: the seconds, and the CPU seconds of all processes of the browser. Other programs change the former, but hardly
// the latter; on a machine that does nothing else, something computes all the time, so that the former are not more than the latter.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const STEPS = 3;
const [path, executablePath, out] = process.argv.slice(2);

// CPU seconds that a process and its descendants have used.
function cpuSeconds(root) {
    const TICKS = 100; // a second, on every Linux
    const processes = new Map();
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
        try {
            const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
            // After the name, which may have spaces: state, parent, ...; user and system time are the 14th and 15th of all.
            const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ').map(Number);
            processes.set(Number(pid), { parent: fields[1], ticks: fields[11] + fields[12] });
        } catch {
            // It has ended.
        }
    }
    const isUnderRoot = (pid) => pid === root || (processes.has(pid) && isUnderRoot(processes.get(pid).parent));
    return [...processes].reduce((sum, [pid, { ticks }]) => sum + (isUnderRoot(pid) ? ticks / TICKS : 0), 0);
}

// Runs in the page. Asking again and again would take time of its own.
function firstImageDrawn() {
    let drawn = page.view.firstImage;
    return new Promise((resolve) => {
        if (drawn !== null) {
            resolve();
        }
        const set = (time) => {
            drawn = time;
            resolve();
        };
        Object.defineProperty(page.view, 'firstImage', { get: () => drawn, set });
    });
}

const server = await chromium.launchServer({
    executablePath,
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
});
try {
    const browser = await chromium.connect(server.wsEndpoint());
    const tab = await browser.newPage();
    tab.setDefaultTimeout(300_000);
    const timed = async (act) => {
        const [start, used] = [performance.now(), cpuSeconds(server.process().pid)];
        await act();
        return { seconds: (performance.now() - start) / 1000, cpu: cpuSeconds(server.process().pid) - used };
    };
    const firstImage = await timed(async () => {
        await tab.goto(pathToFileURL(resolve(path)).href);
        await tab.evaluate(firstImageDrawn);
    });
    // As the page counts it: since the browser asked for the file.
    firstImage.seconds = await tab.evaluate(() => page.view.firstImage / 1000);
    await tab.evaluate(() => page.started);
    const compiled = await timed(() => tab.evaluate(() => page.prepareTraining('both')));
    const steps = await timed(() =>
        tab.evaluate(async (count) => {
            for (let step = 0; step < count; step++) {
                page.player().run(page.manifest.gan.player.train.routines.both.plain);
                await page.player().finish();
            }
        }, STEPS),
    );
    const step = { seconds: steps.seconds / STEPS, cpu: steps.cpu / STEPS };
    writeFileSync(out, JSON.stringify({ browser: browser.version(), firstImage, compiled, step }));
} finally {
    await server.close();
}

// Opens an exported page in a browser and uses it as a person does: node demo.mjs PAGE BROWSER STEPS OUT [SCREENSHOTS]
//
// Writes OUT as JSON: what the console said, the time of the first image, the values of the first sheet, the networks before STEPS
// steps and the losses after them, what each button changed, and what a browser without WebGPU shows. Screenshots of the page go to
// the folder SCREENSHOTS, if there is one.
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const [path, executablePath, stepCount, out, screenshots] = process.argv.slice(2);
const address = pathToFileURL(resolve(path)).href;
const start = performance.now();
const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
});
try {
    const tab = await browser.newPage({ viewport: { width: 1200, height: 900 } });
    tab.setDefaultTimeout(120_000);
    const said = [];
    tab.on('console', (message) => ['error', 'warning'].includes(message.type()) && said.push(message.text()));
    tab.on('pageerror', (error) => said.push(String(error)));
    tab.on('request', (request) => /^(file|data|blob):/.test(request.url()) || said.push(`asked for ${request.url()}`));
    const shot = (name, tab_ = tab) => screenshots && tab_.screenshot({ path: join(screenshots, `${name}.png`), fullPage: name !== 'tour' });
    const text = (selector) => tab.textContent(selector);
    const idle = () => tab.evaluate(() => page.idle());
    const count = () => tab.evaluate(() => page.training.steps);

    await tab.goto(address);
    await tab.evaluate(() => page.started);
    const firstImage = await tab.evaluate(() => page.view.firstImage / 1000);
    const sheet = await tab.evaluate(() => [...page.view.values]);

    // Drawing: each action changes what a person sees.
    const seen = (id) => tab.evaluate((id) => document.getElementById(id).toDataURL(), id);
    const changes = {};
    const changed = async (name, id, act) => {
        const before = await seen(id);
        await act();
        await idle();
        changes[name] = (await seen(id)) !== before;
    };
    await shot('draw');
    await changed('other seeds', 'sheet', () => tab.click('#more'));
    await changed('a seed', 'sheet', () => tab.fill('#seed', '12').then(() => tab.press('#seed', 'Enter')));
    await changed('truncation', 'sheet', () => tab.fill('#truncation', '0.5'));
    await changed('class', 'sheet', () => tab.click('#classes button:nth-of-type(3)'));
    await changed('all classes', 'sheet', () => tab.click('#classes button:nth-of-type(2)'));
    await changed('classes of seeds', 'sheet', () => tab.click('#classes button:nth-of-type(1)'));
    await changed('picking', 'first', () => tab.click('#sheet', { position: { x: 60, y: 60 } }));
    await changed('way', 'between', () => tab.fill('#way', '0.1'));
    const plane = await tab.locator('#plane').boundingBox();
    await changed('dragging', 'live', async () => {
        await tab.mouse.move(plane.x + 20, plane.y + 20);
        await tab.mouse.down();
        await tab.mouse.move(plane.x + 150, plane.y + 60, { steps: 3 });
        await tab.mouse.up();
    });
    await changed('an arrow key', 'live', () => tab.press('#plane', 'ArrowLeft'));
    await changed('another plane', 'live', () => tab.click('#new-plane'));
    const [download] = await Promise.all([tab.waitForEvent('download'), tab.click('#save')]);
    const png = [...readFileSync(await download.path()).subarray(0, 4)];

    // Training: from the checkpoint, STEPS steps by themselves, then by the buttons.
    await tab.evaluate(() => page.prepareTraining());
    const prepared = (performance.now() - start) / 1000;
    const { networks, history } = await tab.evaluate(async (stepCount) => {
        const [player, { gan, tensors }] = [page.player(), page.manifest];
        const { routines, every, history } = gan.player.train;
        const names = Object.keys(tensors).filter((name) => /\.(params|running|ema)$/.test(name));
        const networks = {};
        for (const name of names) {
            networks[name] = [...(await player.read(name))[0]];
        }
        for (let step = gan.step + 1; step <= gan.step + stepCount; step++) {
            player.run(step % every === 0 && routines.both.penalised ? routines.both.penalised : routines.both.plain);
        }
        return { networks, history: [...(await player.read(history))[0]] };
    }, Number(stepCount));
    await tab.click('#reset');
    await idle();
    const stepped = (performance.now() - start) / 1000;
    const trained = {};
    for (const [kind, button] of [['one step', '#step'], ['discriminator', '#only-d'], ['generator', '#only-g'], ['both', '#play']]) {
        const before = await count();
        await tab.click(button);
        await tab.waitForFunction((before) => page.training.steps > before, before);
        if (kind !== 'one step') {
            await tab.click(button);
            await tab.waitForFunction(() => page.training.playing === null);
        }
        await idle();
        trained[kind] = (await count()) - before;
    }
    // The pace without what is around it.
    const perMinute = await tab.evaluate(async () => {
        const { routines } = page.manifest.gan.player.train;
        const begun = performance.now();
        let steps = 0;
        while (performance.now() - begun < 3000) {
            page.player().run(routines.both.plain);
            await page.player().finish();
            steps++;
        }
        return (60_000 * steps) / (performance.now() - begun);
    });
    const opinions = await tab.locator('.opinion').count();
    await shot('train');
    // The largest change of a weight of the generator in one step from the checkpoint, at 10^power times the run's learning rate.
    const largestChange = async (power) => {
        const weights = () => tab.evaluate(async () => [...(await page.player().read('generator.params'))[0]]);
        await tab.click('#reset');
        await idle();
        await tab.fill('#g-rate', power);
        await tab.dispatchEvent('#g-rate', 'change');
        await idle();
        const before = await weights();
        const steps = await count();
        await tab.click('#step');
        await tab.waitForFunction((steps) => page.training.steps > steps && page.training.kinds.size === 0, steps);
        await idle();
        const after = await weights();
        return after.reduce((most, weight, index) => Math.max(most, Math.abs(weight - before[index])), 0);
    };
    const weightChanges = [await largestChange('0'), await largestChange('1')];
    await tab.click('#reset');
    await idle();
    await changed('fresh weights', 'sheet', () => tab.click('#fresh'));
    await changed('the checkpoint', 'sheet', () => tab.click('#reset'));

    // The tour.
    await tab.click('#take-tour');
    const tour = [await text('#tour-title')];
    for (let stage = 1; stage < 6; stage++) {
        await idle();
        await tab.click('#tour-next');
        tour.push(await text('#tour-title'));
        if (stage === 1) {
            await idle();
            await shot('tour');
        }
    }
    await tab.click('#tour-end');
    await idle();

    // A phone.
    await tab.setViewportSize({ width: 390, height: 844 });
    const overflow = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    await shot('phone');

    // A lost device: the page opens it again, at the checkpoint.
    const messages = said.splice(0);
    await tab.click('#reset');
    await idle();
    const before = await tab.evaluate(() => [...page.view.values].join());
    await tab.evaluate(() => page.player().device.destroy());
    await tab.waitForFunction(() => /was lost and opened again/.test(document.getElementById('status').textContent));
    const recovered = (await tab.evaluate(() => [...page.view.values].join())) === before;

    // A browser without WebGPU.
    const other = await browser.newPage();
    await other.addInitScript(() => Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined }));
    await other.goto(address);
    await other.evaluate(() => page.started);
    const without = {
        status: await other.textContent('#status'),
        sheets: await other.locator('#fallback img').count(),
        visible: (await other.isVisible('#fallback')) && !(await other.isVisible('#main')),
    };
    await shot('without', other);
    const seconds = (performance.now() - start) / 1000;
    const times = { firstImage, prepared, stepped, seconds };
    const report = { browser: browser.version(), console: messages, ...times, sheet, networks, history, changes, png, trained };
    writeFileSync(out, JSON.stringify({ ...report, perMinute, weightChanges, opinions, tour, overflow, recovered, without }));
} finally {
    await browser.close();
}

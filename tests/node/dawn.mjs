// Replays an exported program in Dawn, without a browser: node dawn.mjs MANIFEST STEPS OUT [cpu]
//
// Buffers without initial values begin with NaN, so a kernel that reads what nothing wrote shows in the results. Writes OUT as
// JSON: the adapter, the sheet before and after STEPS steps, the losses and the networks' buffers after them, and what each half of
// a step changes. With `cpu` it runs the kernels for adapters that compute on the CPU.
import { readFileSync, writeFileSync } from 'node:fs';
import { create, globals } from 'webgpu';

import '../../src/export/player.js';

Object.assign(globalThis, globals);
const [path, steps, out, kind] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(path, 'utf8'));
const { train, sheet } = manifest.gan.player;

// Kept to the end: Dawn lives as long as this object.
const gpu = create(['backend=vulkan']);
const adapter = await gpu.requestAdapter();
if (!adapter) {
    throw new Error('Dawn finds no Vulkan adapter');
}
const device = await adapter.requestDevice();
const problems = [];
device.addEventListener('uncapturederror', ({ error }) => problems.push(error.message));

const player = await GpuGan.Player.open(manifest, device, { isCpu: kind === 'cpu', poison: true });
const routines = Object.values(train.routines).flatMap(({ plain, penalised }) => [plain, penalised]);
await player.prepare([sheet.routine, ...routines.filter(Boolean)]);

const draw = async () => {
    player.run(sheet.routine);
    return [...(await player.read(sheet.images))[0]];
};
const before = await draw();
const begun = performance.now();
const { plain, penalised } = train.routines.both;
for (let step = 1; step <= Number(steps); step++) {
    player.run(penalised && (manifest.gan.step + step) % train.every === 0 ? penalised : plain);
}
const [history] = await player.read(train.history);
const seconds = (performance.now() - begun) / 1000;
const after = await draw();
const names = Object.keys(manifest.tensors).filter((name) => /\.(params|running|ema)$/.test(name));
const networks = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, [...(await player.read(name))[0]]])),
);

// A half of a step changes one network and leaves the other one as it was. The gaps between tensors are NaN from the beginning.
const halves = {};
const buffers = { discriminator: ['discriminator.params'], generator: ['generator.params', 'generator.ema'] };
for (const [half, other, kind] of [
    ['discriminator', 'generator', 'plain'],
    ['discriminator', 'generator', 'penalised'],
    ['generator', 'discriminator', 'plain'],
]) {
    const read = async (network) => (await player.read(...buffers[network])).map((values) => [...values]).flat();
    const [mine, others] = [await read(half), await read(other)];
    player.run(train.routines[half][kind]);
    const [mineAfter, othersAfter] = [await read(half), await read(other)];
    halves[`${half}, ${kind}`] = {
        learns: mineAfter.join() !== mine.join(),
        staysFinite: mineAfter.every((value, index) => Number.isFinite(value) === Number.isFinite(mine[index])),
        leavesTheOther: others.join() === othersAfter.join(),
    };
}

const { description, vendor, architecture } = adapter.info;
const report = { adapter: description || `${vendor} ${architecture}`, seconds, problems, before, after, networks, halves };
writeFileSync(out, JSON.stringify({ ...report, history: [...history] }));
player.destroy();
device.destroy();
globalThis.gpu = gpu;

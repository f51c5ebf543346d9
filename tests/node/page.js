// Runs every case of plan.json on a device with WebGPU's default limits and no features. Shaders that need subgroups are compiled by a
// second device that has them, and not run.

async function runAll() {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) {
        throw new Error('this browser offers no WebGPU adapter');
    }
    const device = await adapter.requestDevice();
    // An adapter can only create one device.
    const another = await navigator.gpu.requestAdapter();
    const richer = await another.requestDevice({ requiredFeatures: ['subgroups'] });
    const plan = await (await fetch('plan.json')).json();
    const refused = [];
    device.addEventListener('uncapturederror', ({ error }) => refused.push(error.message));
    device.lost.then(({ message }) => refused.push(`the device was lost: ${message}`));

    const modules = new Map();
    for (const [name, code] of Object.entries(plan.shaders)) {
        // WebGPU requires a directive that naga does not know, and uniform control flow, which Tint cannot prove here, as it depends
        // on a private variable.
        const module = /\bsubgroupShuffle\b/.test(code)
            ? richer.createShaderModule({ label: name, code: `enable subgroups; diagnostic(off, subgroup_uniformity); ${code}` })
            : device.createShaderModule({ label: name, code });
        const { messages } = await module.getCompilationInfo();
        refused.push(...messages.map(({ type, lineNum, message }) => `${name}:${lineNum}: ${type}: ${message}`));
        modules.set(name, module);
    }
    const pipelines = new Map();
    let offset = 0;
    for (const case_ of plan.cases) {
        device.pushErrorScope('validation');
        const length = case_.buffers.reduce((sum, bytes) => sum + bytes, 0);
        const before = await (await fetch(`before?offset=${offset}&length=${length}`)).arrayBuffer();
        const after = await run(device, modules, pipelines, case_, before);
        const error = await device.popErrorScope();
        if (error) {
            refused.push(`${case_.name}: ${error.message}`);
        } else {
            await fetch(`after?offset=${offset}`, { method: 'POST', body: after });
        }
        offset += length;
    }
    const { vendor, architecture } = adapter.info;
    return { adapter: `${vendor} ${architecture}`, pipelines: pipelines.size, refused };
}

// Runs the dispatches of a case and returns its memory afterwards.
async function run(device, modules, pipelines, case_, before) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const length = before.byteLength;
    let start = 0;
    const paddedSize = (size) => 16 * Math.ceil(size / 16); // some shaders see vectors of four words
    const buffers = case_.buffers.map((size) => {
        const buffer = device.createBuffer({ size: paddedSize(size), usage });
        device.queue.writeBuffer(buffer, 0, before, start, size);
        start += size;
        return buffer;
    });
    const scratch = new Map(
        Object.entries(case_.scratch).map(([name, size]) => {
            const buffer = device.createBuffer({ label: name, size: paddedSize(size), usage });
            device.queue.writeBuffer(buffer, 0, new Uint32Array(size / 4).fill(0x7fc00000)); // NaN
            return [name, buffer];
        }),
    );
    const tables = new Map(
        Object.entries(case_.tables).map(([name, numbers]) => {
            const buffer = device.createBuffer({ label: name, size: paddedSize(4 * numbers.length), usage });
            device.queue.writeBuffer(buffer, 0, new Uint32Array(numbers));
            return [name, buffer];
        }),
    );
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const { shader, entry, overrides, bindings, workgroups } of case_.dispatches) {
        const key = JSON.stringify([shader, entry, overrides]);
        if (!pipelines.has(key)) {
            const compute = { module: modules.get(shader), entryPoint: entry, constants: overrides };
            pipelines.set(key, device.createComputePipeline({ label: key, layout: 'auto', compute }));
        }
        const pipeline = pipelines.get(key);
        const entries = bindings.map(({ number, buffer, offset }) => {
            const resource = { buffer: buffers[buffer] ?? scratch.get(buffer) ?? tables.get(buffer), offset };
            return { binding: number, resource };
        });
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
        pass.dispatchWorkgroups(...workgroups);
    }
    pass.end();
    const staging = device.createBuffer({ size: length, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    start = 0;
    buffers.forEach((buffer, number) => {
        encoder.copyBufferToBuffer(buffer, 0, staging, start, case_.buffers[number]);
        start += case_.buffers[number];
    });
    device.queue.submit([encoder.finish()]);
    let after = null;
    try {
        await staging.mapAsync(GPUMapMode.READ);
        after = staging.getMappedRange().slice(0);
    } catch (error) {
        // The error scope holds the cause.
    }
    for (const buffer of [...buffers, ...scratch.values(), ...tables.values(), staging]) {
        buffer.destroy();
    }
    return after;
}

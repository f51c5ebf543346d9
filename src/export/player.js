// Replays a program of gpu-gan in WebGPU: the same WGSL kernels, in the same order, on the same buffers.
//
// A manifest (docs/program-format.md) lists shaders, buffers, kernels, routines and named tensors. The player knows no model
// and no layer: it makes the buffers and pipelines, encodes the dispatches of a routine, and copies tensors in and out.
// It runs in a browser and, with a WebGPU implementation for it, in Node.js; it needs no optional feature of WebGPU.

'use strict';

globalThis.GpuGan = (() => {
    // Kernels see some buffers as vectors of four words.
    const ALIGNMENT = 16;
    // A quiet NaN: what a kernel reads before anything wrote it then shows in every result.
    const POISON = 0x7fc00000;

    // The number of dispatches in the first submission of a routine that runs in parts.
    const FIRST_PART = 8;

    // The first stream of random numbers for initial weights; each tensor has its own.
    const INITIAL = 100;

    const ARRAYS = { f32: Float32Array, u32: Uint32Array, u8: Uint8Array };

    // The bytes of a blob: base64 of gzip.
    async function unpack(base64) {
        const letters = atob(base64);
        const packed = new Uint8Array(letters.length);
        for (let index = 0; index < packed.length; index++) {
            packed[index] = letters.charCodeAt(index);
        }
        const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
        return new Uint8Array(await new Response(stream).arrayBuffer());
    }

    // The f32 of each f16 (IEEE 754 binary16), by its bits: few engines have a Float16Array yet.
    const wide = Float32Array.from({ length: 65536 }, (_, half) => {
        const [sign, exponent, fraction] = [half >> 15 ? -1 : 1, (half >> 10) & 31, half & 1023];
        if (exponent === 31) {
            return fraction ? NaN : sign * Infinity;
        }
        return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
    });

    // Philox 4x32-10 (Salmon et al. 2011), the generator of the kernels and of `gpu-gan sample`: four random words.
    function philox(counter, [key0, key1]) {
        // The upper word of a product of two words, in steps that are exact in 53 bits.
        const high = (a, b) => {
            const [a1, a0, b1, b0] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
            const middle = a1 * b0 + Math.floor((a0 * b0) / 65536);
            return a1 * b1 + Math.floor(middle / 65536) + Math.floor((a0 * b1 + (middle % 65536)) / 65536);
        };
        let [c0, c1, c2, c3] = counter;
        for (let round = 0; round < 10; round++) {
            const [a, b] = [0xd2511f53, 0xcd9e8d57];
            [c0, c1, c2, c3] = [
                (high(c2, b) ^ c1 ^ key0) >>> 0,
                Math.imul(c2, b) >>> 0,
                (high(c0, a) ^ c3 ^ key1) >>> 0,
                Math.imul(c0, a) >>> 0,
            ];
            [key0, key1] = [(key0 + 0x9e3779b9) >>> 0, (key1 + 0xbb67ae85) >>> 0];
        }
        return [c0, c1, c2, c3];
    }

    // `length` standard normal numbers of a seed in a stream (Box and Muller 1958): those of gpu-gan, but for rounding. In the
    // stream of samples, those of seed k are the latent of `gpu-gan sample --seeds k`.
    function normals(seed, stream, length) {
        const uniform = (word) => ((word >>> 9) + 0.5) / 2 ** 23;
        const key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
        const values = new Float32Array(length);
        for (let first = 0; first < length; first += 4) {
            const words = philox([first / 4, 0, stream, 0], key);
            for (let index = first; index < Math.min(first + 4, length); index++) {
                const pair = index % 4 < 2 ? 0 : 2;
                const radius = Math.sqrt(-2 * Math.log(uniform(words[pair])));
                const angle = 2 * Math.PI * (uniform(words[pair + 1]) - 0.5);
                values[index] = radius * (index % 2 ? Math.sin(angle) : Math.cos(angle));
            }
        }
        return values;
    }

    // The class that a seed draws: class k with a probability proportional to its weight, an integer. It is that of gpu-gan, bit for bit.
    function classOf(seed, { weights, stream }) {
        const [word] = philox([0, 0, stream, 0], [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0]);
        const all = weights.reduce((sum, weight) => sum + weight, 0);
        let rest = Number((BigInt(word >>> 0) * BigInt(all)) >> 32n);
        return weights.findIndex((weight) => {
            const holds = rest < weight;
            rest -= weight;
            return holds;
        });
    }

    class Player {
        // Makes the buffers of a program on a WebGPU device and fills them with their initial values. `isCpu` says that the device
        // computes on the CPU: it then runs kernels that compile faster there. With `poison`, buffers of floats that have no
        // initial values begin with NaN instead of zero, so that a test sees a kernel that reads what nothing wrote.
        static async open(manifest, device, { isCpu = false, poison = false } = {}) {
            if (manifest.format !== 'gpu-gan program' || manifest.version !== 1) {
                throw new Error(`the manifest is ${manifest.format} ${manifest.version}; this player reads gpu-gan program 1`);
            }
            const blobs = await Promise.all(manifest.blobs.map(unpack));
            const player = new Player(manifest, device, isCpu);
            player.initial = manifest.buffers.map(({ bytes, initial }) => initial && decode(blobs[initial.blob], initial, bytes));
            player.poison = poison;
            player.reset();
            return player;
        }

        constructor(manifest, device, isCpu) {
            this.manifest = manifest;
            this.device = device;
            this.routines = isCpu ? manifest.cpu_routines : manifest.routines;
            this.modules = new Map();
            this.pipelines = new Map();
            this.bindGroups = new Map();
            // Other values for constants, by kernel: learning rates, for example.
            this.constants = new Map();
            // The number of dispatches in a submission of `runInParts`, by routine.
            this.parts = new Map();
            const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
            this.buffers = manifest.buffers.map(({ name, bytes }) =>
                device.createBuffer({ label: name, size: roundUp(bytes, ALIGNMENT), usage }),
            );
        }

        // All buffers as they were when the program was exported.
        reset() {
            this.manifest.buffers.forEach(({ element }, index) => {
                const [buffer, initial] = [this.buffers[index], this.initial[index]];
                const value = this.poison && element === 'f32' && !initial ? POISON : 0;
                const words = new Uint32Array(buffer.size / 4).fill(value);
                if (initial) {
                    new Uint8Array(words.buffer).set(initial);
                }
                this.device.queue.writeBuffer(buffer, 0, words);
            });
        }

        // Compiles the pipelines of these routines, all at once and without blocking the page; then calls `tell(done, total)`
        // after each.
        async prepare(routines, tell = () => {}) {
            const kernels = new Set(routines.flatMap((name) => this.routine(name).map(({ kernel }) => kernel)));
            const missing = [...kernels].filter((kernel) => !this.pipelines.has(kernel));
            let done = 0;
            await Promise.all(
                missing.map(async (kernel) => {
                    this.pipelines.set(kernel, await this.compile(kernel));
                    tell(++done, missing.length);
                }),
            );
        }

        // Runs routines one after the other, in one submission. Returns at once; `read` and `finish` wait.
        run(...routines) {
            this.submit(routines.flatMap((name) => this.bound(name)));
        }

        // Runs a routine and waits until it is done. If it takes longer than `milliseconds`, it is divided into submissions of about that
        // time, at least one dispatch each, so that the page and the desktop respond; `tell(done, total)` is called after each.
        async runInParts(name, milliseconds, tell = () => {}) {
            const dispatches = this.bound(name);
            for (let done = 0; done < dispatches.length; ) {
                const size = this.parts.get(name) ?? FIRST_PART;
                const part = dispatches.slice(done, done + size);
                const start = performance.now();
                this.submit(part);
                await this.finish();
                const fitting = (part.length * milliseconds) / Math.max(1, performance.now() - start);
                this.parts.set(name, Math.max(1, Math.min(2 * size, Math.floor(fitting))));
                done += part.length;
                tell(done, dispatches.length);
            }
        }

        submit(dispatches) {
            const encoder = this.device.createCommandEncoder();
            const pass = encoder.beginComputePass();
            for (const { pipeline, bindGroup, workgroups } of dispatches) {
                pass.setPipeline(pipeline);
                pass.setBindGroup(0, bindGroup);
                pass.dispatchWorkgroups(...workgroups);
            }
            pass.end();
            this.device.queue.submit([encoder.finish()]);
        }

        // Waits until the GPU has done everything that was asked for.
        finish() {
            return this.device.queue.onSubmittedWorkDone();
        }

        // Writes numbers into a tensor, from its element `first` on.
        write(name, values, first = 0) {
            const { buffer, offset, element, length } = this.tensor(name);
            const array = values instanceof ARRAYS[element] ? values : ARRAYS[element].from(values);
            if (first + array.length > length) {
                throw new Error(`${array.length} values from ${first} on do not fit into ${name}, which has ${length}`);
            }
            const start = offset + first * array.BYTES_PER_ELEMENT;
            this.device.queue.writeBuffer(this.buffers[buffer], start, array.buffer, array.byteOffset, array.byteLength);
        }

        // The numbers of several tensors, each as a typed array, read with one wait.
        async read(...names) {
            const tensors = names.map((name) => this.tensor(name));
            const sizes = tensors.map(({ length, element }) => roundUp(length * ARRAYS[element].BYTES_PER_ELEMENT, 4));
            const size = sizes.reduce((sum, bytes) => sum + bytes, 0);
            const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
            const staging = this.device.createBuffer({ label: 'staging', size, usage });
            try {
                const encoder = this.device.createCommandEncoder({ label: 'read' });
                let start = 0;
                tensors.forEach(({ buffer, offset }, index) => {
                    encoder.copyBufferToBuffer(this.buffers[buffer], offset, staging, start, sizes[index]);
                    start += sizes[index];
                });
                this.device.queue.submit([encoder.finish()]);
                await staging.mapAsync(GPUMapMode.READ);
                const bytes = staging.getMappedRange().slice(0);
                start = 0;
                return tensors.map(({ element, length }, index) => {
                    const values = new ARRAYS[element](bytes, start, length);
                    start += sizes[index];
                    return values;
                });
            } finally {
                staging.destroy();
            }
        }

        // Gives a constant of some kernels another value, such as a learning rate; `undefined` restores the exported one.
        async set(knob, value) {
            for (const { kernel, constant } of this.manifest.knobs[knob]) {
                const changed = { ...this.constants.get(kernel), [constant]: value };
                if (value === undefined) {
                    delete changed[constant];
                }
                const isNew = changed[constant] !== this.constants.get(kernel)?.[constant];
                this.constants.set(kernel, changed);
                if (isNew && this.pipelines.has(kernel)) {
                    this.pipelines.set(kernel, await this.compile(kernel));
                    this.bindGroups.clear(); // they belong to the layouts of the pipelines that were replaced
                }
            }
        }

        // The value of a knob as exported.
        knob(name) {
            const [{ kernel, constant }] = this.manifest.knobs[name];
            return this.manifest.kernels[kernel].constants[constant];
        }

        // Fresh weights, drawn from a seed, with the means and standard deviations of the run's initial weights, and an optimiser that has seen nothing.
        freshen(seed) {
            this.manifest.fresh.forEach(({ tensor, stream, deviation, value }) => {
                const { length } = this.tensor(tensor);
                const drawn = deviation ? normals(seed, INITIAL + stream, length) : new Float32Array(length);
                this.write(tensor, drawn.map((number) => value + deviation * number));
            });
        }

        tensor(name) {
            const tensor = this.manifest.tensors[name];
            if (!tensor) {
                throw new Error(`the program has no tensor ${name}`);
            }
            const element = this.manifest.buffers[tensor.buffer].element;
            return { ...tensor, element, length: length(this.manifest, name) };
        }

        routine(name) {
            const routine = this.routines[name];
            if (!routine) {
                throw new Error(`the program has no routine ${name}`);
            }
            return routine;
        }

        destroy() {
            this.buffers.forEach((buffer) => buffer.destroy());
        }

        compile(index) {
            const { shader, entry, constants } = this.manifest.kernels[index];
            if (!this.modules.has(shader)) {
                const code = this.manifest.shaders[shader];
                this.modules.set(shader, this.device.createShaderModule({ label: shader, code }));
            }
            return this.device.createComputePipelineAsync({
                label: `${shader}.${entry}`,
                layout: 'auto',
                compute: {
                    module: this.modules.get(shader),
                    entryPoint: entry,
                    constants: { ...constants, ...this.constants.get(index) },
                },
            });
        }

        // The dispatches of a routine with their pipelines and bind groups, which are made once.
        bound(name) {
            if (!this.bindGroups.has(name)) {
                const dispatches = this.routine(name).map(({ kernel, workgroups, bind }) => {
                    const pipeline = this.pipelines.get(kernel);
                    if (!pipeline) {
                        throw new Error(`${name} was not prepared`);
                    }
                    const numbers = this.manifest.kernels[kernel].bindings;
                    const entries = Object.entries(bind).map(([operand, [buffer, offset]]) => ({
                        binding: numbers[operand],
                        resource: { buffer: this.buffers[buffer], offset },
                    }));
                    const bindGroup = this.device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
                    return { pipeline, bindGroup, workgroups };
                });
                this.bindGroups.set(name, dispatches);
            }
            return this.bindGroups.get(name);
        }
    }

    // The initial bytes of a buffer, as the kernels see them.
    function decode(bytes, { encoding, scale = 1, squared = false }, size) {
        let decoded = bytes;
        if (encoding === 'f16') {
            const halves = new Uint16Array(bytes.buffer);
            const floats = new Float32Array(halves.length);
            for (let index = 0; index < halves.length; index++) {
                const value = wide[halves[index]] * scale;
                floats[index] = squared ? value * value : value;
            }
            decoded = new Uint8Array(floats.buffer);
        }
        if (decoded.length !== size) {
            throw new Error(`a buffer of ${size} bytes has initial values of ${decoded.length} bytes`);
        }
        return decoded;
    }

    // The number of elements of a tensor.
    function length(manifest, tensor) {
        return manifest.tensors[tensor].shape.reduce((product, size) => product * size, 1);
    }

    function roundUp(bytes, unit) {
        return unit * Math.ceil(bytes / unit);
    }

    return { Player, normals, classOf, length };
})();

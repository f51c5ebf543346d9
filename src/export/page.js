// The page around the player: draws images, trains both networks, and shows what they think of each other.
//
// All that it knows of the model is in `gan` of its data (docs/program-format.md): shape and range of images, size of latents, names
// of classes, and which routine and tensor plays which part.

'use strict';

const page = (() => {
    const manifest = JSON.parse(document.getElementById('data').textContent);
    const { gan } = manifest;
    const { player: parts, image, range, latent, classes, history } = gan;
    const [height, width, channels] = image;
    // Times in milliseconds: between two looks at the losses, between two sheets, and of one submission, so that the page responds.
    const [LOOK, REDRAW, SUBMISSION] = [250, 1000, 60];
    // While it trains, at most one part in this many of its time draws sheets.
    const TRAINING_SHARE = 5;
    // The most images with the discriminator's opinion, and the most points of a curve.
    const [SHOWN, POINTS] = [8, 2000];
    // The space around each image of the sheet, in pixels of images.
    const MARGIN = 1;
    // The least share of its learning rates that a checkpoint is trained on with: at the end of a run, the run may have had 0.
    const LEAST_RATE = 0.1;
    // A lost GPU is opened again this many times.
    const REOPENINGS = 3;

    const $ = (id) => document.getElementById(id);
    let player;
    let busy = Promise.resolve();
    let losses = 0;
    let isLost = false;
    // What is drawn: the first seed, the class (null for the one that each seed draws, 'all' for each of them), the factor of every latent, the two picked places, the plane; and the
    // images of the sheet, and when the first ones were drawn.
    const view = { seed: 0, class: null, truncation: 1, picked: [0, 1], plane: { seed: 1000, x: 0, y: 0 }, values: null, firstImage: null };
    // What is being trained (null for nothing), the number of times that it changed, steps before this page and on it, the kind of each step that no look has seen yet,
    // one point of the curves for each step, and the speed in words.
    const training = { playing: null, changes: 0, base: gan.step, steps: 0, kinds: new Map(), curves: [], speed: '' };

    // One thing at a time on the GPU: what a person asks for waits for what is running.
    function queue(work) {
        busy = busy.then(work).catch(fail);
        return busy;
    }

    function say(text, isProblem = false) {
        $('status').textContent = text;
        $('status').classList.toggle('problem', isProblem);
    }

    function fail(error) {
        if (isLost) {
            return; // `reopen` says so
        }
        stop();
        say(`${error.message ?? error}. Reload the page to start again.`, true);
        console.error(error);
    }

    function element(tag, name = '') {
        const made = document.createElement(tag);
        made.className = name;
        return made;
    }

    // ---- images ----

    // Image `index` of some values as pixels.
    function pixelsOf(values, index) {
        const pixels = new ImageData(width, height);
        const [low, high] = range;
        const start = index * height * width * channels;
        for (let place = 0; place < height * width; place++) {
            for (let channel = 0; channel < 3; channel++) {
                const value = values[start + place * channels + Math.min(channel, channels - 1)];
                pixels.data[4 * place + channel] = Math.round(255 * ((value - low) / (high - low)));
            }
            const alpha = channels === 4 ? (values[start + place * channels + 3] - low) / (high - low) : 1;
            pixels.data[4 * place + 3] = Math.round(255 * alpha);
        }
        return pixels;
    }

    function paint(canvas, values, index = 0) {
        [canvas.width, canvas.height] = [width, height];
        canvas.getContext('2d').putImageData(pixelsOf(values, index), 0, 0);
    }

    // The numbers of images and of columns of the sheet. With all classes, each class has a column.
    function layout() {
        return view.class === 'all' ? classes.sheet : gan.sheet;
    }

    // The class of the image of a seed.
    function classOf(seed) {
        return classes && (view.class ?? GpuGan.classOf(seed, classes));
    }

    // The seed and the class of each place of the sheet. With all classes, each seed is followed by all classes, as in `gpu-gan sample`.
    function places() {
        return Array.from({ length: layout().images }, (_, place) => {
            if (view.class === 'all') {
                const count = classes.names.length;
                return { seed: view.seed + Math.floor(place / count), class: place % count };
            }
            const seed = view.seed + place;
            return { seed, class: classOf(seed) };
        });
    }

    // The seeds of a sheet.
    function seedsShown() {
        return view.class === 'all' ? Math.max(1, Math.floor(layout().images / classes.names.length)) : layout().images;
    }

    function latentOf({ seed }) {
        return GpuGan.normals(seed, gan.sample_stream, latent).map((number) => view.truncation * number);
    }

    function corner(place) {
        const { columns } = layout();
        return [place % columns, Math.floor(place / columns)].map((at, axis) => MARGIN + at * ([width, height][axis] + MARGIN));
    }

    function layOut(canvas, values) {
        const { images, columns } = layout();
        canvas.width = columns * (width + MARGIN) + MARGIN;
        canvas.height = Math.ceil(images / columns) * (height + MARGIN) + MARGIN;
        const context = canvas.getContext('2d');
        for (let place = 0; place < images; place++) {
            context.putImageData(pixelsOf(values, place), ...corner(place));
        }
        return context;
    }

    async function drawSheet() {
        const [tensors, shown] = [parts.sheet, places()];
        const latents = new Float32Array(GpuGan.length(manifest, tensors.latents));
        shown.forEach((place, index) => latents.set(latentOf(place), index * latent));
        player.write(tensors.latents, latents);
        if (classes) {
            player.write(tensors.classes, shown.map((place) => place.class));
        }
        await player.runInParts(tensors.routine, SUBMISSION);
        [view.values] = await player.read(tensors.images);
        view.firstImage ??= performance.now();
        const context = layOut($('sheet'), view.values);
        // Squares for pixels, but where the sheet is shown smaller than it is, they would swallow lines.
        $('sheet').style.imageRendering = $('sheet').width > $('sheet').clientWidth ? 'auto' : 'pixelated';
        context.strokeStyle = '#2c9c62';
        for (const [x, y] of view.picked.map(corner)) {
            context.strokeRect(x - 0.5, y - 0.5, width + 1, height + 1);
        }
        return view.values;
    }

    // Images of a few latents of one class.
    async function drawFew(latents, ofClass) {
        const tensors = parts.few;
        player.write(tensors.latents, latents.flatMap((values) => [...values]));
        if (classes) {
            player.write(tensors.classes, latents.map(() => ofClass ?? 0));
        }
        player.run(tensors.routine);
        return (await player.read(tensors.images))[0];
    }

    // The way from p to q along an arc (Shoemake 1985); the length changes evenly.
    function slerp(p, q, t) {
        const [long, short] = [Math.hypot(...p), Math.hypot(...q)];
        const dot = p.reduce((sum, value, index) => sum + value * q[index], 0);
        const angle = Math.acos(Math.min(1, Math.max(-1, dot / (long * short))));
        if (!(angle > 1e-4)) {
            return p.map((value, index) => (1 - t) * value + t * q[index]);
        }
        const scale = ((1 - t) * long + t * short) / Math.sin(angle);
        const [a, b] = [(scale * Math.sin((1 - t) * angle)) / long, (scale * Math.sin(t * angle)) / short];
        return p.map((value, index) => a * value + b * q[index]);
    }

    async function drawWay() {
        const [first, second] = view.picked.map((place) => places()[place]);
        const [p, q] = [latentOf(first), latentOf(second)];
        const t = Number($('way').value);
        const values = await drawFew([p, slerp(p, q, t), q], t < 0.5 ? first.class : second.class);
        paint($('between'), values, 1);
        // Both ends as they are on the sheet, each of its class.
        view.picked.forEach((place, end) => paint($(end ? 'second' : 'first'), view.values, place));
    }

    // The plane through three latents a, b and c. Place (x, y) is the latent cos(x) cos(y) a + sin(x) b + sin(y) c, scaled so that its
    // length stays near that of a normal one.
    async function drawPlane() {
        const { seed, x, y } = view.plane;
        const [a, b, c] = [0, 1, 2].map((offset) => GpuGan.normals(seed + offset, gan.sample_stream, latent));
        const weights = [Math.cos(x) * Math.cos(y), Math.sin(x), Math.sin(y)];
        const factor = view.truncation / Math.hypot(...weights);
        const point = a.map((value, index) => factor * (weights[0] * value + weights[1] * b[index] + weights[2] * c[index]));
        paint($('live'), await drawFew([point], view.class === 'all' ? 0 : classOf(seed)));
        const canvas = $('plane');
        const context = canvas.getContext('2d');
        context.clearRect(0, 0, canvas.width, canvas.height);
        context.strokeStyle = '#8886';
        context.beginPath();
        for (let line = 1; line < 4; line++) {
            const at = (line * canvas.width) / 4;
            context.moveTo(at, 0);
            context.lineTo(at, canvas.height);
            context.moveTo(0, at);
            context.lineTo(canvas.width, at);
        }
        context.stroke();
        context.fillStyle = '#2a7de1';
        context.beginPath();
        context.arc(...[x, y].map((angle) => ((angle / Math.PI + 1) / 2) * canvas.width), 8, 0, 2 * Math.PI);
        context.fill();
    }

    async function drawEverything() {
        await drawSheet();
        await drawPlane();
        await drawWay();
    }

    function savePng() {
        const plain = element('canvas');
        layOut(plain, view.values);
        const large = element('canvas');
        const scale = Math.max(1, Math.round(700 / plain.width));
        [large.width, large.height] = [scale * plain.width, scale * plain.height];
        const context = large.getContext('2d');
        context.imageSmoothingEnabled = false;
        context.drawImage(plain, 0, 0, large.width, large.height);
        const link = element('a');
        link.href = large.toDataURL('image/png');
        link.download = `${gan.data}-seed-${view.seed}.png`;
        link.click();
    }

    // ---- training ----

    // Runs `count` steps, or halves of steps, and waits: with the penalty in every n-th one, as gpu-gan does. Several steps are one
    // submission; one step may be several, with its progress on the page.
    async function steps(kind, count) {
        const { plain, penalised } = parts.train.routines[kind];
        const routines = [];
        for (let done = 0; done < count; done++) {
            const step = training.base + ++training.steps;
            training.kinds.set(step, kind);
            routines.push(penalised && step % parts.train.every === 0 ? penalised : plain);
        }
        if (count > 1) {
            player.run(...routines);
            return player.finish();
        }
        const begun = performance.now();
        return player.runInParts(routines[0], SUBMISSION, (done, total) => {
            if (performance.now() - begun > LOOK) {
                showSpeed(`step at ${Math.floor((100 * done) / total)} %`);
            }
        });
    }

    function showSpeed(progress = '') {
        $('speed').textContent = [training.speed, progress].filter(Boolean).join(', ');
    }

    const scores = { sigmoid: (logit) => 1 / (1 + Math.exp(-logit)), clamp: (logit) => Math.min(1, Math.max(0, logit)) };

    // Reads the losses of the last steps from their ring, and the last step's images with the discriminator's logits.
    async function look() {
        const { history: ring, reals, fakes, logits, fake_logits: fakeLogits } = parts.train;
        const [rows, realImages, fakeImages, both, ofFakes] = await player.read(ring, reals, fakes, logits, fakeLogits);
        const newest = training.base + training.steps;
        let last = null;
        for (const [step, kind] of training.kinds) {
            last = kind;
            if (step <= newest - history.rows) {
                continue; // a later step has taken its row
            }
            const row = rows.subarray(((step - 1) % history.rows) * history.names.length);
            const value = (name) => row[history.names.indexOf(name)];
            const byHalf = { discriminator: ['d', 'real', 'fake'], generator: ['g', 'fake'], both: ['d', 'g', 'real', 'fake'] };
            const point = {
                d: value('d_loss_real') + value('d_loss_fake'),
                g: value('g_loss'),
                real: value('d_real'),
                fake: value(kind === 'generator' ? 'd_fake_for_g' : 'd_fake'),
            };
            training.curves.push(Object.fromEntries(byHalf[kind].map((name) => [name, point[name]])));
        }
        training.kinds.clear();
        training.curves.splice(0, Math.max(0, training.curves.length - POINTS));
        if (last === 'generator') {
            showOpinions('fakes', fakeImages, ofFakes);
        } else if (last) {
            showOpinions('reals', realImages, both.subarray(0, both.length / 2));
            showOpinions('fakes', fakeImages, both.subarray(both.length / 2));
        }
        plotAll();
        $('count').textContent = training.steps
            ? `Step ${newest} (${training.steps} on this page)`
            : `Step ${newest}${newest ? ', the checkpoint' : ', fresh weights'}`;
        const point = training.curves.at(-1) ?? {};
        if (Object.values(point).some((number) => !Number.isFinite(number))) {
            stop();
            say('A loss is not a number any more: training has diverged. Go back to the checkpoint, and lower the learning rates.', true);
        }
    }

    function showOpinions(id, images, logits) {
        const count = images.length / (height * width * channels);
        for (let index = 0; index < Math.min(SHOWN, count); index++) {
            const entry = $(id).children[index] ?? $(id).appendChild(element('div', 'opinion'));
            if (!entry.firstChild) {
                entry.append(element('canvas'), element('div', 'bar'), element('span'));
                entry.children[1].append(element('i'));
            }
            paint(entry.children[0], images, index);
            // With PacGAN, several images have one logit.
            const share = 100 * scores[gan.score](logits[Math.floor((index * logits.length) / count)]);
            entry.children[1].firstChild.style.width = `${share}%`;
            entry.children[2].textContent = `${share.toFixed(0)} %`;
        }
    }

    function plotAll() {
        plot($('losses'), ['d', 'g'], null);
        plot($('opinion-plot'), ['real', 'fake'], [0, 1]);
    }

    function plot(canvas, names, bounds) {
        [canvas.width, canvas.height] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.max(1, Math.round(size * devicePixelRatio)));
        const context = canvas.getContext('2d');
        const points = training.curves;
        const finite = points.flatMap((point) => names.map((name) => point[name])).filter(Number.isFinite);
        if (finite.length === 0) {
            context.fillStyle = getComputedStyle(document.documentElement).color;
            context.font = `${12 * devicePixelRatio}px system-ui`;
            context.fillText('A curve begins with the first step.', 8 * devicePixelRatio, canvas.height / 2);
            return;
        }
        const [low, high] = bounds ?? [Math.min(0, ...finite), Math.max(0.1, ...finite)];
        const colors = getComputedStyle(document.documentElement);
        const [w, h] = [canvas.width - 2, canvas.height - 4];
        names.forEach((name, index) => {
            context.strokeStyle = colors.getPropertyValue(index ? '--fake' : '--real');
            context.lineWidth = devicePixelRatio * 1.5;
            context.beginPath();
            let isDown = false;
            points.forEach((point, place) => {
                if (!Number.isFinite(point[name])) {
                    isDown = false;
                    return;
                }
                const x = 1 + (place / Math.max(1, points.length - 1)) * w;
                const y = 2 + (1 - (point[name] - low) / (high - low)) * h;
                // A single point is a short line.
                isDown ? context.lineTo(x, y) : context.moveTo(x, y);
                context.lineTo(points.length === 1 ? x + 8 * devicePixelRatio : x, y);
                isDown = true;
            });
            context.stroke();
        });
        context.fillStyle = colors.color;
        context.font = `${11 * devicePixelRatio}px system-ui`;
        context.fillText(high.toFixed(1), 4, 12 * devicePixelRatio);
        context.fillText(low.toFixed(1), 4, h);
    }

    // Compiles the kernels of some kinds of steps, or of all.
    async function prepareTraining(...kinds) {
        const chosen = kinds.length ? kinds.map((kind) => parts.train.routines[kind]) : Object.values(parts.train.routines);
        const routines = chosen.flatMap(({ plain, penalised }) => [plain, penalised]);
        await player.prepare(routines.filter(Boolean), (done, total) => say(`Compiling the training kernels: ${done} of ${total}`));
        say(ready());
    }

    // Steps of one kind until another kind is played or none. A submission has as many steps as fit into its time.
    async function play(kind) {
        const { changes } = training;
        await queue(() => prepareTraining(kind));
        let [count, lookedAt, drawnAt, drawing] = [1, 0, 0, 0];
        const [begun, before] = [performance.now(), training.steps];
        while (training.changes === changes) {
            await queue(async () => {
                const start = performance.now();
                await steps(kind, count);
                const now = performance.now();
                count = Math.max(1, Math.min(64, Math.round((count * SUBMISSION) / (now - start))));
                if (now - lookedAt > LOOK) {
                    await look();
                    const perSecond = (1000 * (training.steps - before)) / (now - begun);
                    training.speed = perSecond < 2 ? `${(60 * perSecond).toFixed(0)} steps/min` : `${perSecond.toFixed(0)} steps/s`;
                    showSpeed();
                    lookedAt = performance.now();
                }
                if (now - drawnAt > Math.max(REDRAW, (TRAINING_SHARE - 1) * drawing)) {
                    const begunToDraw = performance.now();
                    await drawSheet();
                    drawnAt = performance.now();
                    drawing = drawnAt - begunToDraw;
                }
            });
        }
        await queue(async () => {
            await look();
            await drawEverything();
        });
    }

    async function once(kind) {
        await queue(() => prepareTraining(kind));
        await queue(async () => {
            await steps(kind, 1);
            showSpeed();
            await look();
            await drawEverything();
        });
    }

    function buttons() {
        const { playing } = training;
        $('play').textContent = playing === 'both' ? 'Pause' : 'Play';
        for (const [id, kind] of [['play', 'both'], ['only-d', 'discriminator'], ['only-g', 'generator']]) {
            $(id).setAttribute('aria-pressed', playing === kind);
        }
    }

    function setPlaying(kind) {
        training.playing = kind;
        training.changes++;
        buttons();
    }

    function stop() {
        setPlaying(null);
    }

    function toggle(kind) {
        setPlaying(training.playing === kind ? null : kind);
        return training.playing ? play(kind) : busy;
    }

    // Begins training at the weights of the program, which are the checkpoint's or fresh.
    async function begin(isFresh) {
        await setRates(isFresh ? 1 : Math.max(LEAST_RATE, gan.rate));
        Object.assign(training, { base: isFresh ? 0 : gan.step, steps: 0, kinds: new Map(), curves: [], speed: '' });
        showSpeed();
        $('reals').replaceChildren();
        $('fakes').replaceChildren();
        await look();
    }

    // Back to the checkpoint, or to fresh weights.
    function restart(isFresh) {
        stop();
        return queue(async () => {
            player.reset();
            if (isFresh) {
                player.freshen(Math.floor(Math.random() * 2 ** 32));
                player.write(parts.train.clock, [0]);
                player.write(parts.train.steps, [0]);
            }
            await begin(isFresh);
            await drawEverything();
            say(ready());
        });
    }

    // ---- the tour ----

    const TOUR = [
        ['Noise', 'Every image begins as a latent: a list of random numbers, one list for each seed. The generator makes an image of it. Its weights are fresh now, so it knows nothing yet, and its images are noise, too.', 'sheet', () => restart(true)],
        ['A generated image', 'Both networks have made one step. The upper row has real images of the training set. The lower row has images that the generator made of new latents. They are easy to tell apart.', 'opinions', () => once('both')],
        ['The discriminator’s opinion', 'The bar below each image is the opinion of the discriminator, the other network: 100 % is surely real, 0 % surely generated. It sees both rows and is told afterwards which is which. It has hardly learnt yet, so it says about 50 % to all.', 'opinions'],
        ['Its step', 'Now only the discriminator learns, and the generator stands still. Watch the bars: real images rise towards 100 %, generated ones fall towards 0 %, and its loss falls.', 'only-d', () => toggle('discriminator')],
        ['The generator’s step', 'Now only the generator learns. It follows the gradient of the discriminator’s opinion back into its own weights, so its bars rise. Against a discriminator that stands still, it wins with any nonsense.', 'only-g', () => toggle('generator')],
        ['The game', 'Now both learn in turn, and each answers the last step of the other. Neither may win for long: that is what makes images better. Watch the sheet, and give one of them a larger learning rate to spoil the game. “Back to the checkpoint” brings the trained networks back.', 'controls', () => toggle('both')],
    ];
    let stage = null;

    function showTour(index) {
        document.querySelectorAll('.shown').forEach((shown) => shown.classList.remove('shown'));
        stop();
        stage = index;
        $('tour').hidden = index === null;
        document.body.classList.toggle('touring', index !== null);
        if (index === null) {
            return;
        }
        const [title, text, place, act] = TOUR[index];
        $('tour-title').textContent = `${index + 1} of ${TOUR.length}: ${title}`;
        $('tour-text').textContent = text;
        $('tour-back').disabled = index === 0;
        $('tour-next').textContent = index + 1 < TOUR.length ? 'Next' : 'Done';
        $(place).classList.add('shown');
        $(place).scrollIntoView({ block: 'start', behavior: 'smooth' });
        act?.();
    }

    // ---- the page ----

    function ready() {
        return `Ready on ${gan.adapter || 'the GPU of this browser'}.`;
    }

    // Only the newest of many quick requests is drawn.
    let newest = null;
    function latest(draw) {
        const isWaiting = newest !== null;
        newest = draw;
        if (!isWaiting) {
            queue(async () => {
                const chosen = newest;
                newest = null;
                await chosen();
            });
        }
    }

    const RATES = [['d-rate', 'discriminator learning rate'], ['g-rate', 'generator learning rate']];

    // The learning rate of a slider, which multiplies that of the run by a power of ten.
    function rateOf([id, knob]) {
        const rate = player.knob(knob) * 10 ** Number($(id).value);
        $(`${id}-value`).textContent = rate.toPrecision(2);
        return rate;
    }

    // Both learning rates as a share of the run's.
    async function setRates(share) {
        for (const rate of RATES) {
            $(rate[0]).value = Math.log10(share);
            await player.set(rate[1], rateOf(rate));
        }
    }

    function connect() {
        const redraw = () => latest(drawEverything);
        const on = (id, event, handler) => $(id).addEventListener(event, handler);
        on('seed', 'change', ({ target }) => {
            view.seed = Math.min(Number(target.max), Math.max(0, Math.floor(Number(target.value) || 0)));
            target.value = view.seed;
            redraw();
        });
        on('more', 'click', () => {
            view.seed += seedsShown();
            $('seed').value = view.seed;
            redraw();
        });
        on('save', 'click', savePng);
        on('truncation', 'input', ({ target }) => {
            view.truncation = Number(target.value);
            $('truncation-value').textContent = view.truncation.toFixed(2);
            redraw();
        });
        if (classes) {
            $('classes').hidden = false;
            [null, 'all', ...classes.names.keys()].forEach((index) => {
                const button = $('classes').appendChild(element('button'));
                button.textContent = index === null ? 'by seed' : (classes.names[index] ?? index);
                button.setAttribute('aria-pressed', index === view.class);
                button.addEventListener('click', () => {
                    view.class = index;
                    view.picked = [0, 1];
                    $('classes').querySelectorAll('button').forEach((other) => other.setAttribute('aria-pressed', other === button));
                    redraw();
                });
            });
        }
        on('sheet', 'click', (event) => {
            const box = $('sheet').getBoundingClientRect();
            const { images, columns } = layout();
            const rows = Math.ceil(images / columns);
            const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
            const place = column + columns * Math.floor(((event.clientY - box.top) / box.height) * rows);
            if (place < images) {
                view.picked = [view.picked[1], place];
                redraw();
            }
        });
        const setAngles = (...angles) => {
            [view.plane.x, view.plane.y] = angles.map((angle) => Math.min(Math.PI, Math.max(-Math.PI, angle)));
            latest(drawPlane);
        };
        const moveTo = (event) => {
            const box = $('plane').getBoundingClientRect();
            const angle = (share) => (2 * share - 1) * Math.PI;
            setAngles(angle((event.clientX - box.left) / box.width), angle((event.clientY - box.top) / box.height));
        };
        on('plane', 'pointerdown', (event) => {
            $('plane').setPointerCapture(event.pointerId);
            moveTo(event);
        });
        on('plane', 'pointermove', (event) => event.buttons && moveTo(event));
        on('plane', 'keydown', (event) => {
            const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
            if (step) {
                event.preventDefault();
                setAngles(view.plane.x + 0.1 * step[0], view.plane.y + 0.1 * step[1]);
            }
        });
        on('new-plane', 'click', () => {
            view.plane = { seed: view.plane.seed + 3, x: 0, y: 0 };
            latest(drawPlane);
        });
        on('way', 'input', () => latest(drawWay));
        on('walk', 'click', async () => {
            for (let frame = 0; frame <= 40; frame++) {
                $('way').value = frame / 40;
                await queue(drawWay);
            }
        });
        on('play', 'click', () => toggle('both'));
        on('only-d', 'click', () => toggle('discriminator'));
        on('only-g', 'click', () => toggle('generator'));
        on('step', 'click', () => once('both'));
        on('reset', 'click', () => restart(false));
        on('fresh', 'click', () => restart(true));
        for (const rate of RATES) {
            on(rate[0], 'input', () => rateOf(rate));
            on(rate[0], 'change', () => queue(() => player.set(rate[1], rateOf(rate))));
        }
        on('take-tour', 'click', () => showTour(0));
        on('tour-back', 'click', () => showTour(stage - 1));
        on('tour-next', 'click', () => showTour(stage + 1 < TOUR.length ? stage + 1 : null));
        on('tour-end', 'click', () => showTour(null));
        window.addEventListener('resize', plotAll);
    }

    // Opens the GPU and puts the program on it. Throws an Error where there is none.
    async function open() {
        if (!navigator.gpu) {
            throw new Error('This browser has no WebGPU, or the page was not opened from the disk, over https or from localhost');
        }
        const adapter = await navigator.gpu.requestAdapter();
        if (!adapter) {
            throw new Error('This browser has WebGPU but finds no graphics adapter for it (see chrome://gpu or about:support)');
        }
        const device = await adapter.requestDevice();
        const { vendor = '', architecture = '', description = '' } = adapter.info ?? {};
        gan.adapter = description || `${vendor} ${architecture}`.trim();
        device.addEventListener('uncapturederror', ({ error }) => fail(error));
        say('Unpacking weights and images…');
        // Older browsers have it at the adapter.
        const isCpu = adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
        player = await GpuGan.Player.open(manifest, device, { isCpu });
        device.lost.then(reopen);
        const prepare = ({ routine }) => player.prepare([routine], (done, total) => say(`Compiling kernels: ${done} of ${total}`));
        await prepare(parts.sheet);
        $('main').hidden = false;
        await drawSheet();
        await prepare(parts.few);
    }

    // After the GPU was lost: opens it again, at the checkpoint.
    async function reopen({ message }) {
        isLost = true;
        stop();
        try {
            if (++losses > REOPENINGS) {
                throw new Error(`The GPU was lost ${losses} times`);
            }
            say(`The GPU was lost (${message || 'its driver does not say why'}). Opening it again…`, true);
            await busy;
            await open();
            isLost = false;
            await restart(false);
            say(`${ready()} The GPU was lost and opened again: training is back at the checkpoint.`);
        } catch (error) {
            isLost = false;
            fail(error);
        }
    }

    async function start() {
        try {
            await open();
            connect();
            await queue(async () => {
                await begin(false);
                await drawPlane();
                await drawWay();
                say(ready());
            });
        } catch (error) {
            say(`${error.message}.`, true);
            [$('main').hidden, $('fallback').hidden] = [true, false];
        }
    }

    // For tests.
    return { manifest, started: start(), view, training, prepareTraining, player: () => player, idle: () => busy };
})();

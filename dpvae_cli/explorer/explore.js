// The page of `dpvae explore`: both latent spaces of a model, and what it decodes from them.
// `latent.js` and `drawing.js` come before it in the same module.

const LINE_POINTS = 201, TILES = 11, STEP = (LINE_POINTS - 1) / (TILES - 1); // as `dpvae traverse`
const SWEEP_TILES = 9, SWEEP_REACH = 3; // standard deviations to either side
const SLICE_CELLS = 49, SLICE_CODES = 5000; // of a map after a move
const SLOW = 40, ROUGH = 8; // ms of a path's densities, and of how many points one is then taken
const REST = 150; // ms without a move until all of them are
const GRIP = { mouse: 14, pen: 18, touch: 30 }; // pixels at which a pointer takes hold of a point
const NAMES = ['A', 'B', 'probe'], BOXES = ['codes', 'low', 'high'];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

const byId = (id) => document.getElementById(id);
const content = JSON.parse(byId('content').textContent);
const pause = () => new Promise((resolve) => { setTimeout(resolve); });

// One run: its points, the path from A to B, and the panels that show them.
class RunView {
  constructor(run, index) {
    this.section = document.querySelector(`[data-run="${index}"]`);
    Object.assign(this, { run, index, L: run.latentDim, share: 0.5, selected: null });
    for (const key of ['points', 'path', 'planes', 'maps', 'heat']) this[key] = {};
    this.spaces = ['z', 'z0'].filter((space) => run.spaces[space] && (space === 'z' || run.graphs));
    this.requests = new Map();
    this.stale = new Set(); // spaces whose plane is to change
  }

  part(name) { return this.section.querySelector(`[data-part="${name}"]`); }

  async unpack() {
    const { run, L } = this;
    for (const name of ['mean', 'logVariance', 'examples', 'low', 'high', 'pictures']) {
      this[name] = run[name] && await unpack(run[name]);
    }
    this.aggregate = new AggregatePosterior(this.mean, this.logVariance, L, run.block);
    this.style = new ExampleStyle(run.x, run.x.data && await unpack(run.x.data));
    this.colours = await Promise.all(run.colours.map(async (colour) =>
      ({ ...colour, values: await unpack(colour.values) })));
    this.codes = Float64Array.from(run.points.flatMap((k) => [...row(this.mean, k, L)]));
    for (const space of this.spaces) {
      const { base, axes, map } = run.spaces[space];
      this.planes[space] = Plane.ofAxes(run.spaces[space], Float64Array.from(base), axes, space);
      const [logQ, logP] = await Promise.all([unpack(map.logQ), unpack(map.logP)]);
      this.maps[space] = { cells: map.cells, logQ, logP };
    }
    if (this.style.kind === 'point' && this.style.data) this.planes.x = this.style.plane();
    this.dots = { codes: { z: this.codes }, low: { z: this.low }, high: { z: this.high } };
  }

  async load(ort) {
    const { grid, graphs } = this.run;
    this.model = graphs ? await GraphModel.load(graphs, this.L, ort)
      : new GridModel(await unpack(grid.x), grid.side, this.style.size, this.planes.z, this.maps.z);
    for (const dots of Object.values(this.dots)) {
      dots.z0 = (await this.model.fromCodes(dots.z)).z0;
      if (this.planes.x) dots.x = await this.model.decode(dots.z);
    }
  }

  example(index) { return Float64Array.from(row(this.examples, index, this.L)); }

  nearestExample(z) {
    const { deviations } = this.run.spaces.z, count = this.examples.length / this.L;
    const distances = Array.from({ length: count }, (_, i) =>
      squaredDistance(this.example(i), z, deviations));
    return distances.indexOf(Math.min(...distances));
  }

  isPocket(logQ, logP) {
    return logQ < this.run.threshold.logQ && logP >= this.run.threshold.logP;
  }

  isLeak(logQ, logP) {
    return logQ >= this.run.threshold.logQ && logP < this.run.threshold.logP;
  }

  // Move a point to where it is asked for; of requests that come too fast the last one counts.
  move(name, space, point, example = null) {
    this.requests.set(name, { space, point, example });
    return this.answer();
  }

  answer() {
    clearTimeout(this.refineTimer);
    this.answering ??= this.answerAll().finally(() => { this.answering = null; });
    return this.answering;
  }

  async answerAll() {
    do {
      const requests = [...this.requests], begin = performance.now();
      const isMoved = requests.some(([name]) => name !== 'probe');
      this.requests.clear();
      for (const [name, { space, point, example }] of requests) {
        const z = Float64Array.from(await this.inZ(space, point));
        const { logP: [logP], z0 } = await this.model.fromCodes(z);
        const logQ = this.aggregate.logProb(z);
        const there = space === 'z0' ? point : z0 && Float64Array.from(z0);
        this.points[name] = { z, z0: there, logP, logQ, example };
      }
      const every = isMoved && this.pathTime > SLOW ? ROUGH : 1;
      if (isMoved || this.isRough) await this.updatePath(every);
      this.isRough = every > 1;
      await this.updateProbe();
      this.draw();
      this.frame = performance.now() - begin;
    } while (this.requests.size);
    if (this.isRough) this.refineTimer = setTimeout(() => this.answer(), REST);
  }

  async inZ(space, points) {
    return space === 'z' ? points : this.model.toRepresentation(points);
  }

  // The straight line from A to B in `space`, in both spaces.
  async line(space, every) {
    const [start, end] = ['A', 'B'].map((name) => Float32Array.from(this.points[name][space]));
    const line = Float32Array.from({ length: LINE_POINTS * this.L }, (_, i) => {
      const share = Math.fround(Math.floor(i / this.L) / (LINE_POINTS - 1)), d = i % this.L;
      return (1 - share) * start[d] + share * end[d];
    });
    const z = await this.inZ(space, line);
    const { logP, z0 } = await this.model.fromCodes(z), logQ = new Float64Array(LINE_POINTS);
    for (let i = 0; i < LINE_POINTS; i += every) {
      logQ[i] = this.aggregate.logProb(z, i * this.L);
      const rise = (logQ[i] - logQ[i - every]) / every;
      for (let j = 1; j < every && i > 0; j++) logQ[i - j] = logQ[i] - j * rise;
    }
    return { z, z0: space === 'z0' ? line : z0, logP, logQ };
  }

  // Where log q(z) takes long, a point that moves has it at `every` so many points of the lines.
  async updatePath(every = 1) {
    if (!this.points.A || !this.points.B) return;
    const begin = performance.now();
    for (const space of this.spaces) {
      const path = await this.line(space, every);
      if (this.planes.x) path.x = await this.model.decode(path.z);
      const inPockets = path.logQ.filter((logQ, i) => this.isPocket(logQ, path.logP[i])).length;
      path.lowestLogQ = Math.min(...path.logQ);
      this.path[space] = Object.assign(path, { tiles: this.path[space]?.tiles });
      this.part(`lowest-${space}`).textContent = format(path.lowestLogQ);
      this.part(`pockets-${space}`).textContent = `${Math.round(100 * inPockets / LINE_POINTS)} %`;
    }
    this.pathTime = every * (performance.now() - begin);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.updateStrips(), this.decodeTime > 1 ? 120 : 0);
  }

  get shareIndex() { return Math.round(this.share * (LINE_POINTS - 1)); }

  async updateStrips() {
    if (this.style.kind === 'point') return;
    const places = [...Array.from({ length: TILES }, (_, i) => i * STEP), this.shareIndex];
    for (const path of Object.values(this.path)) {
      const begin = performance.now();
      path.tiles = await this.model.decode(places.flatMap((i) => [...row(path.z, i, this.L)]));
      this.decodeTime = (performance.now() - begin) / places.length;
    }
    this.drawStrips();
  }

  async updateProbe() {
    const { probe } = this.points, { deviations } = this.run.spaces.z, { size } = this.style;
    if (!probe) return;
    probe.nearest = this.aggregate.nearest(probe.z, deviations, 3);
    const codes = [probe.z, ...probe.nearest.map((k) => row(this.mean, k, this.L))];
    if (this.selected) codes.push(this.selected.mean);
    const x = await this.model.decode(codes.flatMap((z) => [...z]));
    probe.x = row(x, 0, size);
    this.neighbours = probe.nearest.map((_, i) => row(x, i + 1, size));
    if (this.selected) this.selected.x = row(x, codes.length - 1, size);
    this.describeProbe();
  }

  describeProbe() {
    const { logQ, logP } = this.points.probe, { quantiles, threshold } = this.run;
    const percentile = (value, levels) =>
      Math.max(0, (levels.findIndex((level) => level > value) + levels.length) % levels.length - 1);
    const kind = this.isPocket(logQ, logP) ? 'in a pocket' : this.isLeak(logQ, logP) ? 'in a leak'
      : logQ < threshold.logQ ? 'far from codes and samples' : 'among codes and samples';
    this.part('where').textContent = kind;
    this.part('where').dataset.kind = kind.split(' ').at(kind.startsWith('in') ? -1 : 0);
    this.part('log-q').textContent = format(logQ);
    this.part('log-p').textContent = format(logP);
    this.part('log-q-rank').textContent = `above ${percentile(logQ, quantiles.logQ)} % of codes`;
    this.part('log-p-rank').textContent = `above ${percentile(logP, quantiles.logP)} % of samples`;
  }

  // With more than two dimensions a panel shows a plane through the probe.
  planeOf(space, kind) {
    const about = this.run.spaces[space], { A, B, probe } = this.points, base = probe[space];
    let [u, v] = about.components.map((component) => Float64Array.from(component));
    if (kind === 'anchors') {
      const unit = (x) => x.map((value) => value / (Math.hypot(...x) || 1));
      u = unit(axpy(-1, A[space], B[space]));
      const rest = axpy(-1, A[space], base);
      v = unit(axpy(-dot(rest, u), u, rest));
    }
    const names = kind === 'anchors' ? ['A to B', 'ring'] : ['component 1', 'component 2'];
    return kind === 'axes' ? Plane.ofAxes(about, base, about.axes, space)
      : Plane.ofDirections(about, base, u, v, names);
  }

  // Follow the probe where it left the planes, or show other planes; maps are over fewer codes.
  async updateSlices(isNew = false) {
    const { L, points: { probe } } = this, n = SLICE_CELLS;
    const turn = this.turn = (this.turn ?? 0) + 1;
    const every = Math.ceil(this.aggregate.count / SLICE_CODES);
    const thin = (values) => values.filter((_, i) => Math.floor(i / L) % every === 0);
    this.fewer ??=
      new AggregatePosterior(thin(this.mean), thin(this.logVariance), L, this.run.block);
    for (const space of this.spaces) {
      const { deviations } = this.run.spaces[space];
      const isOff = this.planes[space].nearness(probe[space], deviations) < 0.9999;
      if (isNew || isOff) this.stale.add(space);
    }
    for (const space of [...this.stale]) {
      const plane = this.planeOf(space, page.options.plane);
      const cells = Array.from({ length: n * n }, (_, i) =>
        [...plane.point([(i % n + 0.5) / n, (Math.floor(i / n) + 0.5) / n])]).flat();
      const z = await this.inZ(space, cells);
      const { logP } = await this.model.fromCodes(z), logQ = new Float64Array(n * n);
      for (let i = 0, begin = performance.now(); i < n * n; i++) {
        logQ[i] = this.fewer.logProb(z, i * L);
        if (performance.now() - begin < 12) continue;
        await pause();
        if (turn !== this.turn) return;
        begin = performance.now();
      }
      if (turn !== this.turn) return;
      this.planes[space] = plane;
      this.maps[space] = { cells: n, logQ, logP };
      this.heat[space] = null;
      this.stale.delete(space);
      this.part('slice-note').textContent = 'Slice through the ring; only codes near it are drawn. '
        + `After a move its map is over ${this.fewer.count.toLocaleString('en')} codes.`;
      this.draw();
    }
    await updateSweeps(this, turn);
  }

  draw() {
    for (const space of this.spaces) this.drawSpace(space);
    this.drawExample();
    this.drawCurves();
    this.drawStrips();
  }

  heatOf(space) {
    const map = this.maps[space], { shade } = page.options, { threshold } = this.run;
    if (this.heat[space]?.shade === shade) return this.heat[space].canvas;
    const size = 300, canvas = new OffscreenCanvas(size, size), context = canvas.getContext('2d');
    const pixels = context.createImageData(size, size), key = shade === 'prior' ? 'logP' : 'logQ';
    const top = map[key].reduce((a, b) => Math.max(a, b), threshold[key] + 1);
    const [ink, pocket, leak] = ['ink', 'pocket', 'leak'].map((name) => theme.channels(name));
    for (let i = 0; i < size * size; i++) {
      const x = (i % size + 0.5) / size, y = 1 - (Math.floor(i / size) + 0.5) / size;
      const logQ = interpolate(map.logQ, map.cells, x, y);
      const logP = interpolate(map.logP, map.cells, x, y);
      const share = ((shade === 'prior' ? logP : logQ) - threshold[key]) / (top - threshold[key]);
      const isWhite = logQ < threshold.logQ || shade === 'nothing';
      const grey = isWhite ? 0 : 0.07 + 0.5 * clamp(share, 0, 1);
      const colour = this.isPocket(logQ, logP) ? [...pocket, 158]
        : this.isLeak(logQ, logP) ? [...leak, 158] : [...ink, 255 * grey];
      pixels.data.set(colour, 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    this.heat[space] = { shade, canvas };
    return canvas;
  }

  drawSpace(space) {
    const plane = this.planes[space], { deviations } = this.run.spaces[space];
    paint(this.section.querySelector(`[data-panel="${space}"]`), (context, width, height) => {
      context.imageSmoothingEnabled = true;
      context.drawImage(this.heatOf(space), 0, 0, width, height);
      this.drawLatent(context, space, plane, width, height, deviations);
      if (this.rectangle?.space !== space) return;
      const [x0, y0, x1, y1] = this.rectangle.corners;
      stroke(context, [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], theme.ink, 1, [4, 3]);
    });
  }

  drawLatent(context, space, plane, width, height, deviations) {
    const L = plane.u.length, { options } = page;
    const place = (z) => {
      const [s, t] = plane.share(z);
      return [s * width, (1 - t) * height];
    };
    const dots = (values, indices, colourOf, radius, alpha) => {
      const near = plane.nearnesses(values, deviations);
      for (const i of indices) {
        context.globalAlpha = alpha * near[i];
        if (near[i] < 0.04) continue;
        const [x, y] = place(row(values, i, L));
        if (radius > 1.5) disc(context, [x, y], radius, colourOf(i));
        else { // thousands of squares are painted faster than discs
          context.fillStyle = colourOf(i);
          context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
        }
      }
      context.globalAlpha = 1;
    };
    const colour = this.colours.find(({ name }) => name === options.colour);
    const ofCodes = colour ? colourScale(colour) : () => theme.ink;
    for (const name of BOXES.filter((key) => options[key] && this.dots[key][space])) {
      const values = this.dots[name][space], indices = new Array(values.length / L).keys();
      const [radius, alpha] = name === 'codes' && !colour ? [1.1, 0.3] : [2, 0.9];
      dots(values, indices, name === 'codes' ? ofCodes : () => theme[name], radius, alpha);
    }
    if (this.selected) dots(this.dots.codes[space], this.selected.indices, () => theme.z, 2.4, 1);
    for (const straight of [...this.spaces].reverse()) {
      const values = this.path[straight]?.[space];
      if (!values) continue;
      const points = Array.from({ length: LINE_POINTS }, (_, i) => place(row(values, i, L)));
      if (straight !== 'z' || this.spaces.length < 2) stroke(context, points, theme.sheet, 5);
      stroke(context, points, theme[straight], 2.4, straight === 'z' ? [7, 5] : []);
      disc(context, points[this.shareIndex], 5, theme[straight], theme.sheet);
    }
    for (const name of NAMES.filter((key) => this.points[key]?.[space])) {
      const at = place(this.points[name][space]);
      context.globalAlpha = 0.35 + 0.65 * plane.nearness(this.points[name][space], deviations);
      if (name === 'probe') {
        disc(context, at, 8, 'transparent', theme.sheet, 5);
        disc(context, at, 8, 'transparent', theme.ink, 2);
        disc(context, at, 2, theme.ink);
      } else {
        disc(context, at, 9, theme.sheet, theme.ink);
        write(context, name, ...at, theme.ink, 'center', 600);
      }
      context.globalAlpha = 1;
    }
    drawTicks(context, plane, width, height);
  }

  drawExample() {
    const { probe } = this.points, x = this.selected?.x ?? probe?.x, { style } = this;
    paint(this.section.querySelector('[data-panel="x"]'), (context, width, height) => {
      if (this.planes.x) {
        context.fillStyle = theme.line;
        for (let i = 0; i < style.data.length; i += 2) {
          const [s, t] = this.planes.x.share(row(style.data, i / 2, 2));
          context.fillRect(s * width - 1, (1 - t) * height - 1, 2, 2);
        }
        for (const neighbour of this.neighbours ?? []) {
          const [s, t] = this.planes.x.share(neighbour);
          disc(context, [s * width, (1 - t) * height], 4, 'transparent', theme.ink);
        }
        this.drawLatent(context, 'x', this.planes.x, width, height);
      } else if (x) style.draw(context, x, 0, 0, width, height);
    });
    this.neighbours?.forEach((neighbour, i) => {
      const canvas = this.section.querySelector(`[data-neighbour="${i}"]`);
      if (canvas) paint(canvas, (context, w, h) => style.draw(context, neighbour, 0, 0, w, h));
    });
  }

  drawCurves() {
    const paths = Object.entries(this.path), { logQ: threshold } = this.run.threshold;
    if (!paths.length) return;
    const values = paths.flatMap(([, { logQ }]) => [...logQ]);
    const low = clamp(Math.min(...values), threshold - 90, threshold - 3);
    const high = Math.max(threshold + 2, ...values);
    paint(this.part('curves'), (context, width, height) => {
      const place = (share, logQ) => [4 + share * (width - 8),
        8 + (high - Math.max(logQ, low)) / (high - low) * (height - 16)];
      const [, y] = place(0, threshold), x = place(this.share, low)[0];
      context.globalAlpha = 0.12;
      context.fillStyle = theme.pocket;
      context.fillRect(0, y, width, height - y);
      context.globalAlpha = 1;
      stroke(context, [[0, y], [width, y]], theme.pocket, 1, [3, 3]);
      stroke(context, [[x, 0], [x, height]], theme.soft);
      for (const [space, { logQ }] of paths.reverse()) {
        const points = [...logQ].map((value, i) => place(i / (LINE_POINTS - 1), value));
        stroke(context, points, theme[space], 2.2, space === 'z' ? [7, 5] : []);
        disc(context, points[this.shareIndex], 4.5, theme[space], theme.sheet);
      }
      write(context, 'red: lower than at 99 % of codes', 7, height - 11, theme.soft, 'left');
    });
  }

  drawStrips() {
    for (const [space, path] of Object.entries(this.path).filter(([, { tiles }]) => tiles)) {
      const isPocket = (i) => this.isPocket(path.logQ[i * STEP], path.logP[i * STEP]);
      this.style.drawStrip(this.part(`strip-${space}`), path.tiles, TILES, isPocket);
      paint(this.part(`now-${space}`), (context, width, height) =>
        this.style.draw(context, row(path.tiles, TILES, this.style.size), 0, 0, width, height));
    }
  }
}

// What all runs share, and the controls.
const page = {
  views: content.runs.map((run, index) => new RunView(run, index)),
  options: { shade: 'codes', colour: '', codes: true, low: false, high: false, plane: 'axes' },
  active: 'probe', owner: 0, nextEnd: 'A', isSelecting: false,

  get isPlaced() { return this.views.every(({ points }) => NAMES.every((name) => points[name])); },

  draw() { for (const view of this.views) view.draw(); },

  // Move a point in one run; in the others it goes to the code of the example that it is near to.
  async move(view, name, space, point, example = null) {
    Object.assign(this, { active: name, owner: view.index });
    await view.move(name, space, point, example);
    for (const other of this.views.filter((each) => each !== view)) {
      const near = example ?? (name === 'probe' ? null : view.nearestExample(view.points[name].z));
      const [index] = view.points.probe?.nearest ?? [0];
      const code = near === null ? row(other.mean, index, other.L) : other.example(near);
      await other.move(name, 'z', Float64Array.from(code), near);
    }
    if (!this.isPlaced) return;
    this.writeEnds();
    this.save();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.updateSlices(), 200);
  },

  setExample(name, index) {
    return this.move(this.views[0], name, 'z', this.views[0].example(index), index);
  },

  async updateSlices(isNew) {
    for (const view of this.views.filter(({ L }) => L > 2)) await view.updateSlices(isNew);
  },

  writeEnds() {
    const view = this.views[this.owner], { style: { size, pixelRange: [black, white] } } = view;
    const nearest = ['A', 'B'].map((name) => {
      const { z, example } = view.points[name], near = example ?? view.nearestExample(z);
      Object.assign(byId(`example-${name}`), { value: example ?? '', placeholder: `near ${near}` });
      byId(`code-${name}`).value = [...z].map((value) => value.toFixed(4)).join(', ');
      const levels = row(view.pictures ?? new Float64Array(), near, size);
      const canvas = byId(`picture-${name}`);
      canvas.hidden = levels.length < size;
      const x = levels.map((level) => black + level * (white - black));
      if (!canvas.hidden) paint(canvas, (context, w, h) => view.style.draw(context, x, 0, 0, w, h));
      return near;
    });
    const space = view.run.hasGeneration ? 'both' : 'z';
    byId('command').textContent =
      `dpvae traverse ${view.run.traverse} --between ${nearest.join(' ')} --space ${space}`;
  },

  save() {
    clearTimeout(this.saveTimer);
    this.saveTimer = setTimeout(() => {
      const { owner, options } = this, { share, points, run } = this.views[owner];
      const state = { owner, options, share, axes: run.spaces.z.axes };
      for (const name of NAMES) state[name] = points[name].example ?? [...points[name].z];
      history.replaceState(null, '', `#${encodeURIComponent(JSON.stringify(state))}`);
    }, 200);
  },

  async restore() {
    let state = {};
    try { state = JSON.parse(decodeURIComponent(location.hash.slice(1))); } catch { /* none */ }
    const view = this.views[state.owner] ?? this.views[0], [first, second] = view.run.ends;
    Object.assign(this.options, state.options);
    for (const each of this.views) {
      each.share = clamp(Number(state.share ?? 0.5), 0, 1);
      const { z } = each.run.spaces;
      if (state.axes?.every((axis) => axis in z.low)) z.axes = state.axes;
    }
    for (const [name, start] of [['A', first], ['B', second], ['probe', null]]) {
      const asked = state[name] ?? start, count = view.examples.length / view.L;
      if (Number.isInteger(asked)) await this.setExample(name, asked % count);
      else if (asked?.length === view.L) await this.move(view, name, 'z', Float64Array.from(asked));
      else await this.move(view, 'probe', 'z', openingProbe(view));
    }
    if (view.L > 2 && (state.axes || this.options.plane !== 'axes')) this.updateSlices(true);
  },
};

// On the straight line in z where log q(z) is lowest, in a pocket if it crosses one.
function openingProbe({ L, points, path: { z: { z, logQ, logP } }, ...view }) {
  if (L > 2) return points.A.z;
  const { threshold } = view.run, depths = logQ.map((value, i) =>
    value - 1e6 * (value < threshold.logQ && logP[i] >= threshold.logP));
  return Float64Array.from(row(z, depths.indexOf(Math.min(...depths)), L));
}

function listenToPanel(view, space) {
  const canvas = view.section.querySelector(`[data-panel="${space}"]`);
  let held = null;
  const pixels = ([s, t]) => [s * canvas.clientWidth, (1 - t) * canvas.clientHeight];
  const locate = ({ clientX, clientY }) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [clientX - left - 1, clientY - top - 1]; // the border
  };
  const handleAt = (event, grip) => {
    const [x, y] = locate(event);
    const distances = NAMES.map((name) => {
      const [s, t] = pixels(view.planes[space].share(view.points[name][space]));
      return Math.hypot(s - x, t - y);
    });
    const least = Math.min(...distances);
    return least < grip ? NAMES[distances.indexOf(least)] : null;
  };
  const moveTo = (event, name) => {
    const [x, y] = locate(event), share = [x / canvas.clientWidth, 1 - y / canvas.clientHeight];
    page.move(view, name, space, view.planes[space].point(share, view.points[name][space]));
  };
  const listen = (types, answer) => {
    for (const type of types.split(' ')) canvas.addEventListener(type, answer, { passive: false });
  };
  listen('touchstart', (event) => { // elsewhere the finger scrolls the page
    if (page.isSelecting || handleAt(event.touches[0], GRIP.touch)) event.preventDefault();
  });
  listen('pointerdown', (event) => {
    if (event.button) return;
    const isTouch = event.pointerType === 'touch';
    if (page.isSelecting) view.rectangle = { space, corners: [...locate(event), ...locate(event)] };
    else held = handleAt(event, GRIP[event.pointerType]) ?? (isTouch ? null : 'probe');
    if (held) moveTo(event, held);
    if (held || view.rectangle) canvas.setPointerCapture(event.pointerId);
  });
  listen('pointermove', (event) => {
    if (held) moveTo(event, held);
    if (!view.rectangle) return;
    view.rectangle.corners.splice(2, 2, ...locate(event));
    view.draw();
  });
  listen('pointerup pointercancel', () => {
    held = null;
    if (view.rectangle) select(view, view.rectangle);
  });
  listen('click', (event) => {
    if (event.pointerType === 'touch' && !page.isSelecting) moveTo(event, 'probe');
  });
  listen('dblclick', (event) => {
    if (page.isSelecting) return;
    moveTo(event, page.nextEnd);
    page.nextEnd = page.nextEnd === 'A' ? 'B' : 'A';
  });
  listen('keydown', (event) => {
    const key = event.key.toLowerCase(), plane = view.planes[space], direction = ARROWS[event.key];
    if ('pab'.includes(key)) page.active = { p: 'probe', a: 'A', b: 'B' }[key];
    else if (key === 'escape') select(view, null);
    else if (key === 's') {
      const [x, y] = pixels(plane.share(view.points.probe[space]));
      select(view, { space, corners: [x - 25, y - 25, x + 25, y + 25] });
    } else if (direction) {
      const step = event.shiftKey ? 0.1 : 0.01, point = view.points[page.active][space];
      const share = plane.share(point).map((value, i) => value + step * direction[i]);
      page.move(view, page.active, space, plane.point(share, point));
    } else return;
    event.preventDefault();
  });
}

// Select the codes in a rectangle of a panel, in all runs, and decode their mean.
function select(view, rectangle) {
  view.rectangle = null;
  const { space = 'z', corners: [x0, y0, x1, y1] = [] } = rectangle ?? {}, { L } = view;
  const { clientWidth, clientHeight } = view.section.querySelector(`[data-panel="${space}"]`);
  const plane = view.planes[space], { deviations } = view.run.spaces[space];
  const indices = [...view.run.points.keys()].filter((i) => {
    const z = row(view.dots.codes[space], i, L), [s, t] = plane.share(z);
    const x = s * clientWidth, y = (1 - t) * clientHeight;
    const isInside = (x - x0) * (x - x1) <= 0 && (y - y0) * (y - y1) <= 0;
    return isInside && plane.nearness(z, deviations) > 0.2;
  });
  for (const each of page.views) {
    const mean = indices.reduce((sum, i) => axpy(1 / indices.length, row(each.codes, i, L), sum),
      new Float64Array(L));
    each.selected = indices.length ? { indices, mean } : null;
    each.part('shown').textContent = indices.length
      ? `mean of ${indices.length} selected codes, decoded` : 'decoded at the ring';
    each.updateProbe().then(() => each.draw());
  }
}

// With more than two dimensions: a strip of decoded tiles and a slider for each of them.
function buildSweeps(view) {
  const { z } = view.run.spaces, { deviations } = z;
  const order = [...deviations.keys()].sort((a, b) => deviations[b] - deviations[a]);
  view.sweeps = order.map((dimension) => {
    const item = byId('sweep').content.cloneNode(true).firstElementChild;
    const [button, small, slider, canvas] = item.children;
    button.textContent = `z[${dimension}]`;
    small.textContent = `± ${format(deviations[dimension])}`;
    Object.assign(slider, { min: z.low[dimension], max: z.high[dimension], step: 'any' });
    slider.setAttribute('aria-label', `z[${dimension}] of the ring`);
    slider.addEventListener('input', () => {
      const point = Float64Array.from(view.points.probe.z);
      point[dimension] = Number(slider.value);
      page.move(view, 'probe', 'z', point);
    });
    const choose = () => {
      const [first, second] = z.axes, axes = [dimension, dimension === first ? second : first];
      for (const each of page.views) each.run.spaces.z.axes = axes;
      page.showPlane('axes');
    };
    button.addEventListener('click', choose);
    canvas.addEventListener('click', choose);
    view.part('sweeps').append(item);
    return { dimension, slider, canvas };
  });
}

async function updateSweeps(view, turn) {
  const { L, style, points: { probe }, run: { spaces: { z: { deviations } } } } = view;
  for (const { dimension, slider, canvas } of view.sweeps) {
    slider.value = probe.z[dimension];
    if (!view.part('sweep-box').open) continue;
    const z = Array.from({ length: SWEEP_TILES }, (_, i) => {
      const tile = Float64Array.from(probe.z);
      tile[dimension] += SWEEP_REACH * (2 * i / (SWEEP_TILES - 1) - 1) * deviations[dimension];
      return [...tile];
    }).flat();
    const x = await view.model.decode(z), { logP } = await view.model.fromCodes(z);
    if (turn !== view.turn) return;
    const isPocket = (i) => view.isPocket(view.aggregate.logProb(z, i * L), logP[i]);
    style.drawStrip(canvas, x, SWEEP_TILES, isPocket);
    await pause();
  }
}

page.showPlane = (kind) => {
  page.options.plane = kind;
  for (const element of document.querySelectorAll('[data-option="plane"]')) element.value = kind;
  page.updateSlices(true);
  page.save();
};

function listenToControls() {
  const { options, views } = page, [{ colours, examples, L }] = views;
  for (const input of document.querySelectorAll('[data-option]')) {
    const { option } = input.dataset, key = input.type === 'checkbox' ? 'checked' : 'value';
    if (option === 'colour') {
      for (const { name } of colours) input.add(new Option(name, name));
      input.closest('label').hidden = !colours.length;
    }
    input[key] = options[option];
    input.addEventListener('change', () => {
      options[option] = input[key];
      if (option === 'plane') page.showPlane(input.value);
      page.draw();
      page.save();
    });
  }
  byId('select').addEventListener('click', ({ currentTarget }) => {
    page.isSelecting = !page.isSelecting;
    currentTarget.setAttribute('aria-pressed', page.isSelecting);
  });
  for (const name of ['A', 'B']) {
    byId(`example-${name}`).max = examples.length / L - 1;
    byId(`example-${name}`).addEventListener('change', ({ target }) => {
      const isFit = target.value !== '' && target.reportValidity();
      if (isFit) page.setExample(name, Number(target.value));
    });
    byId(`code-${name}`).addEventListener('change', ({ target }) => {
      const z = Float64Array.from(target.value.split(/[\s,;]+/).filter(Boolean), Number);
      const isFit = z.length === L && z.every(Number.isFinite);
      target.setCustomValidity(isFit ? '' : `Type ${L} numbers.`);
      if (target.reportValidity()) page.move(views[page.owner], name, 'z', z);
    });
  }
  byId('copy').addEventListener('click', () => {
    getSelection().selectAllChildren(byId('command'));
    const done = navigator.clipboard?.writeText(byId('command').textContent) ?? Promise.reject();
    const say = (text) => { byId('copied').textContent = text; };
    done.then(() => say('copied'), () => say('selected: copy it with your keyboard'));
  });
  for (const view of views) {
    for (const space of view.spaces) listenToPanel(view, space);
    view.part('share').value = view.share;
    view.part('share').addEventListener('input', ({ target: { value } }) => {
      for (const each of views) {
        each.share = each.part('share').value = Number(value);
        each.updateStrips();
        each.draw();
      }
      page.save();
    });
    view.part('sweep-box')?.addEventListener('toggle', () => updateSweeps(view, view.turn));
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    theme.read();
    for (const view of views) view.heat = {};
    page.draw();
  });
  new ResizeObserver(() => page.draw()).observe(document.body);
  addEventListener('hashchange', () => page.restore());
}

async function start() {
  const begin = performance.now(), runtime = byId('runtime-module');
  theme.read();
  for (const view of page.views) await view.unpack();
  page.draw(); // the maps are there before the model is
  const ort = runtime && await import(`data:text/javascript;base64,${runtime.textContent}`);
  if (ort) {
    ort.env.wasm.wasmBinary = (await inflate(byId('runtime-wasm').textContent)).buffer;
    ort.env.wasm.numThreads = 1;
  }
  for (const view of page.views) {
    await view.load(ort);
    if (view.L > 2) buildSweeps(view);
  }
  await page.restore();
  listenToControls();
  page.draw();
  page.startTime = performance.now() - begin;
  document.documentElement.dataset.ready = 'true';
}

window.explore = page;
start().catch((error) => {
  byId('status').textContent = `This page cannot run here: ${error.message}.`;
  throw error;
});

// The page of `dpvae explore`: both latent spaces of a model, and what it decodes from them.
// `latent.js` and `drawing.js` come before it in the same module.

const LINE_POINTS = 201, ROUGH_POINTS = 41; // of a path; while a point moves and that takes long
const TILES = 11, SWEEP_TILES = 9, SWEEP_REACH = 3; // reach in standard deviations
const SLICE_CELLS = 49, SLICE_CODES = 5000; // of a map after a move
const SLOW = 40, REST = 150; // ms of a path, and without a move until the rest is computed
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
    Object.assign(this, { run, L: run.latentDim, selected: null, ...run.spaces.z });
    for (const key of ['points', 'path', 'planes', 'maps', 'heat', 'backdrops']) this[key] = {};
    this.spaces = ['z', 'z0'].filter((space) => run.spaces[space] && (space === 'z' || run.graphs));
    this.requests = new Map();
    this.stale = new Set(); // spaces whose plane is to change
    this.slices = 0; // times that it was asked for
  }

  part(name) { return this.section.querySelector(`[data-part="${name}"]`); }

  panel(space) { return this.section.querySelector(`[data-panel="${space}"]`); }

  async unpack() {
    const { run, L } = this;
    for (const name of ['mean', 'logVariance', 'examples', 'low', 'high']) {
      this[name] = await unpack(run[name]);
    }
    this.aggregate = new AggregatePosterior(this.mean, this.logVariance, L, run.block);
    this.style = new ExampleStyle(run.x, run.x.data && await unpack(run.x.data));
    this.colours = await Promise.all(run.colours.map(async (colour) =>
      {
      const values = await unpack(colour.values);
      return { name: colour.name, values, scale: colourScale({ ...colour, values }) };
    }));
    const codes = Float64Array.from(run.points.flatMap((k) => [...row(this.mean, k, L)]));
    this.dots = { codes: { z: codes }, low: { z: this.low }, high: { z: this.high } };
    for (const space of this.spaces) {
      const { base, axes, map } = run.spaces[space];
      this.planes[space] = Plane.ofAxes(run.spaces[space], Float64Array.from(base), axes, space);
      const [logQ, logP] = await Promise.all([unpack(map.logQ), unpack(map.logP)]);
      this.maps[space] = { cells: map.cells, logQ, logP };
    }
    if (this.style.kind === 'point') this.planes.x = this.style.plane();
  }

  async load(ort) {
    const { grid, graphs } = this.run;
    this.model = graphs ? await GraphModel.load(graphs, this.L, ort)
      : new GridModel(await unpack(grid.x), grid.side, this.style.size, this.planes.z, this.maps.z);
    for (const dots of Object.values(this.dots)) {
      dots.z0 = (await this.model.fromCodes(dots.z)).z0;
      if (this.planes.x) dots.x = await this.model.decode(dots.z);
    }
    this.backdrops.z0 = this.backdrops.x = null;
  }

  example(index) { return row(this.examples, index, this.L); }

  nearestExample(z) {
    const { deviations } = this.run.spaces.z;
    const distances = list(this.examples.length / this.L, (i) =>
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
  move(name, space, point) {
    this.requests.set(name, { space, point });
    clearTimeout(this.rest);
    this.answering ??= this.answer().finally(() => {
      this.answering = null;
      this.rest = setTimeout(() => this.settle(), REST);
    });
    return this.answering;
  }

  async answer() {
    do {
      const requests = [...this.requests], begin = performance.now();
      this.requests.clear();
      for (const [name, { space, point }] of requests) {
        const z = Float64Array.from(await this.inZ(space, point));
        const { logP: [logP], z0 } = await this.model.fromCodes(z);
        const there = space === 'z0' ? point : z0 && Float64Array.from(z0);
        this.points[name] = { z, z0: there, logP, logQ: this.aggregate.logProb(z) };
      }
      const isMoved = requests.some(([name]) => name !== 'probe');
      if (isMoved) await this.updatePath(this.pathTime > SLOW ? ROUGH_POINTS : LINE_POINTS);
      await this.updateProbe();
      if (this.points.probe) this.draw();
      this.frame = performance.now() - begin;
    } while (this.requests.size);
  }

  // What would take too long while a point moves.
  async settle() {
    if (this.path.z && this.path.z.logQ.length < LINE_POINTS) await this.updatePath(LINE_POINTS);
    await this.updateStrips();
    this.draw();
    await this.updateSlices();
  }

  async inZ(space, points) {
    return space === 'z' ? points : this.model.toRepresentation(points);
  }

  // The straight line from A to B in `space`, in both spaces.
  async line(space, n) {
    const [start, end] = ['A', 'B'].map((name) => Float32Array.from(this.points[name][space]));
    const line = Float32Array.from({ length: n * this.L }, (_, i) => {
      const share = Math.fround(Math.floor(i / this.L) / (n - 1)), d = i % this.L;
      return (1 - share) * start[d] + share * end[d];
    });
    const z = await this.inZ(space, line), { logP, z0 } = await this.model.fromCodes(z);
    return { z, z0: space === 'z0' ? line : z0, logP, logQ: this.aggregate.logProbs(z) };
  }

  async updatePath(n) {
    if (!this.points.A || !this.points.B) return;
    const begin = performance.now();
    for (const space of this.spaces) {
      const path = await this.line(space, n);
      if (this.planes.x) path.x = await this.model.decode(path.z);
      const inPockets = path.logQ.filter((logQ, i) => this.isPocket(logQ, path.logP[i])).length;
      path.lowestLogQ = Math.min(...path.logQ);
      this.path[space] = Object.assign(path, { tiles: this.path[space]?.tiles });
      this.part(`lowest-${space}`).textContent = format(path.lowestLogQ);
      this.part(`pockets-${space}`).textContent = `${Math.round(100 * inPockets / n)} %`;
    }
    if (n === LINE_POINTS) this.pathTime = performance.now() - begin;
  }

  // The film strips, and last the example at the slider.
  async updateStrips() {
    if (this.style.kind === 'point') return;
    const shares = [...list(TILES, (i) => i / (TILES - 1)), page.share];
    for (const path of Object.values(this.path)) {
      const at = shares.map((share) => Math.round(share * (path.logQ.length - 1)));
      path.tiles = await this.model.decode(at.flatMap((i) => [...row(path.z, i, this.L)]));
    }
  }

  async updateProbe() {
    const { probe } = this.points, { size } = this.style;
    if (!probe) return;
    probe.nearest = this.aggregate.nearest(probe.z, this.run.spaces.z.deviations, 3);
    const codes = [probe.z, ...probe.nearest.map((k) => row(this.mean, k, this.L))];
    if (this.selected) codes.push(this.selected.mean);
    const x = await this.model.decode(codes.flatMap((z) => [...z]));
    [probe.x, ...this.neighbours] = list(4, (i) => row(x, i, size));
    if (this.selected) this.selected.x = row(x, 4, size);
    this.describeProbe();
  }

  describeProbe() {
    const { logQ, logP } = this.points.probe, { quantiles, threshold } = this.run;
    const percentile = (value, levels) =>
      clamp(levels.filter((level) => level <= value).length - 1, 0, 100);
    const kind = this.isPocket(logQ, logP) ? 'in a pocket' : this.isLeak(logQ, logP) ? 'in a leak'
      : logQ < threshold.logQ ? 'far from codes and samples' : 'among codes and samples';
    this.part('where').textContent = kind;
    this.part('where').dataset.kind = kind.split(' ').at(kind.startsWith('in') ? -1 : 0);
    this.part('log-q').textContent = format(logQ);
    this.part('log-p').textContent = format(logP);
    this.part('log-q-rank').textContent = `above ${percentile(logQ, quantiles.logQ)} % of codes`;
    this.part('log-p-rank').textContent = `above ${percentile(logP, quantiles.logP)} % of samples`;
  }

  // Mark codes, and decode their mean in place of the probe.
  async select(indices) {
    const mean = indices.reduce((sum, i) =>
      axpy(1 / indices.length, row(this.dots.codes.z, i, this.L), sum), new Float64Array(this.L));
    this.selected = indices.length ? { indices, mean } : null;
    this.part('shown').textContent = indices.length
      ? `mean of ${indices.length} selected codes` : 'decoded at the ring';
    await this.updateProbe();
    this.draw();
  }

  // With more than two dimensions a panel shows a plane through the probe.
  planeOf(space, kind) {
    const about = this.run.spaces[space], { A, B, probe } = this.points, base = probe[space];
    if (kind === 'axes') return Plane.ofAxes(about, base, about.axes, space);
    if (kind === 'components') {
      const directions = about.components.map((component) => Float64Array.from(component));
      return Plane.ofDirections(about, base, directions, ['component 1', 'component 2']);
    }
    const unit = (x) => x.map((value) => value / (Math.hypot(...x) || 1));
    const u = unit(axpy(-1, A[space], B[space])), rest = axpy(-1, A[space], base);
    const v = unit(axpy(-dot(rest, u), u, rest));
    return Plane.ofDirections(about, base, [u, v], ['A to B', 'ring']);
  }

  // Follow the probe where it left the planes, or show other planes; maps are over fewer codes.
  async updateSlices(isNew = false) {
    const { L, points: { probe } } = this, n = SLICE_CELLS, turn = ++this.slices;
    if (L <= 2) return;
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
      const centre = (i) => [(i % n + 0.5) / n, (Math.floor(i / n) + 0.5) / n];
      const cells = list(n * n, (i) => [...plane.point(centre(i))]).flat();
      const z = await this.inZ(space, cells), { logP } = await this.model.fromCodes(z);
      const logQ = new Float64Array(n * n);
      for (let i = 0, begin = performance.now(); i < n * n; i++) {
        logQ[i] = this.fewer.logProb(z, i * L);
        if (performance.now() - begin < 12) continue;
        await pause();
        if (turn !== this.slices) return;
        begin = performance.now();
      }
      this.planes[space] = plane;
      this.maps[space] = { cells: n, logQ, logP };
      this.heat[space] = this.backdrops[space] = null;
      this.stale.delete(space);
      this.part('slice-note').textContent = 'Slice through the ring; only codes near it are drawn. '
        + `After a move its map is over ${this.fewer.count.toLocaleString('en')} codes.`;
      this.draw();
    }
    await this.updateSweeps(turn);
  }

  // For every dimension a slider of the probe, and a strip of what it decodes to on either side.
  async updateSweeps(turn) {
    const { L, points: { probe }, run: { spaces: { z: { deviations } } } } = this;
    for (const sweep of this.section.querySelectorAll('[data-sweep]')) {
      const dimension = Number(sweep.dataset.sweep);
      sweep.querySelector('input').value = probe.z[dimension];
      if (!this.part('sweep-box').open) continue;
      const z = new Float64Array(SWEEP_TILES * L);
      for (let i = 0; i < SWEEP_TILES; i++) {
        z.set(probe.z, i * L);
        const share = 2 * i / (SWEEP_TILES - 1) - 1;
        z[i * L + dimension] += SWEEP_REACH * share * deviations[dimension];
      }
      const x = await this.model.decode(z), { logP } = await this.model.fromCodes(z);
      if (turn !== this.slices) return;
      const logQ = this.aggregate.logProbs(z);
      this.style.drawStrip(sweep.querySelector('canvas'), x, SWEEP_TILES,
        (i) => this.isPocket(logQ[i], logP[i]));
      await pause();
    }
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
      const logQ = interpolate(map, 'logQ', x, y), logP = interpolate(map, 'logP', x, y);
      const share = ((key === 'logP' ? logP : logQ) - threshold[key]) / (top - threshold[key]);
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

  // What stays while points move: heat or data, codes, samples and ticks; their dots take long.
  backdrop(space) {
    const { options } = page, panel = this.panel(space);
    const boxes = BOXES.filter((name) => options[name] && this.dots[name][space]);
    const size = [panel.clientWidth, panel.clientHeight, devicePixelRatio];
    const key = [...size, options.shade, options.colour, ...boxes].join();
    if (this.backdrops[space]?.key === key) return this.backdrops[space].canvas;
    const canvas = new OffscreenCanvas(1, 1);
    const colour = this.colours.find(({ name }) => name === options.colour);
    const ofCodes = colour ? (i) => colour.scale.of(colour.values[i]) : () => theme.ink;
    paint(canvas, (context, width, height) => {
      if (space === 'x') this.drawData(context, width, height);
      else context.drawImage(this.heatOf(space), 0, 0, width, height);
      for (const name of boxes) {
        const values = this.dots[name][space], n = values.length / this.planes[space].u.length;
        const look = name === 'codes' && !colour ? { radius: 1.1, alpha: 0.3 } : {};
        const colourOf = name === 'codes' ? ofCodes : () => theme[name];
        this.drawDots(context, space, values, list(n, (i) => i), { colourOf, ...look });
      }
      drawTicks(context, this.planes[space], width, height);
    }, panel);
    this.backdrops[space] = { key, canvas };
    return canvas;
  }

  drawData(context, width, height) {
    const { style: { data }, planes } = this;
    context.fillStyle = theme.line;
    for (let i = 0; i < (data?.length ?? 0); i += 2) {
      const [left, top] = planes.x.place(data.subarray(i, i + 2), width, height);
      context.fillRect(left - 1, top - 1, 2, 2);
    }
  }

  drawDots(context, space, values, indices, { colourOf, radius = 2, alpha = 0.9 }) {
    const plane = this.planes[space], { clientWidth, clientHeight } = this.panel(space);
    const near = plane.nearnesses(values, this.run.spaces[space]?.deviations);
    for (const i of indices) {
      if (near[i] < 0.04) continue;
      const [x, y] = plane.place(row(values, i, plane.u.length), clientWidth, clientHeight);
      context.globalAlpha = alpha * near[i];
      context.fillStyle = colourOf(i); // thousands of squares are painted faster than discs
      if (radius > 1.5) disc(context, [x, y], radius, colourOf(i));
      else context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
    }
    context.globalAlpha = 1;
  }

  drawSpace(space) {
    paint(this.panel(space), (context, width, height) => {
      context.drawImage(this.backdrop(space), 0, 0, width, height);
      this.drawLatent(context, space, width, height);
      if (this.rectangle?.space !== space) return;
      const [x0, y0, x1, y1] = this.rectangle.corners;
      stroke(context, [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], theme.ink, 1, [4, 3]);
    });
  }

  // Selected codes, lines and points in a latent space, or in the plane of two-dimensional data.
  drawLatent(context, space, width, height) {
    const plane = this.planes[space], deviations = this.run.spaces[space]?.deviations;
    const size = plane.u.length, place = (z) => plane.place(z, width, height);
    if (this.selected) {
      const { selected: { indices }, dots: { codes } } = this, look = { radius: 2.4, alpha: 1 };
      this.drawDots(context, space, codes[space], indices, { colourOf: () => theme.z, ...look });
    }
    for (const straight of [...this.spaces].reverse().filter((each) => this.path[each]?.[space])) {
      const values = this.path[straight][space], n = values.length / size;
      const points = list(n, (i) => place(row(values, i, size)));
      if (straight !== 'z' || this.spaces.length < 2) stroke(context, points, theme.sheet, 5);
      stroke(context, points, theme[straight], 2.4, straight === 'z' ? [7, 5] : []);
      disc(context, points[Math.round(page.share * (n - 1))], 5, theme[straight], theme.sheet);
    }
    for (const name of NAMES.filter((key) => this.points[key]?.[space])) {
      const z = this.points[name][space], at = place(z);
      context.globalAlpha = 0.35 + 0.65 * plane.nearness(z, deviations);
      disc(context, at, name === 'probe' ? 8 : 9, 'transparent', theme.sheet, 5);
      disc(context, at, name === 'probe' ? 2 : 9, name === 'probe' ? theme.ink : theme.sheet);
      disc(context, at, name === 'probe' ? 8 : 9, 'transparent', theme.ink, 1.8);
      if (name !== 'probe') write(context, name, ...at, theme.ink, 'center', 600);
      context.globalAlpha = 1;
    }
  }

  drawExample() {
    const x = this.selected?.x ?? this.points.probe?.x, { style, planes } = this;
    paint(this.panel('x'), (context, width, height) => {
      if (!planes.x) {
        if (x) style.draw(context, x, 0, 0, width, height);
        return;
      }
      context.drawImage(this.backdrop('x'), 0, 0, width, height);
      for (const each of this.neighbours ?? []) {
        disc(context, planes.x.place(each, width, height), 4, 'transparent', theme.ink);
      }
      this.drawLatent(context, 'x', width, height);
      if (this.selected) disc(context, planes.x.place(x, width, height), 6, theme.z, theme.ink);
    });
    this.section.querySelectorAll('[data-neighbour]').forEach((canvas, i) => paint(canvas,
      (context, w, h) => this.neighbours && style.draw(context, this.neighbours[i], 0, 0, w, h)));
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
      const [, y] = place(0, threshold), [x] = place(page.share, low);
      context.globalAlpha = 0.12;
      context.fillStyle = theme.pocket;
      context.fillRect(0, y, width, height - y);
      context.globalAlpha = 1;
      stroke(context, [[0, y], [width, y]], theme.pocket, 1, [3, 3]);
      stroke(context, [[x, 0], [x, height]], theme.soft);
      for (const [space, { logQ }] of paths.reverse()) {
        const last = logQ.length - 1, points = [...logQ].map((value, i) => place(i / last, value));
        stroke(context, points, theme[space], 2.2, space === 'z' ? [7, 5] : []);
        disc(context, points[Math.round(page.share * last)], 4.5, theme[space], theme.sheet);
      }
      const below = height - y > 20 ? y + 10 : y - 10;
      write(context, 'red: lower than at 99 % of codes', 7, below, theme.soft, 'left');
    });
  }

  drawStrips() {
    for (const [space, path] of Object.entries(this.path).filter(([, { tiles }]) => tiles)) {
      const last = path.logQ.length - 1, at = (i) => Math.round(i / (TILES - 1) * last);
      const isPocket = (i) => this.isPocket(path.logQ[at(i)], path.logP[at(i)]);
      this.style.drawStrip(this.part(`strip-${space}`), path.tiles, TILES, isPocket);
      paint(this.part(`now-${space}`), (context, width, height) =>
        this.style.draw(context, row(path.tiles, TILES, this.style.size), 0, 0, width, height));
    }
  }
}

// What all runs share.
const page = {
  views: content.runs.map((run, index) => new RunView(run, index)),
  options: { shade: 'codes', colour: '', codes: true, low: false, high: false, plane: 'axes' },
  active: 'probe', owner: 0, nextEnd: 'A', isSelecting: false, share: 0.5,

  draw() { for (const view of this.views) view.draw(); },

  // Move a point in one run; in the others it goes to the code of the example that it is near to.
  async move(view, name, space, point) {
    Object.assign(this, { active: name, owner: this.views.indexOf(view) });
    await view.move(name, space, point);
    const { z, nearest } = view.points[name];
    for (const other of this.views.filter((each) => each !== view)) {
      const code = nearest ? row(other.mean, nearest[0], other.L)
        : other.example(view.nearestExample(z));
      await other.move(name, 'z', Float64Array.from(code));
    }
    if (!this.views.every(({ points }) => NAMES.every((each) => points[each]))) return;
    this.writeEnds();
    this.save();
  },

  // Where the ends are, and the command that walks between the test examples nearest to them.
  writeEnds() {
    const view = this.views[this.owner], nearest = ['A', 'B'].map((name) => {
      const { z } = view.points[name], index = view.nearestExample(z);
      byId(`example-${name}`).value = index;
      byId(`code-${name}`).value = [...z].map((value) => value.toFixed(4)).join(', ');
      return index;
    });
    const space = view.run.hasGeneration ? 'both' : 'z';
    byId('command').textContent =
      `dpvae traverse ${view.run.traverse} --between ${nearest.join(' ')} --space ${space}`;
  },

  save() {
    clearTimeout(this.saving);
    this.saving = setTimeout(() => {
      const { owner, options, share } = this, { points, run } = this.views[owner];
      const state = { owner, options, share, axes: run.spaces.z.axes };
      for (const name of NAMES) state[name] = [...points[name].z];
      history.replaceState(null, '', `#${encodeURIComponent(JSON.stringify(state))}`);
    }, 200);
  },

  async restore() {
    let state = {};
    try { state = JSON.parse(decodeURIComponent(location.hash.slice(1))); } catch { /* none */ }
    const view = this.views[state.owner] ?? this.views[0], { z: space } = view.run.spaces;
    Object.assign(this.options, state.options);
    this.share = clamp(Number(state.share ?? this.share), 0, 1);
    if (state.axes?.every((axis) => axis in space.low)) this.chooseAxes(state.axes);
    const [A, B] = view.run.ends.map((index) => view.example(index));
    for (const [name, begin] of [['A', () => A], ['B', () => B], ['probe', openingProbe]]) {
      const z = state[name]?.length === view.L ? state[name] : begin(view);
      await this.move(view, name, 'z', Float64Array.from(z));
    }
    if (state.axes || this.options.plane !== 'axes') this.choose('plane', this.options.plane);
  },

  chooseAxes(axes) { for (const view of this.views) view.run.spaces.z.axes = axes; },
};

// On the straight line in z where log q(z) is lowest, in a pocket if it crosses one.
function openingProbe({ L, points, path, run: { threshold } }) {
  if (L > 2) return points.A.z;
  const { z, logQ, logP } = path.z, depths = logQ.map((value, i) =>
    value - 1e6 * (value < threshold.logQ && logP[i] >= threshold.logP));
  return row(z, depths.indexOf(Math.min(...depths)), L);
}

// Select the codes in a rectangle of a panel, in all runs, and decode their mean.
function select(view, { space, corners: [x0, y0, x1, y1] }) {
  const { clientWidth, clientHeight } = view.panel(space), plane = view.planes[space];
  const { deviations } = view.run.spaces[space];
  const indices = [...view.run.points.keys()].filter((i) => {
    const z = row(view.dots.codes[space], i, view.L);
    const [x, y] = plane.place(z, clientWidth, clientHeight);
    const isInside = (x - x0) * (x - x1) <= 0 && (y - y0) * (y - y1) <= 0;
    return isInside && plane.nearness(z, deviations) > 0.2;
  });
  view.rectangle = null;
  for (const each of page.views) each.select(indices);
}

function listenToPanel(view, space) {
  const canvas = view.panel(space);
  let held = null;
  const place = (z) => view.planes[space].place(z, canvas.clientWidth, canvas.clientHeight);
  const locate = ({ clientX, clientY }) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [clientX - left - 1, clientY - top - 1]; // the border
  };
  const pointAt = (event, grip) => {
    const [x, y] = locate(event);
    const distances = NAMES.map((name) => {
      const [left, top] = place(view.points[name][space]);
      return Math.hypot(left - x, top - y);
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
    if (page.isSelecting || pointAt(event.touches[0], GRIP.touch)) event.preventDefault();
  });
  listen('pointerdown', (event) => {
    if (event.button) return;
    const isTouch = event.pointerType === 'touch';
    if (page.isSelecting) view.rectangle = { space, corners: [...locate(event), ...locate(event)] };
    else held = pointAt(event, GRIP[event.pointerType]) ?? (isTouch ? null : 'probe');
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
    const chosen = NAMES.find((name) => name[0].toLowerCase() === key), point = view.points;
    if (chosen) page.active = chosen;
    else if (key === 'escape') for (const each of page.views) each.select([]);
    else if (key === 's') {
      const [x, y] = place(point.probe[space]);
      select(view, { space, corners: [x - 25, y - 25, x + 25, y + 25] });
    } else if (direction) {
      const step = event.shiftKey ? 0.1 : 0.01, from = point[page.active][space];
      const share = plane.share(from).map((value, i) => value + step * direction[i]);
      page.move(view, page.active, space, plane.point(share, from));
    } else return;
    event.preventDefault();
  });
}

function listenToSweeps(view) {
  const sweeps = view.part('sweep-box');
  const dimensionOf = ({ target }) => Number(target.closest('[data-sweep]')?.dataset.sweep);
  sweeps.addEventListener('input', (event) => {
    const z = Float64Array.from(view.points.probe.z);
    z[dimensionOf(event)] = Number(event.target.value);
    page.move(view, 'probe', 'z', z);
  });
  sweeps.addEventListener('click', (event) => {
    if (!event.target.matches('button, canvas')) return;
    const dimension = dimensionOf(event), [first, second] = view.run.spaces.z.axes;
    page.chooseAxes([dimension, dimension === first ? second : first]);
    page.choose('plane', 'axes');
  });
  sweeps.addEventListener('toggle', () => view.updateSweeps(view.slices));
}

function writeLegend() {
  const { scale } = page.views[0].colours.find(({ name }) => name === page.options.colour) ?? {};
  byId('legend').replaceChildren(...(scale?.levels ?? []).map((level) => {
    const entry = document.createElement('span');
    entry.textContent = +level.toPrecision(3);
    entry.style.setProperty('--level', scale.of(level));
    return entry;
  }));
}

// Set an option, in all controls that show it.
page.choose = (option, value) => {
  page.options[option] = value;
  for (const input of document.querySelectorAll(`[data-option="${option}"]`)) {
    input[input.type === 'checkbox' ? 'checked' : 'value'] = value;
  }
  if (option === 'colour') writeLegend();
  if (option === 'plane') for (const view of page.views) view.updateSlices(true);
  page.draw();
  page.save();
};

function listenToControls() {
  const { options, views } = page, [{ examples, L }] = views;
  for (const input of document.querySelectorAll('[data-option]')) {
    const { option } = input.dataset, key = input.type === 'checkbox' ? 'checked' : 'value';
    input[key] = options[option];
    input.addEventListener('change', () => page.choose(option, input[key]));
  }
  if (options.colour) writeLegend();
  byId('select').addEventListener('click', ({ currentTarget }) => {
    page.isSelecting = !page.isSelecting;
    currentTarget.setAttribute('aria-pressed', page.isSelecting);
  });
  for (const name of ['A', 'B']) {
    const box = byId(`example-${name}`), code = byId(`code-${name}`);
    box.max = examples.length / L - 1;
    box.addEventListener('change', () => {
      const isFit = box.value !== '' && box.reportValidity();
      if (isFit) page.move(views[0], name, 'z', views[0].example(Number(box.value)));
    });
    code.addEventListener('change', () => {
      const z = Float64Array.from(code.value.split(/[\s,;]+/).filter(Boolean), Number);
      const isFit = z.length === L && z.every(Number.isFinite);
      code.setCustomValidity(isFit ? '' : `Type ${L} numbers.`);
      if (code.reportValidity()) page.move(views[page.owner], name, 'z', z);
    });
  }
  byId('copy').addEventListener('click', () => {
    getSelection().selectAllChildren(byId('command'));
    const done = navigator.clipboard?.writeText(byId('command').textContent) ?? Promise.reject();
    const say = (text) => { byId('copied').textContent = text; };
    done.then(() => say('copied'), () => say('selected: copy it with your keyboard'));
  });
  for (const slider of document.querySelectorAll('[data-part="share"]')) {
    slider.addEventListener('input', () => page.walk(Number(slider.value)));
  }
  for (const view of views) {
    for (const space of view.spaces) listenToPanel(view, space);
    if (L > 2) listenToSweeps(view);
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    theme.read();
    for (const view of views) Object.assign(view, { heat: {}, backdrops: {} });
    page.draw();
  });
  new ResizeObserver(() => page.draw()).observe(document.body);
  addEventListener('hashchange', () => page.restore());
}

async function loadRuntime() {
  const ort = await import(`data:text/javascript;base64,${byId('runtime-module').textContent}`);
  ort.env.wasm.wasmBinary = (await inflate(byId('runtime-wasm').textContent)).buffer;
  ort.env.wasm.numThreads = 1;
  return ort;
}

async function start() {
  const begin = performance.now(), { views } = page;
  theme.read();
  const runtime = byId('runtime-module') && loadRuntime();
  for (const view of views) await view.unpack();
  page.draw(); // the maps are there before the model is
  page.drawTime = performance.now() - begin;
  await Promise.all(views.map(async (view) => view.load(await runtime)));
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

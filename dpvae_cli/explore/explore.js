// The page of `dpvae explore`: both latent spaces of a model, and what it decodes from them.
// Names are those of the Python package; log-densities are in nats.

const CUT = 20; // exponents this far below the largest are left out: at most N exp(-20) of the sum
const LINE_POINTS = 201, TILES = 11, STEP = (LINE_POINTS - 1) / (TILES - 1); // as `dpvae traverse`
const SWEEP_TILES = 9, SWEEP_REACH = 3; // standard deviations to either side
const SLICE_CELLS = 49, SLICE_CODES = 5000; // of a map after a move
const GRIP = { mouse: 14, pen: 18, touch: 30 }; // pixels at which a pointer takes hold of a point
const NAMES = ['A', 'B', 'probe'], BOXES = ['codes', 'low', 'high'];
const PALETTE = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#b8860b', '#56b4e9', '#7f5539',
  '#8e6ee0', '#6b7a00', '#e6007e'];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

const byId = (id) => document.getElementById(id);
const content = JSON.parse(byId('content').textContent);
const row = (values, i, size) => values.subarray(i * size, (i + 1) * size);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const axpy = (a, x, y) => Float64Array.from(y, (value, i) => a * x[i] + value);
const squaredDistance = (a, b, deviations) =>
  a.reduce((sum, value, i) => sum + ((value - b[i]) / deviations[i]) ** 2, 0);
const format = (value, digits = 2) => value.toFixed(digits).replace('-', '−');
const pause = () => new Promise((resolve) => { setTimeout(resolve); });

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// What `packing.py` packs: integers of some bytes, all lowest bytes first, a scale a column.
async function unpack({ low, step, bytes, data }) {
  const planes = await inflate(data), count = planes.length / bytes;
  return Float64Array.from({ length: count }, (_, i) => {
    let integer = 0;
    for (let k = bytes - 1; k >= 0; k--) integer = integer * 256 + planes[k * count + i];
    return low[i % low.length] + step[i % low.length] * integer;
  });
}

// exp(-x) for x in [0, CUT], to 1e-9: a table and three terms of the series, faster than Math.exp.
const EXPONENTIALS = Float64Array.from({ length: 64 * CUT + 2 }, (_, i) => Math.exp(-i / 64));
const exponential = (x) => {
  const i = (64 * x) | 0, r = i / 64 - x;
  return EXPONENTIALS[i] * (1 + r * (1 + r * (0.5 + r / 6)));
};

// q(z): the uniform mixture of the Gaussians that the encoder writes for the training examples.
// Components come in blocks of neighbours; a block too far away to matter is left out of the sum.
class AggregatePosterior {
  constructor(mean, logVariance, L, block) {
    const count = mean.length / L, blocks = Math.ceil(count / block);
    Object.assign(this, { L, block, count, blocks, mean, last: 0, point: new Float64Array(L) });
    this.halfPrecision = logVariance.map((value) => 0.5 * Math.exp(-value));
    this.constant = new Float64Array(count).fill(-0.5 * L * Math.log(2 * Math.PI));
    this.low = new Float64Array(blocks * L).fill(Infinity); // of a block's means
    this.high = new Float64Array(blocks * L).fill(-Infinity);
    this.least = new Float64Array(blocks * L).fill(Infinity); // of its halfPrecision
    this.most = new Float64Array(blocks).fill(-Infinity); // of its constant
    for (let k = 0; k < count; k++) {
      const b = Math.floor(k / block);
      for (let d = 0, i = k * L, at = b * L; d < L; d++, i++, at++) {
        this.constant[k] -= 0.5 * logVariance[i];
        this.low[at] = Math.min(this.low[at], mean[i]);
        this.high[at] = Math.max(this.high[at], mean[i]);
        this.least[at] = Math.min(this.least[at], this.halfPrecision[i]);
      }
      this.most[b] = Math.max(this.most[b], this.constant[k]);
    }
  }

  logProb(z, offset = 0) {
    const { L, block, count, mean, halfPrecision, constant, low, high, least, point } = this;
    for (let d = 0; d < L; d++) point[d] = z[offset + d];
    const first = this.last; // had the last point's largest exponent, and probably has this one's
    let largest = -Infinity, total = 0;
    for (let turn = -1; turn < this.blocks; turn++) {
      if (turn === first) continue;
      const b = turn < 0 ? first : turn;
      let bound = this.most[b] - largest + CUT;
      for (let d = 0, i = b * L; d < L && bound > 0; d++, i++) {
        const x = point[d];
        const gap = x < low[i] ? low[i] - x : x > high[i] ? x - high[i] : 0;
        bound -= least[i] * gap * gap;
      }
      if (bound <= 0) continue;
      for (let k = b * block, end = Math.min(count, k + block); k < end; k++) {
        const floor = largest - CUT;
        let exponent = constant[k];
        for (let d = 0, i = k * L; d < L && exponent > floor; d++, i++) {
          const difference = point[d] - mean[i];
          exponent -= halfPrecision[i] * difference * difference;
        }
        if (exponent > largest) {
          total = total * Math.exp(largest - exponent) + 1;
          largest = exponent;
          this.last = b;
        } else if (exponent > floor) total += exponential(largest - exponent);
      }
    }
    return largest + Math.log(total) - Math.log(count);
  }

  logProbs(z) {
    return Float64Array.from({ length: z.length / this.L }, (_, i) => this.logProb(z, i * this.L));
  }

  // The components with the nearest means, in standard deviations under q(z).
  nearest(z, deviations, count) {
    let found = [];
    for (let k = 0; k < this.count; k++) {
      const worst = found.length < count ? Infinity : found[count - 1].distance;
      let distance = 0;
      for (let d = 0, i = k * this.L; d < this.L && distance < worst; d++, i++) {
        distance += ((z[d] - this.mean[i]) / deviations[d]) ** 2;
      }
      if (distance >= worst) continue;
      found = [...found, { distance, k }].sort((a, b) => a.distance - b.distance).slice(0, count);
    }
    return found.map(({ k }) => k);
  }
}

// Prior, bijection and decoder in ONNX Runtime, which runs one graph at a time.
class GraphModel {
  static queue = Promise.resolve();

  static async load(graphs, L, ort) {
    const model = Object.assign(new GraphModel(), { ort, L, sessions: {} });
    for (const [name, text] of Object.entries(graphs)) {
      model.sessions[name] = await ort.InferenceSession.create(await inflate(text));
    }
    return model;
  }

  run(name, z) {
    const result = GraphModel.queue.then(() => {
      const session = this.sessions[name], shape = [z.length / this.L, this.L];
      const tensor = new this.ort.Tensor('float32', Float32Array.from(z), shape);
      return session.run({ [session.inputNames[0]]: tensor });
    });
    GraphModel.queue = result.catch(() => {});
    return result;
  }

  async fromCodes(z) {
    const { log_p: logP, z0 } = await this.run('prior', z);
    return { logP: logP.data, z0: z0?.data };
  }

  async toRepresentation(z0) { return (await this.run('inverse', z0)).z.data; }

  async decode(z) { return (await this.run('decoder', z)).x.data; }
}

// In place of a model that cannot be exported: what was decoded beforehand on a grid in z.
class GridModel {
  constructor(pictures, side, size, plane, map) {
    Object.assign(this, { pictures, side, size, plane, map });
  }

  shares(z) {
    const L = this.plane.u.length;
    return Array.from({ length: z.length / L }, (_, i) =>
      this.plane.share(row(z, i, L)).map((share) => clamp(share, 0, 1 - 1e-9)));
  }

  async fromCodes(z) {
    return { logP: this.shares(z).map(([x, y]) => interpolate(this.map.logP, this.map.cells, x, y)) };
  }

  async decode(z) {
    const x = new Float32Array(z.length / this.plane.u.length * this.size);
    this.shares(z).forEach(([s, t], i) => {
      const cell = Math.floor(t * this.side) * this.side + Math.floor(s * this.side);
      x.set(row(this.pictures, cell, this.size), i * this.size);
    });
    return x;
  }
}

// A plane through `base`, with coordinates along two orthonormal directions u and v.
class Plane {
  constructor(base, u, v, low, high) { Object.assign(this, { base, u, v, low, high }); }

  static ofAxes(space, base, axes) {
    const [u, v] = axes.map((axis) => Float64Array.from(base, (_, i) => Number(i === axis)));
    const [low, high] = ['low', 'high'].map((end) => axes.map((axis) => space[end][axis]));
    return new Plane(base, u, v, low, high);
  }

  static ofDirections(space, base, u, v) {
    const reach = (direction, sign) => dot(space.centre, direction)
      + sign * 4 * Math.hypot(...direction.map((value, i) => value * space.deviations[i]));
    const [low, high] = [-1, 1].map((sign) => [u, v].map((direction) => reach(direction, sign)));
    return new Plane(base, u, v, low, high);
  }

  coordinates(z) { return [dot(z, this.u), dot(z, this.v)]; }

  // From 0 to 1 along both sides of a panel, and back.
  share(z) {
    return this.coordinates(z).map((s, i) => (s - this.low[i]) / (this.high[i] - this.low[i]));
  }

  // The point there; what is off the plane stays as it is in `from`.
  point(share, from = this.base) {
    const [s, t] = share.map((x, i) => this.low[i] + x * (this.high[i] - this.low[i]));
    const [s0, t0] = this.coordinates(from);
    return axpy(t - t0, this.v, axpy(s - s0, this.u, from));
  }

  // How near a point is to the slice: 1 on it, falling to 0 away from it.
  nearness(z, deviations) {
    if (z.length <= 2) return 1;
    const foot = this.point(this.share(z));
    return Math.exp(-squaredDistance(z, foot, deviations) / (z.length - 2));
  }
}

// Bilinear between the centres of cells.
function interpolate(values, cells, x, y) {
  const s = clamp(x * cells - 0.5, 0, cells - 1.001), t = clamp(y * cells - 0.5, 0, cells - 1.001);
  const i = Math.floor(s), j = Math.floor(t), a = s - i, b = t - j, at = j * cells + i;
  return (1 - b) * ((1 - a) * values[at] + a * values[at + 1])
    + b * ((1 - a) * values[at + cells] + a * values[at + cells + 1]);
}

const theme = {
  read() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['ink', 'soft', 'line', 'sheet', 'pocket', 'leak', 'z', 'z0', 'low', 'high']) {
      this[name] = style.getPropertyValue(`--${name}`).trim();
    }
  },
  channels(name) { return [1, 3, 5].map((at) => parseInt(this[name].slice(at, at + 2), 16)); },
};

// Let `draw(context, width, height)` fill a canvas, in CSS pixels, as sharp as the screen.
function paint(canvas, draw) {
  const ratio = devicePixelRatio || 1, { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  draw(context, width, height);
}

function disc(context, [x, y], radius, fill, stroke = fill, width = 1.5) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  Object.assign(context, { fillStyle: fill, strokeStyle: stroke, lineWidth: width });
  context.fill();
  if (stroke !== fill) context.stroke();
}

function stroke(context, points, colour, width = 1, dash = []) {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.setLineDash(dash);
  Object.assign(context, { strokeStyle: colour, lineWidth: width, lineJoin: 'round' });
  context.stroke();
  context.setLineDash([]);
}

function write(context, text, x, y, colour, textAlign = 'center', weight = 400) {
  const font = `${weight} 11px system-ui, sans-serif`;
  Object.assign(context, { font, textAlign, textBaseline: 'middle', fillStyle: colour });
  context.fillText(text, x, y + 0.5);
}

function drawTicks(context, { low, high }, width, height) {
  for (const axis of [0, 1]) {
    const range = high[axis] - low[axis], power = 10 ** Math.floor(Math.log10(range / 4));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= range / 4);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    for (let k = Math.ceil(low[axis] / step); k * step < high[axis]; k++) {
      const share = (k * step - low[axis]) / range, text = format(k * step + 0, digits);
      if (share < 0.07 || share > 0.95) continue;
      if (axis === 0) write(context, text, share * width, height - 9, theme.soft);
      else write(context, text, 6, (1 - share) * height, theme.soft, 'left');
    }
  }
}

function colourScale({ values, isOrdered }) {
  const levels = [...new Set(values)].sort((a, b) => a - b), range = levels.at(-1) - levels[0] || 1;
  if (!isOrdered && levels.length <= PALETTE.length) {
    return (i) => PALETTE[levels.indexOf(values[i])];
  }
  return (i) => { // from dark blue to yellow
    const share = (values[i] - levels[0]) / range;
    return `hsl(${250 - 200 * share} ${60 + 25 * share}% ${32 + 28 * share}%)`;
  };
}

// How examples are drawn: images, points among the data, or bars.
class ExampleStyle {
  constructor({ kind, shape, pixelRange }, data) {
    Object.assign(this, { kind, shape, pixelRange, data, size: shape.reduce((a, b) => a * b, 1) });
    if (kind === 'image') this.buffer = new OffscreenCanvas(shape[2], shape[1]);
    const column = (i) => data?.filter((_, at) => at % this.size === i) ?? [-1, 1];
    if (kind === 'image') return;
    const columns = Array.from({ length: this.size }, (_, i) => column(i));
    this.low = columns.map((values) => values.reduce((a, b) => Math.min(a, b)));
    this.high = columns.map((values) => values.reduce((a, b) => Math.max(a, b)));
  }

  // The plane of two-dimensional data.
  plane() {
    const margin = this.low.map((low, i) => 0.12 * (this.high[i] - low));
    return new Plane([0, 0], [1, 0], [0, 1], axpy(-1, margin, this.low), axpy(1, margin, this.high));
  }

  draw(context, x, left, top, width, height) {
    if (this.kind === 'image') this.drawImage(context, x, left, top, width, height);
    else this.drawBars(context, x, left, top, width, height);
  }

  drawImage(context, x, left, top, width, height) {
    const [channels, rows, columns] = this.shape, [black, white] = this.pixelRange;
    const inner = this.buffer.getContext('2d'), pixels = inner.createImageData(columns, rows);
    for (let i = 0, area = rows * columns; i < 4 * area; i++) {
      const value = x[(channels === 3 ? i % 4 * area : 0) + (i >> 2)];
      pixels.data[i] = i % 4 === 3 ? 255 : 255 * (value - black) / (white - black);
    }
    inner.putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    const scale = Math.min(width / columns, height / rows), w = columns * scale, h = rows * scale;
    context.drawImage(this.buffer, left + (width - w) / 2, top + (height - h) / 2, w, h);
  }

  drawBars(context, x, left, top, width, height) {
    const step = width / this.size, bar = Math.max(1, step * 0.7);
    for (let i = 0; i < this.size; i++) {
      const low = this.low[i], high = this.high[i], at = left + (i + 0.15) * step;
      const y = (value) => top + height * (1 - clamp((value - low) / (high - low || 1), 0, 1));
      const zero = y(clamp(0, low, high)), end = y(x[i]);
      context.fillStyle = theme.line;
      context.fillRect(at, top, bar, height);
      context.fillStyle = theme.ink;
      context.fillRect(at, Math.min(zero, end), bar, Math.max(1.5, Math.abs(end - zero)));
    }
  }

  // A row of examples, those in pockets underlined.
  drawStrip(canvas, x, count, isPocket) {
    paint(canvas, (context, width, height) => {
      const step = width / count, side = Math.min(step - (this.kind === 'image' ? 2 : 8), height - 5);
      for (let i = 0; i < count; i++) {
        this.draw(context, row(x, i, this.size), i * step, 0, side, side);
        context.fillStyle = theme.pocket;
        if (isPocket(i)) context.fillRect(i * step, side + 2, side, 3);
      }
    });
  }
}

// One run: its points, the path from A to B, and the panels that show them.
class RunView {
  constructor(run, index) {
    this.section = document.querySelector(`[data-run="${index}"]`);
    Object.assign(this, { run, index, L: run.latentDim, share: 0.5, selected: null });
    for (const key of ['points', 'path', 'planes', 'maps', 'heat']) this[key] = {};
    this.spaces = ['z', 'z0'].filter((space) => run.spaces[space] && (space === 'z' || run.graphs));
    this.requests = new Map();
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
      this.planes[space] = Plane.ofAxes(run.spaces[space], Float64Array.from(base), axes);
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
    this.moving ??= this.answer().finally(() => { this.moving = null; });
    return this.moving;
  }

  async answer() {
    while (this.requests.size) {
      const requests = [...this.requests], begin = performance.now();
      this.requests.clear();
      for (const [name, { space, point, example }] of requests) {
        const z = space === 'z' ? point : Float64Array.from(await this.model.toRepresentation(point));
        const { logP: [logP], z0 } = await this.model.fromCodes(z);
        const logQ = this.aggregate.logProb(z);
        this.points[name] = { z, z0: space === 'z0' ? point : z0 && Float64Array.from(z0), example };
        Object.assign(this.points[name], { logP, logQ });
      }
      if (requests.some(([name]) => name !== 'probe')) await this.updatePath();
      await this.updateProbe();
      this.draw();
      this.frame = performance.now() - begin;
    }
  }

  // The straight line from A to B in `space`, in both spaces.
  async line(space) {
    const [start, end] = ['A', 'B'].map((name) => Float32Array.from(this.points[name][space]));
    const line = Float32Array.from({ length: LINE_POINTS * this.L }, (_, i) => {
      const share = Math.fround(Math.floor(i / this.L) / (LINE_POINTS - 1)), d = i % this.L;
      return (1 - share) * start[d] + share * end[d];
    });
    const z = space === 'z' ? line : await this.model.toRepresentation(line);
    const { logP, z0 } = await this.model.fromCodes(z);
    return { z, z0: space === 'z0' ? line : z0, logP, logQ: this.aggregate.logProbs(z) };
  }

  async updatePath() {
    if (!this.points.A || !this.points.B) return;
    for (const space of this.spaces) {
      const path = await this.line(space);
      if (this.planes.x) path.x = await this.model.decode(path.z);
      const inPockets = path.logQ.filter((logQ, i) => this.isPocket(logQ, path.logP[i])).length;
      path.lowestLogQ = Math.min(...path.logQ);
      this.path[space] = Object.assign(path, { tiles: this.path[space]?.tiles });
      this.part(`lowest-${space}`).textContent = format(path.lowestLogQ);
      this.part(`pockets-${space}`).textContent = `${Math.round(100 * inPockets / LINE_POINTS)} %`;
    }
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

  // With more than two dimensions a panel shows the plane through the probe.
  setPlane(space, kind) {
    const about = this.run.spaces[space], { A, B, probe } = this.points, base = probe[space];
    let [u, v] = about.components.map((component) => Float64Array.from(component));
    if (kind === 'anchors') {
      const unit = (x) => x.map((value) => value / (Math.hypot(...x) || 1));
      u = unit(axpy(-1, A[space], B[space]));
      const rest = axpy(-1, A[space], base);
      v = unit(axpy(-dot(rest, u), u, rest));
    }
    this.planes[space] = kind === 'axes' ? Plane.ofAxes(about, base, about.axes)
      : Plane.ofDirections(about, base, u, v);
  }

  // Follow the probe where it left the planes, or show other planes; maps are over fewer codes.
  async updateSlices(isNew = false) {
    const { L, points: { probe } } = this, n = SLICE_CELLS;
    const turn = this.turn = (this.turn ?? 0) + 1;
    const every = Math.ceil(this.aggregate.count / SLICE_CODES);
    const thin = (values) => values.filter((_, i) => Math.floor(i / L) % every === 0);
    this.fewer ??= new AggregatePosterior(thin(this.mean), thin(this.logVariance), L, this.run.block);
    for (const space of this.spaces) {
      const { deviations } = this.run.spaces[space];
      if (!isNew && this.planes[space].nearness(probe[space], deviations) > 0.9999) continue;
      this.setPlane(space, page.options.plane);
      const cells = Array.from({ length: n * n }, (_, i) =>
        [...this.planes[space].point([(i % n + 0.5) / n, (Math.floor(i / n) + 0.5) / n])]).flat();
      const z = space === 'z' ? cells : await this.model.toRepresentation(cells);
      const { logP } = await this.model.fromCodes(z), logQ = new Float64Array(n * n);
      for (let i = 0, begin = performance.now(); i < n * n; i++) {
        logQ[i] = this.fewer.logProb(z, i * L);
        if (performance.now() - begin < 12) continue;
        await pause();
        if (turn !== this.turn) return;
        begin = performance.now();
      }
      this.maps[space] = { cells: n, logQ, logP };
      this.heat[space] = null;
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
      const grey = logQ < threshold.logQ || shade === 'nothing' ? 0 : 0.07 + 0.5 * clamp(share, 0, 1);
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
      const nearness = (z) => plane.nearness(z, deviations);
      this.drawLatent(context, space, plane, width, height, nearness);
      if (this.rectangle?.space !== space) return;
      const [x0, y0, x1, y1] = this.rectangle.corners;
      stroke(context, [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], theme.ink, 1, [4, 3]);
    });
  }

  drawLatent(context, space, plane, width, height, nearness = () => 1) {
    const L = plane.u.length, { options } = page;
    const place = (z) => plane.share(z).map((share, i) => (i ? (1 - share) * height : share * width));
    const dots = (values, indices, colourOf, radius, alpha) => {
      for (const i of indices) {
        const z = row(values, i, L), near = nearness(z);
        context.globalAlpha = alpha * near;
        if (near > 0.04) disc(context, place(z), radius, colourOf(i));
      }
      context.globalAlpha = 1;
    };
    const colour = this.colours.find(({ name }) => name === options.colour);
    const colours = { codes: colour ? colourScale(colour) : () => theme.ink };
    for (const name of BOXES.filter((key) => options[key] && this.dots[key][space])) {
      const values = this.dots[name][space], isPlain = name === 'codes' && !colour;
      const indices = Array.from({ length: values.length / L }, (_, i) => i);
      dots(values, indices, colours[name] ?? (() => theme[name]), isPlain ? 1.1 : 2, isPlain ? 0.3 : 0.9);
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
      context.globalAlpha = 0.35 + 0.65 * nearness(this.points[name][space]);
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
        this.drawLatent(context, 'x', this.planes.x, width, height);
      } else if (x) style.draw(context, x, 0, 0, width, height);
    });
    this.section.querySelectorAll('[data-neighbour]').forEach((canvas, i) => {
      if (this.neighbours) paint(canvas, (...box) => style.draw(box[0], this.neighbours[i], 0, 0, box[1], box[2]));
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
      const levels = row(view.pictures ?? new Float64Array(), near, size), canvas = byId(`picture-${name}`);
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
      for (const name of NAMES) state[name] = points[name].example ?? [...points[name].z].map(Math.fround);
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
      if (state.axes?.every((axis) => axis in view.run.spaces.z.low)) each.run.spaces.z.axes = state.axes;
    }
    for (const [name, start] of [['A', first], ['B', second], ['probe', null]]) {
      const asked = state[name] ?? start;
      if (Number.isInteger(asked)) await this.setExample(name, asked % (view.examples.length / view.L));
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
    if (page.isSelecting) view.rectangle = { space, corners: [...locate(event), ...locate(event)] };
    else held = handleAt(event, GRIP[event.pointerType]) ?? (event.pointerType === 'touch' ? null : 'probe');
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
    return (x - x0) * (x - x1) <= 0 && (y - y0) * (y - y1) <= 0 && plane.nearness(z, deviations) > 0.2;
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
      if (target.value !== '' && target.reportValidity()) page.setExample(name, Number(target.value));
    });
    byId(`code-${name}`).addEventListener('change', ({ target }) => {
      const values = target.value.split(/[\s,;]+/).filter(Boolean).map(Number);
      const isFit = values.length === L && values.every(Number.isFinite);
      target.setCustomValidity(isFit ? '' : `Type ${L} numbers.`);
      if (target.reportValidity()) page.move(views[page.owner], name, 'z', Float64Array.from(values));
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

// Densities, models and planes of latent spaces: what the page computes with, in plain numbers.
// Names are those of the Python package; log-densities are in nats.

const CUT = 20; // exponents this far below the largest are left out: at most N exp(-20) of the sum

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const list = (n, f) => Array.from({ length: n }, (_, i) => f(i));
const row = (values, i, size) => values.subarray(i * size, (i + 1) * size);
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const axpy = (a, x, y) => Float64Array.from(y, (value, i) => a * x[i] + value);
const squaredDistance = (a, b, deviations) =>
  a.reduce((sum, value, i) => sum + ((value - b[i]) / deviations[i]) ** 2, 0);

function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text); // not in browsers before 2025
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(text) {
  const bytes = new Blob([decodeBase64(text)]);
  const stream = bytes.stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// What `packing.py` packs: integers of some bytes, all lowest bytes first, a scale a column.
async function unpack({ low, step, bytes, data }) {
  const planes = await inflate(data), values = new Float64Array(planes.length / bytes);
  for (let i = 0, n = values.length, columns = low.length; i < n; i++) {
    let integer = 0;
    for (let k = bytes - 1; k >= 0; k--) integer = integer * 256 + planes[k * n + i];
    values[i] = low[i % columns] + step[i % columns] * integer;
  }
  return values;
}

// exp(-x) for x in [0, CUT], to 1e-9: a table and three terms of the series, faster than Math.exp.
const EXPONENTIALS = Float64Array.from(list(64 * CUT + 2, (i) => Math.exp(-i / 64)));
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
        let exponent = constant[k], i = k * L;
        if (L === 2) {
          const x = point[0] - mean[i], y = point[1] - mean[i + 1];
          exponent -= halfPrecision[i] * x * x + halfPrecision[i + 1] * y * y;
        } else for (let d = 0; d < L && exponent > floor; d++, i++) {
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
    const options = { graphOptimizationLevel: 'disabled' }; // it takes longer than it saves
    for (const [name, text] of Object.entries(graphs)) {
      model.sessions[name] = await ort.InferenceSession.create(await inflate(text), options);
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
    const { log_p: logP, to_z0: z0 } = await this.run('prior', z);
    return { logP: logP.data, z0: z0?.data };
  }

  async toRepresentation(z0) { return (await this.run('inverse', z0)).to_z.data; }

  async decode(z) { return (await this.run('decoder', z)).x.data; }
}

// In place of a model that cannot be exported: what was decoded beforehand on a grid in z.
class GridModel {
  constructor(pictures, side, size, plane, map) {
    Object.assign(this, { pictures, side, size, plane, map });
  }

  shares(z) {
    const L = this.plane.u.length, values = Float64Array.from(z);
    const inside = (share) => clamp(share, 0, 1 - 1e-9);
    return list(z.length / L, (i) => this.plane.share(row(values, i, L)).map(inside));
  }

  async fromCodes(z) {
    return { logP: this.shares(z).map(([x, y]) => interpolate(this.map, 'logP', x, y)) };
  }

  async decode(z) {
    const shares = this.shares(z), x = new Float32Array(shares.length * this.size);
    shares.forEach(([s, t], i) => {
      const cell = Math.floor(t * this.side) * this.side + Math.floor(s * this.side);
      x.set(row(this.pictures, cell, this.size), i * this.size);
    });
    return x;
  }
}

// A value of a map, bilinear between the centres of its cells.
function interpolate(map, key, x, y) {
  const { cells } = map, values = map[key];
  const s = clamp(x * cells - 0.5, 0, cells - 1.001), t = clamp(y * cells - 0.5, 0, cells - 1.001);
  const i = Math.floor(s), j = Math.floor(t), a = s - i, b = t - j, at = j * cells + i;
  return (1 - b) * ((1 - a) * values[at] + a * values[at + 1])
    + b * ((1 - a) * values[at + cells] + a * values[at + cells + 1]);
}

// A plane through `base`, with coordinates along two orthonormal directions u and v.
class Plane {
  constructor(base, [u, v], low, high, names = []) {
    Object.assign(this, { base, u, v, low, high, names, known: new Map() });
  }

  static ofAxes({ low, high }, base, axes, name) {
    const directions = axes.map((axis) => Float64Array.from(base, (_, i) => Number(i === axis)));
    const names = base.length > 2 ? axes.map((axis) => `${name}[${axis}]`) : [];
    const ends = [low, high].map((end) => axes.map((axis) => end[axis]));
    return new Plane(base, directions, ...ends, names);
  }

  static ofDirections({ centre, deviations }, base, directions, names) {
    const reach = (direction) =>
      4 * Math.hypot(...direction.map((value, i) => value * deviations[i]));
    const ends = [-1, 1].map((sign) =>
      directions.map((direction) => dot(centre, direction) + sign * reach(direction)));
    return new Plane(base, directions, ...ends, names);
  }

  coordinates(z) { return [dot(z, this.u), dot(z, this.v)]; }

  // From 0 to 1 along both sides of a panel, and back.
  share(z) {
    return this.coordinates(z).map((s, i) => (s - this.low[i]) / (this.high[i] - this.low[i]));
  }

  // In pixels of a panel, from its upper left corner.
  place(z, width, height) {
    const [s, t] = this.share(z);
    return [s * width, (1 - t) * height];
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
    return Math.exp(-squaredDistance(z, this.point(this.share(z)), deviations) / (z.length - 2));
  }

  // Of many points, computed once.
  nearnesses(values, deviations) {
    const L = this.u.length;
    if (!this.known.has(values)) {
      const nearness = (i) => this.nearness(row(values, i, L), deviations);
      this.known.set(values, list(values.length / L, nearness));
    }
    return this.known.get(values);
  }
}


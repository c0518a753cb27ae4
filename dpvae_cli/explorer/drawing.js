// Drawing on canvases: colours, ticks, codes and examples.

const COLOURS = ['ink', 'soft', 'line', 'sheet', 'pocket', 'leak', 'z', 'z0', 'low', 'high'];
const PALETTE = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#b8860b', '#56b4e9', '#7f5539',
  '#8e6ee0', '#6b7a00', '#e6007e'];

const format = (value, digits = 2) => value.toFixed(digits).replace('-', '−');

const theme = {
  read() {
    const style = getComputedStyle(document.documentElement);
    for (const name of COLOURS) this[name] = style.getPropertyValue(`--${name}`).trim();
  },
  channels(name) { return [1, 3, 5].map((at) => parseInt(this[name].slice(at, at + 2), 16)); },
};

// Let `draw(context, width, height)` fill a canvas, or one for `panel`, in CSS pixels, as sharp as
// the screen.
function paint(canvas, draw, { clientWidth: width, clientHeight: height } = canvas) {
  const ratio = devicePixelRatio || 1;
  if (!width || !height) return;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  draw(context, width, height);
}

function disc(context, [x, y], radius, fill, edge = fill, width = 1.5) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  Object.assign(context, { fillStyle: fill, strokeStyle: edge, lineWidth: width });
  context.fill();
  if (edge !== fill) context.stroke();
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

function drawTicks(context, { low, high, names }, width, height) {
  for (const axis of [0, 1]) {
    const range = high[axis] - low[axis], power = 10 ** Math.floor(Math.log10(range / 4));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= range / 4);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    for (let k = Math.ceil(low[axis] / step); k * step < high[axis]; k++) {
      const share = (k * step - low[axis]) / range, text = format(k * step + 0, digits);
      if (share < 0.07 || share > (names.length ? 0.8 : 0.95)) continue;
      if (axis === 0) write(context, text, share * width, height - 9, theme.soft);
      else write(context, text, 6, (1 - share) * height, theme.soft, 'left');
    }
  }
  if (!names.length) return;
  write(context, `${names[0]} →`, width - 6, height - 9, theme.ink, 'right', 600);
  write(context, `↑ ${names[1]}`, 6, 12, theme.ink, 'left', 600);
}

// The colour of a value, and the values of a legend: all, or least and greatest.
function colourScale({ values, isOrdered }) {
  const levels = [...new Set(values)].sort((a, b) => a - b);
  const [least, greatest] = [levels[0], levels.at(-1)];
  if (!isOrdered && levels.length <= PALETTE.length) {
    return { levels, of: (value) => PALETTE[levels.indexOf(value)] };
  }
  const of = (value) => { // from dark blue to yellow
    const share = (value - least) / (greatest - least || 1);
    return `hsl(${250 - 200 * share} ${60 + 25 * share}% ${32 + 28 * share}%)`;
  };
  return { levels: [least, greatest], of };
}

// How examples are drawn: images, points among the data, or bars.
class ExampleStyle {
  constructor({ kind, shape, pixelRange }, data) {
    Object.assign(this, { kind, shape, pixelRange, data, size: shape.reduce((a, b) => a * b, 1) });
    this.draw = kind === 'image' ? this.drawImage : this.drawBars;
    if (kind === 'image') this.buffer = new OffscreenCanvas(shape[2], shape[1]);
    this.low = new Float64Array(this.size).fill(data ? Infinity : -1); // of a column of the data
    this.high = new Float64Array(this.size).fill(data ? -Infinity : 1);
    data?.forEach((value, i) => {
      this.low[i % this.size] = Math.min(this.low[i % this.size], value);
      this.high[i % this.size] = Math.max(this.high[i % this.size], value);
    });
  }

  // The plane of two-dimensional data.
  plane() {
    const margin = this.low.map((low, i) => 0.12 * (this.high[i] - low));
    const ends = [axpy(-1, margin, this.low), axpy(1, margin, this.high)];
    return new Plane([0, 0], [[1, 0], [0, 1]], ...ends);
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
  drawStrip(canvas, x, n, isPocket) {
    paint(canvas, (context, width, height) => {
      const step = width / n, side = Math.min(step - (this.kind === 'image' ? 2 : 8), height - 5);
      for (let i = 0; i < n; i++) {
        this.draw(context, row(x, i, this.size), i * step, 0, side, side);
        context.fillStyle = theme.pocket;
        if (isPocket(i)) context.fillRect(i * step, side + 2, side, 3);
      }
    });
  }
}

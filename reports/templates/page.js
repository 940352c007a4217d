'use strict';
// What a page can do beside being read: values under the pointer, curves that come and go, other axes. Everything it shows stands in the
// page; without it the page is whole. No library, no network.
(() => {
  // Numbers as the rest of the page writes them: three digits, a unit that fits (reports/src/format.rs).
  const count = value => {
    const digits = Math.abs(value).toFixed(0).replace(/\B(?=(\d{3})+$)/g, ',');
    return value < 0 && digits !== '0' ? '-' + digits : digits;
  };
  const rounded = value => Math.abs(Number(value.toExponential(2)));
  const number = value => {
    if (!Number.isFinite(value)) return '–';
    const size = rounded(value);
    if (size >= 100 || size === 0) return count(value);
    if (Number.isInteger(value)) return String(value);
    return value.toFixed(Math.min(9, Math.max(0, 2 - Math.floor(Math.log10(size)))));
  };
  const seconds = value => {
    const size = rounded(value);
    if (size === 0) return '0 s';
    const [scaled, unit] = size < 1e-3 ? [value * 1e6, 'µs'] : size < 1 ? [value * 1e3, 'ms'] : size < 600 ? [value, 's']
      : size < 7200 ? [value / 60, 'min'] : [value / 3600, 'h'];
    const shown = rounded(scaled);
    return `${shown >= 100 ? count(scaled) : scaled.toFixed(shown >= 10 ? 1 : 2)} ${unit}`;
  };
  const clock = at => new Date(at * 1000).toISOString().slice(0, 19).replace('T', ' ');
  const write = {
    number, seconds,
    share: value => `${number(value * 100)} %`,
    percent: value => `${number(value)} %`,
    name: (value, axis) => axis.names[Math.round(value)] ?? '–',
    clock: (value, axis) => clock(axis.zero + value),
  };
  const text = (axis, value) => write[axis.shown](value, axis);
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    element.append(...children);
    return element;
  };

  // Where a value lies on an axis, 0 to 1, and back.
  const place = (axis, value) => axis.log ? Math.log(value / axis.from) / Math.log(axis.to / axis.from)
    : (value - axis.from) / (axis.to - axis.from);
  const value = (axis, place) => axis.log ? axis.from * (axis.to / axis.from) ** place : axis.from + place * (axis.to - axis.from);

  // What a series has at a place on the x axis: steps hold their value, of points the nearest counts.
  const reading = (series, axis, x) => {
    const {points, style} = series;
    let best = -1;
    for (let at = 0; at < points.length; at += 2) {
      if (style === 'steps') {
        if (points[at] <= x || best < 0) best = at;
      } else if (best < 0 || Math.abs(place(axis, points[at]) - place(axis, x)) < Math.abs(place(axis, points[best]) - place(axis, x))) {
        best = at;
      }
    }
    return best < 0 ? null : {x: points[best], y: points[best + 1], note: series.notes?.[best / 2]};
  };

  const figure = element => {
    const source = element.querySelector('script[type="application/json"]');
    if (!source) return;
    const data = JSON.parse(source.textContent);
    const off = data.series.map(() => false);
    const box = make('div', {class: 'read', role: 'status', hidden: ''});
    element.append(box);
    const scattered = data.series.length > 0 && data.series.every(series => series.style === 'marks') && data.x.shown !== 'name';

    const hide = () => {
      box.hidden = true;
      element.querySelectorAll('.cursor').forEach(line => line.remove());
    };
    const show = (svg, x, y) => {
      const [left, right, top, bottom] = svg.dataset.frame.split(' ').map(Number);
      const at = shown => left + place(data.x, shown) * (right - left);
      let lines = [];
      let middle = x;
      const seen = data.series.map((series, index) => ({series, index})).filter(({index}) => !off[index]);
      if (scattered) {
        // The nearest point of all.
        const near = ([px, py]) => Math.hypot((place(data.x, px) - place(data.x, x)) * (right - left), (place(data.y, py) - place(data.y, y)) * (bottom - top));
        let best = null;
        for (const {series} of seen) {
          for (let i = 0; i < series.points.length; i += 2) {
            const distance = near([series.points[i], series.points[i + 1]]);
            if (!best || distance < best.distance) best = {distance, series, x: series.points[i], y: series.points[i + 1], note: series.notes?.[i / 2]};
          }
        }
        if (!best) return hide();
        middle = best.x;
        lines = [[best.series.label, best.note ?? ''], [data.x.label, text(data.x, best.x)], [data.y.label, text(data.y, best.y)]];
      } else {
        const read = seen.map(({series}) => [series, reading(series, data.x, x)]).filter(([, found]) => found);
        if (!read.length) return hide();
        // Between points the nearest is meant; along steps the place itself.
        if (read.every(([series]) => series.style !== 'steps')) middle = read[0][1].x;
        lines = [[data.x.label, text(data.x, middle)]];
        for (const [series, found] of read) lines.push([series.label, text(data.y, found.y) + (found.note ? ` (${found.note})` : '')]);
      }
      box.replaceChildren(...lines.map(([name, shown]) => make('div', {}, make('span', {}, name), make('b', {}, shown))));
      box.hidden = false;
      element.querySelectorAll('.cursor').forEach(line => line.remove());
      const line = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      line.setAttribute('class', 'cursor');
      line.setAttribute('d', `M${at(middle).toFixed(1)} ${top}V${bottom}`);
      svg.append(line);
      // On the other side of the pointer, within the figure.
      const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
      const room = element.getBoundingClientRect().width - box.offsetWidth;
      const wanted = at(middle) * scale + (place(data.x, middle) > 0.5 ? -box.offsetWidth - 12 : 12);
      box.style.left = `${Math.max(0, Math.min(room, wanted))}px`;
      box.style.top = `${svg.getBoundingClientRect().top - element.getBoundingClientRect().top + top * scale}px`;
    };
    element.querySelectorAll('svg').forEach(svg => {
      const [left, right, top, bottom] = svg.dataset.frame.split(' ').map(Number);
      const under = event => {
        const box = svg.getBoundingClientRect();
        const scale = svg.viewBox.baseVal.width / box.width;
        const within = (from, to, at) => Math.max(0, Math.min(1, (at - from) / (to - from)));
        show(svg, value(data.x, within(left, right, (event.clientX - box.left) * scale)), value(data.y, 1 - within(top, bottom, (event.clientY - box.top) * scale)));
      };
      svg.addEventListener('pointermove', under);
      svg.addEventListener('pointerdown', under);
      svg.addEventListener('pointerleave', hide);
    });
    const entries = [...element.querySelectorAll('.legend li[data-s]')];
    if (entries.length < 2) return;
    entries.forEach(entry => {
      const index = Number(entry.dataset.s);
      entry.setAttribute('role', 'button');
      entry.setAttribute('tabindex', '0');
      entry.setAttribute('aria-pressed', 'true');
      const toggle = () => {
        off[index] = !off[index];
        entry.setAttribute('aria-pressed', String(!off[index]));
        element.querySelectorAll(`g[data-s="${index}"]`).forEach(curve => { curve.style.display = off[index] ? 'none' : ''; });
        hide();
      };
      entry.addEventListener('click', toggle);
      entry.addEventListener('keydown', event => {
        if (event.key !== 'Enter' && event.key !== ' ') return;
        event.preventDefault();
        toggle();
      });
    });
  };

  const choice = (label, names, chosen, change) => {
    const select = make('select', {}, ...names.map((name, at) => make('option', {value: at}, name)));
    select.value = String(chosen);
    select.addEventListener('change', () => change(Number(select.value)));
    return make('label', {}, label + ' ', select);
  };

  // Figures drawn against each axis: one set is in the page, the others wait in templates.
  document.querySelectorAll('.against').forEach(section => {
    const sets = [...section.querySelectorAll('template')].map(template => ({name: template.dataset.name, nodes: [...template.content.childNodes]}));
    const first = section.querySelector('.set');
    sets.unshift({name: first.dataset.name, nodes: [...first.childNodes]});
    if (sets.length < 2) return;
    let seen = new Set([0]);
    section.prepend(make('p', {class: 'choose'}, choice('Figures against', sets.map(set => set.name), 0, at => {
      first.replaceChildren(...sets[at].nodes);
      if (!seen.has(at)) first.querySelectorAll('figure').forEach(figure);
      seen.add(at);
    })));
  });

  // A figure of the study over two axes, for one value of each other axis.
  document.querySelectorAll('.heat[data-metric]').forEach(section => {
    const {axes, metrics, points} = JSON.parse(section.querySelector('script[type="application/json"]').textContent);
    const table = section.querySelector('table');
    const chosen = {metric: Number(section.dataset.metric), down: 0, across: 1, others: axes.map(() => 0)};
    const bar = make('p', {class: 'choose'});
    section.prepend(bar);
    const draw = () => {
      const {metric, down, across, others} = chosen;
      const here = points.filter(point => axes.every((_, axis) => axis === down || axis === across || point.at[axis] === others[axis]));
      const values = here.map(point => point.values[metric]).filter(shown => shown !== null);
      const [least, most] = [Math.min(...values), Math.max(...values)];
      const cell = (row, column) => {
        const point = here.find(point => point.at[down] === row && point.at[across] === column);
        const shown = point?.values[metric] ?? null;
        const td = make('td', {}, shown === null ? '–' : point.texts[metric]);
        if (shown !== null) td.style.setProperty('--heat', `${most > least ? Math.round(8 + 52 * (shown - least) / (most - least)) : 8}%`);
        if (point?.missed.includes(metric)) td.className = 'missed';
        return td;
      };
      const head = make('tr', {}, make('th', {scope: 'col'}, `${axes[down].name} ↓  ${axes[across].name} →`), ...axes[across].values.map(name => make('th', {scope: 'col'}, name)));
      const rows = axes[down].values.map((name, row) => make('tr', {}, make('th', {scope: 'row'}, name), ...axes[across].values.map((_, column) => cell(row, column))));
      table.replaceChildren(make('thead', {}, head), make('tbody', {}, ...rows));
      controls();
    };
    const controls = () => {
      const names = axes.map(axis => axis.name);
      const swap = (one, other) => at => {
        if (chosen[other] === at) chosen[other] = chosen[one];
        chosen[one] = at;
        draw();
      };
      bar.replaceChildren(choice('Figure', metrics, chosen.metric, at => { chosen.metric = at; draw(); }),
        choice('down', names, chosen.down, swap('down', 'across')), choice('across', names, chosen.across, swap('across', 'down')),
        ...axes.map((axis, at) => ({axis, at})).filter(({at}) => at !== chosen.down && at !== chosen.across)
          .map(({axis, at}) => choice(`where ${axis.name} is`, axis.values, chosen.others[at], to => { chosen.others[at] = to; draw(); })));
    };
    controls();
  });

  document.querySelectorAll('figure').forEach(figure);
})();

"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const readout = document.getElementById("readout");
  const frames = [...document.querySelectorAll("[data-plot]")];
  const said = (value, unit) => value === null ? "none" : value.toLocaleString("en", {maximumSignificantDigits: 3}) + unit;
  const time = value => value === null ? "none" : value < 1 ? said(value * 1000, " ms") : said(value, " s");
  const lines = frames.map(frame => {
    const line = document.createElement("i");
    line.hidden = true;
    frame.append(line);
    return line;
  });
  const show = event => {
    const box = event.currentTarget.querySelector("svg[role]").getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const since = share * data.width * data.rate.length;
    const moment = data.start + since;
    const place = Math.min(data.rate.length - 1, Math.floor(since / data.width));
    const faults = data.faults.filter(([from, to]) => from <= moment && moment <= to).map(fault => fault[2]);
    const rows = [
      moment.toFixed(1) + " s",
      said(data.rate[place], " records/s"),
      "p50 " + time(data.p50[place]) + ", p99 " + time(data.p99[place]),
    ];
    if (data.waiting[place] !== null) rows.push(said(data.waiting[place], " waiting"));
    readout.replaceChildren(...rows.concat(faults).map((text, number) => {
      const row = document.createElement(number >= rows.length ? "b" : "span");
      row.textContent = text;
      return row;
    }));
    readout.hidden = false;
    const left = event.clientX + 16 + readout.offsetWidth > innerWidth ? event.clientX - 16 - readout.offsetWidth : event.clientX + 16;
    readout.style.left = Math.max(4, left) + "px";
    readout.style.top = Math.max(4, Math.min(innerHeight - readout.offsetHeight - 4, event.clientY + 16)) + "px";
    lines.forEach(line => { line.hidden = false; line.style.setProperty("--at", share); });
  };
  const hide = () => { readout.hidden = true; lines.forEach(line => { line.hidden = true; }); };
  for (const frame of frames) {
    frame.addEventListener("pointermove", show);
    frame.addEventListener("pointerleave", hide);
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
})();

// A recording or a mel, its copies at several temperatures, their spectrograms and likelihoods.
"use strict";
const KINDS = {
  wav: "audio/wav", flac: "audio/flac", ogg: "audio/ogg", mp3: "audio/mpeg",
  npy: "application/x-npy", npz: "application/x-npz", pt: "application/x-pytorch", safetensors: "application/x-safetensors",
};
const MELS = ["npy", "npz", "pt", "safetensors"];
const MOST = 4; // temperatures
const $ = (id) => document.getElementById(id);
let model = null, given = null, round = 0, clips = [];

// what is wrong, for people
class Wrong extends Error {}

async function ask(route, query, body, type) {
  const parameters = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ""));
  let answer;
  try {
    answer = await fetch(`${route}?${parameters}`, { method: "POST", body, headers: { "Content-Type": type } });
  } catch {
    throw new Wrong("The server does not answer. Is it still running?");
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
    throw new Wrong(`The server refused it: ${said.error}`);
  }
  return answer;
}

function settings() {
  const temperatures = $("temperatures").value.split(/[\s,;]+/).filter(Boolean).map(Number);
  if (!temperatures.length || temperatures.length > MOST || !temperatures.every((t) => t >= 0 && t <= 10)) {
    throw new Wrong(`Give one to ${MOST} temperatures from 0 to 10, as in 0.6, 0.8, 1.0.`);
  }
  if (!/^\d{1,9}$/.test($("seed").value.trim())) throw new Wrong("Give the seed as a whole number, as in 0.");
  const speaker = model && model.speakers.kind === "id" ? $("speaker").value : "";
  return { temperatures, seed: $("seed").value.trim(), speaker };
}

async function run() {
  const now = ++round; // of an older round nothing is shown any more
  $("error").hidden = true;
  try {
    const { file, kind } = given, { temperatures, seed, speaker } = settings();
    for (const clip of clips) URL.revokeObjectURL(clip.url);
    clips = [];
    $("clips").replaceChildren();
    $("again").disabled = false;
    $("status").textContent = `${file.name}: sent to the server.`;
    const isMel = MELS.includes(kind);
    const first = addClip(isMel ? `Mel: ${file.name}` : `Recording: ${file.name}`);
    const shown = await (await ask("/v1/spectrogram", { kind }, file, KINDS[kind])).json();
    if (now !== round) return;
    first.mel = shown;
    if (!isMel) listen(first, file);
    $("legend").hidden = false;
    draw();
    const jobs = temperatures.map((temperature) => copy(now, file, kind, temperature, seed, speaker));
    if (!isMel) jobs.unshift(likelihood(now, first, file, kind, speaker));
    const results = await Promise.allSettled(jobs);
    if (now !== round) return;
    const failed = results.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
    $("status").textContent = `${file.name}: ${temperatures.length} ${temperatures.length === 1 ? "copy" : "copies"} made.`;
  } catch (error) {
    if (now !== round) return;
    $("status").textContent = "";
    $("error").textContent = error instanceof Wrong ? error.message : `This page failed: ${error.message}`;
    $("error").hidden = false;
  }
}

async function copy(now, file, kind, temperature, seed, speaker) {
  const clip = addClip(`Copy, T = ${temperature}`);
  clip.note("being computed …");
  try {
    const route = MELS.includes(kind) ? "/v1/mel" : "/v1/wav";
    const audio = await (await ask(route, { temperature, seed, speaker, kind }, file, KINDS[kind])).blob();
    if (now !== round) return;
    clip.note("");
    listen(clip, audio);
    clip.mel = await (await ask("/v1/spectrogram", {}, audio, "audio/wav")).json();
    if (now !== round) return;
    draw();
    await likelihood(now, clip, audio, "wav", speaker);
  } catch (error) {
    clip.note("failed");
    throw error;
  }
}

async function likelihood(now, clip, audio, kind, speaker) {
  clip.nats = await (await ask("/v1/likelihood", { speaker, kind }, audio, KINDS[kind])).json();
  if (now !== round) return;
  clip.note(`${clip.nats.nats_per_sample.toFixed(2)} nats per sample`);
  draw();
}

function addClip(title) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const note = document.createElement("small"), stage = document.createElement("div"), head = document.createElement("div");
  const mel = document.createElement("canvas"), wave = document.createElement("canvas");
  caption.append(`${title} `, note);
  for (const [canvas, name, label] of [[mel, "mel", "Spectrogram"], [wave, "wave", "Wave and likelihood"]]) {
    canvas.className = name;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${label}: ${title}`);
  }
  stage.className = "stage";
  head.className = "head";
  head.hidden = true;
  stage.append(mel, wave, head);
  figure.append(caption, stage);
  $("clips").append(figure);
  const clip = { title, figure, canvases: { mel, wave }, head, stage, note: (text) => { note.textContent = text; } };
  wave.hidden = true;
  clips.push(clip);
  return clip;
}

// a player, and the wave once the browser has decoded it
function listen(clip, blob) {
  const player = document.createElement("audio");
  Object.assign(player, { controls: true, preload: "auto", src: URL.createObjectURL(blob) });
  player.setAttribute("aria-label", clip.title);
  Object.assign(clip, { player, url: player.src });
  clip.figure.append(player);
  player.addEventListener("play", () => {
    for (const other of clips) if (other !== clip && other.player) other.player.pause();
    follow(clip);
  });
  clip.stage.addEventListener("click", (event) => {
    const box = clip.stage.getBoundingClientRect();
    player.currentTime = (player.duration * (event.clientX - box.left)) / box.width;
    player.play();
  });
  blob.arrayBuffer().then((data) => new OfflineAudioContext(1, 1, 22050).decodeAudioData(data)).then((decoded) => {
    clip.wave = decoded.getChannelData(0);
    draw();
  }).catch(() => {
    clip.note("this browser cannot play it");
  });
}

function follow(clip) {
  const { player, head } = clip;
  head.hidden = false;
  head.style.left = `${(100 * player.currentTime) / (player.duration || 1)}%`;
  if (!player.paused) requestAnimationFrame(() => follow(clip));
}

function sized(canvas) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  return canvas.getContext("2d");
}

function draw() {
  const nats = clips.filter((clip) => clip.nats).flatMap((clip) => clip.nats.nats).sort((a, b) => a - b);
  const range = nats.length ? [nats[Math.floor(nats.length / 100)], nats[nats.length - 1]] : null; // a few may be lower
  for (const clip of clips) {
    clip.canvases.wave.hidden = !clip.wave;
    if (clip.mel) drawMel(sized(clip.canvases.mel), clip.mel);
    if (clip.wave) drawWave(sized(clip.canvases.wave), clip, range);
  }
}

// from black over violet and orange to pale yellow, by five points
const COLOURS = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];

function drawMel(to, { mel, low, high }) {
  const picture = new ImageData(mel.length, mel[0].length);
  mel.forEach((frame, x) => frame.forEach((value, band) => {
    const place = 4 * Math.min(0.9999, Math.max(0, (value - low) / (high - low))), i = Math.floor(place);
    const at = 4 * ((frame.length - 1 - band) * mel.length + x);
    for (let c = 0; c < 3; c++) picture.data[at + c] = COLOURS[i][c] + (place - i) * (COLOURS[i + 1][c] - COLOURS[i][c]);
    picture.data[at + 3] = 255;
  }));
  const small = new OffscreenCanvas(picture.width, picture.height);
  small.getContext("2d").putImageData(picture, 0, 0);
  to.imageSmoothingEnabled = false;
  to.drawImage(small, 0, 0, to.canvas.width, to.canvas.height);
}

function drawWave(to, { wave, nats }, range) {
  const { width, height } = to.canvas, ratio = window.devicePixelRatio || 1;
  const { color, borderTopColor, caretColor } = getComputedStyle(to.canvas); // serve.css says which is which
  const middle = 0.72 * height, half = 0.26 * height; // the wave is below the curve
  to.fillStyle = color;
  let peak = 1e-9;
  for (const sample of wave) peak = Math.max(peak, Math.abs(sample));
  for (let x = 0; x < width; x++) {
    const part = wave.subarray(Math.floor((x * wave.length) / width), Math.floor(((x + 1) * wave.length) / width) + 1);
    let low = 0, high = 0;
    for (const sample of part) { low = Math.min(low, sample); high = Math.max(high, sample); }
    to.fillRect(x, middle - (high / peak) * half, 1, Math.max(1, ((high - low) / peak) * half));
  }
  if (!nats || !range) return;
  const share = (value) => Math.min(1, Math.max(0, (value - range[0]) / (range[1] - range[0] || 1)));
  to.strokeStyle = borderTopColor;
  to.lineWidth = 1.5 * ratio;
  to.beginPath();
  nats.nats.forEach((value, i) => to.lineTo(((i + 0.5) / nats.frames) * width, height * (0.4 - 0.36 * share(value))));
  to.stroke();
  to.fillStyle = caretColor;
  to.font = `${11 * ratio}px system-ui, sans-serif`;
  to.fillText(`${range[1].toFixed(1)} nats`, 4 * ratio, 12 * ratio);
  to.fillText(range[0].toFixed(1), 4 * ratio, 0.4 * height);
}

function take(file) {
  if (!file) return;
  const kind = file.name.split(".").pop().toLowerCase();
  if (!(kind in KINDS)) {
    round++;
    $("error").textContent = `${file.name} is neither a recording nor a mel by its name. There are: ${Object.keys(KINDS).join(", ")}.`;
    $("error").hidden = false;
    return;
  }
  given = { file, kind };
  run();
}

async function begin() {
  try {
    model = await (await fetch("/v1/model")).json();
  } catch {
    $("model").textContent = "The server does not answer. Is it still running?";
    return;
  }
  const { system, parameters, step, mel, speakers, temperature, limits } = model;
  $("model").textContent = `${system}, ${parameters.toLocaleString("en")} parameters, step ${step}. Mels by the contract `
    + `${mel.name} (${mel.n_mels} bands, ${mel.sample_rate} Hz). By default T = ${temperature}. Up to ${limits.seconds} s.`;
  for (const name of speakers.names) $("speaker").add(new Option(name));
  $("speaker-field").hidden = speakers.names.length < 2;
}

$("file").addEventListener("change", () => take($("file").files[0]));
$("settings").addEventListener("submit", (event) => { event.preventDefault(); if (given) run(); });
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
begin();

// The test for one listener. TEST, from data.js: {id, half_steps, mos: [[clip, utterance]], ab: [[clip, clip,
// utterance]]}. Each answer is stored in localStorage, so that a closed page continues where it stopped.
"use strict";

const $ = (id) => document.getElementById(id);
const KEY = `fwn-listening-${TEST.id}`;
const COLUMNS = ["test", "listener", "trial", "kind", "clip_a", "clip_b", "answer", "plays", "seconds", "time"];
const QUALITY = { 5: "Excellent", 4: "Good", 3: "Fair", 2: "Poor", 1: "Bad" };
const PREFERENCE = [["a", "A sounds better"], ["same", "No difference"], ["b", "B sounds better"]];

let memory = null; // the state, if there is no localStorage
let state = load(); // {listener, answers: rows of COLUMNS}, or null before the start
let trials = state ? trialsOf(state.listener) : [];
let current = null; // the trial on the page: {players: [{audio, button, heard}], last: player, plays, since: time}
let saidBetween = false;

function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY));
  } catch {
    return memory;
  }
}

function save() {
  memory = state;
  try {
    localStorage.setItem(KEY, JSON.stringify(state));
  } catch {
    $("unkept").hidden = false;
  }
}

function show(page) {
  for (const id of ["start", "trial", "between", "done"]) $(id).hidden = id !== page;
  $("where").hidden = page === "start";
  $("early").hidden = page === "start" || page === "done" || !state.answers.length;
  $(page).querySelector("h2").focus();
  scrollTo(0, 0);
}

function stop() {
  for (const player of current?.players ?? []) player.audio.pause();
}

function advance() {
  stop();
  if (!state) return show("start");
  const n = state.answers.length;
  $("progress").max = trials.length;
  $("progress").value = n;
  if (n === trials.length) {
    $("position").textContent = `All ${n} answered`;
    $("file").textContent = fileName();
    return show("done");
  }
  $("position").textContent = `${n + 1} of ${trials.length}`;
  if (n === TEST.mos.length && !saidBetween) {
    saidBetween = true;
    $("position").textContent = `${n} of ${trials.length} answered`;
    return show("between");
  }
  present(trials[n]);
  show("trial");
}

function present(trial) {
  const ab = trial.kind === "ab";
  $("question").textContent = ab ? "Which sounds better?" : "How does this clip sound?";
  $("legend").textContent = ab ? "Your preference" : "Quality of the speech";
  $("keys").innerHTML = ab
    ? "Keys: <kbd>space</kbd> plays A, then B; <kbd>a</kbd> <kbd>b</kbd> play one; <kbd>1</kbd> <kbd>2</kbd> <kbd>3</kbd> answer; <kbd>enter</kbd> next"
    : `Keys: <kbd>space</kbd> plays, <kbd>1</kbd> to <kbd>5</kbd> rate, ${TEST.half_steps ? "<kbd>+</kbd> <kbd>−</kbd> half a step, " : ""}<kbd>enter</kbd> next`;
  $("status").textContent = "";
  current = { players: [], last: null, plays: 0, since: Date.now() };
  $("players").replaceChildren();
  trial.clips.forEach((clip, i) => {
    const audio = new Audio(`clips/${clip}.wav`);
    audio.preload = "auto";
    const button = document.createElement("button");
    const name = ab ? "AB"[i] : "";
    const label = () => {
      const [icon, word] = audio.paused ? ["▶", "Play"] : ["♪", "Playing"];
      const heard = player.heard ? "heard" : "not yet heard";
      button.innerHTML = `<span><span aria-hidden="true">${icon}</span> ${word} ${name}</span><small>${heard}</small>`;
      button.classList.toggle("playing", !audio.paused);
    };
    const player = { audio, button, heard: false };
    button.type = "button";
    for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, label);
    audio.addEventListener("ended", () => {
      player.heard = true;
      label();
      allow();
    });
    audio.addEventListener("error", () => {
      $("status").textContent = `A clip cannot be played (clips/${clip}.wav). Tell the person who gave you this test.`;
    });
    button.addEventListener("click", (event) => {
      play(player);
      if (event.detail) $("question").focus({ preventScroll: true }); // after a mouse click, Enter goes to the next trial
    });
    label();
    current.players.push(player);
    $("players").append(button);
  });
  choices(ab);
  allow();
}

function choices(ab) {
  const step = TEST.half_steps ? 0.5 : 1;
  const scores = Array.from({ length: 4 / step + 1 }, (_, i) => 1 + i * step);
  const options = ab ? PREFERENCE : scores.map((score) => [String(score), QUALITY[score] ?? ""]);
  $("choices").replaceChildren(
    ...options.map(([value, words], i) => {
      const label = document.createElement("label");
      label.className = "choice";
      label.innerHTML = `<input type="radio" name="answer" value="${value}"><b>${ab ? i + 1 : value}</b><span>${words}</span>`;
      label.firstChild.addEventListener("change", allow);
      return label;
    }),
  );
}

function play(player) {
  stop();
  current.last = player;
  current.plays += 1;
  player.audio.currentTime = 0;
  player.audio.play().catch(() => {}); // interrupted by another play, or an error that the error event reports
}

// What the space key plays: clips not heard yet, then A and B in turn.
function upNext() {
  const { players, last } = current;
  return players.find((player) => !player.heard) ?? players.find((player) => player !== last) ?? last;
}

function heard() {
  return current.players.every((player) => player.heard);
}

function answer() {
  return document.querySelector("input[name=answer]:checked");
}

function allow() {
  const ready = heard();
  $("scale").disabled = !ready;
  $("next").disabled = !ready || !answer();
  const two = current.players.length > 1;
  if (ready) $("status").textContent = "";
  $("hint").textContent = ready ? "" : `Listen to ${two ? "both" : "the whole clip"} first.`;
}

function choose(input) {
  if (!input || $("scale").disabled) return;
  input.checked = true;
  input.focus({ preventScroll: true });
  allow();
}

function next() {
  if ($("next").disabled) return;
  const { kind, clips } = trials[state.answers.length];
  const seconds = ((Date.now() - current.since) / 1000).toFixed(1);
  state.answers.push([
    TEST.id, state.listener, state.answers.length + 1, kind, clips[0], clips[1] ?? "", answer().value,
    current.plays, seconds, new Date().toISOString(),
  ]);
  save();
  advance();
}

function fileName() {
  return `${TEST.id}.${state.listener.replace(/[^\p{L}\p{N}_-]+/gu, "_")}.csv`;
}

function download() {
  const text = (value) => (/^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value)); // a spreadsheet would compute it
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${text(value).replaceAll('"', '""')}"` : text(value));
  const lines = [COLUMNS, ...state.answers].map((row) => row.map(quoted).join(",") + "\r\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "text/csv" }));
  link.download = fileName();
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  $("status").textContent = `Downloaded ${fileName()} with ${state.answers.length} of ${trials.length} answers.`;
}

document.addEventListener("keydown", (event) => {
  if ($("trial").hidden || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const ab = current.players.length > 1;
  const native = event.target.closest?.("button, input:not(:checked)"); // the browser handles Enter and space for these
  const radios = [...document.querySelectorAll("input[name=answer]")];
  const key = event.key.toLowerCase();
  if (key === "enter" && !native) next();
  else if (key === " " && !native) play(upNext());
  else if (ab && (key === "a" || key === "b")) play(current.players["ab".indexOf(key)]);
  else if (ab && "123".includes(key)) choose(radios[Number(key) - 1]);
  else if (!ab && "12345".includes(key)) choose(radios.find((radio) => radio.value === key));
  else if (!ab && TEST.half_steps && "+-".includes(key)) choose(radios[radios.indexOf(answer()) + (key === "+" ? 1 : -1)]);
  else return;
  event.preventDefault();
  if ("12345+-".includes(key) && $("scale").disabled) $("status").textContent = $("hint").textContent;
});

$("answer").addEventListener("submit", (event) => {
  event.preventDefault();
  next();
});
$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  volume.pause();
  state = { listener: $("listener").value.trim(), answers: [] };
  trials = trialsOf(state.listener);
  save();
  advance();
});
$("on").addEventListener("click", advance);
$("download").addEventListener("click", download);
$("sofar").addEventListener("click", () => {
  download();
  document.querySelector("section:not([hidden]) h2").focus({ preventScroll: true }); // so that space plays again
});
$("again").addEventListener("click", () => {
  if (!confirm("Start again as another listener? The answers kept in this browser are removed: download them first.")) return;
  state = null;
  saidBetween = false;
  save();
  $("listener").value = "";
  $("status").textContent = "";
  advance();
});
const volume = new Audio(`clips/${(TEST.mos[0] ?? TEST.ab[0])[0]}.wav`);
$("volume").addEventListener("click", () => {
  volume.currentTime = 0;
  volume.play().catch(() => {});
});
advance();
if (state?.answers.length) $("status").textContent = `Welcome back, ${state.listener}: you go on where you stopped.`;

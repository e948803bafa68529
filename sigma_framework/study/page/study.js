// Pairs of images, three questions each. STUDY is set by pairs.js; jsPsych runs the timeline and keeps the data.
"use strict";

const QUESTIONS = [
  ["quality", "Which image looks better overall?"],
  ["layout", "In which do the subjects stand where the layout says?"],
  ["identity", "In which do the subjects look more like the given ones?"],
];
const CHOICES = [["left", "A"], ["equal", "About Equal"], ["right", "B"]];
const LETTERS = { a: "left", e: "equal", b: "right" };

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A page of words with a button. */
class WordsPlugin {
  static info = {
    name: "sigma-words",
    version: "1.0.0",
    parameters: { content: { type: jsPsychModule.ParameterType.FUNCTION }, button: { type: jsPsychModule.ParameterType.STRING } },
    data: {},
  };
  constructor(jsPsych) { this.jsPsych = jsPsych; }
  trial(display, trial) {
    const next = element("button", { className: "next", type: "button", textContent: trial.button });
    next.onclick = () => this.jsPsych.finishTrial({ kind: "words" });
    display.replaceChildren(element("div", { className: "card" }, ...trial.content(), element("div", { className: "go" }, next)));
    next.focus();
  }
}

/** One pair: what was given, both images, three questions with confidence. */
class PairPlugin {
  static info = {
    name: "sigma-pair",
    version: "1.0.0",
    parameters: { pair: { type: jsPsychModule.ParameterType.OBJECT }, swapped: { type: jsPsychModule.ParameterType.BOOL },
      position: { type: jsPsychModule.ParameterType.INT }, total: { type: jsPsychModule.ParameterType.INT } },
    data: {},
  };
  constructor(jsPsych) { this.jsPsych = jsPsych; }

  trial(display, trial) {
    const { pair, swapped, position, total } = trial;
    const sides = swapped ? ["second", "first"] : ["first", "second"];
    const answers = {};
    const started = performance.now();
    const stages = sides.map((side) => element("div", { className: "stage" }, element("img", { src: pair[side], alt: "" }),
      ...pair.subjects.map((one) => element("img", { src: one.region, alt: "", className: "region" }))));
    const identities = this.identities(pair, stages);
    const fields = QUESTIONS.map(([name, text]) => this.question(name, text, () => update()));
    const next = element("button", { className: "next", type: "button", textContent: "Next" });
    const keys = (...names) => names.flatMap((name) => [element("kbd", { textContent: name }), " "]);
    const hint = element("small", {}, "Keys: ", ...keys("A", "E", "B"), "answer, ", ...keys("1", "...", "5"), "say how certain, ", ...keys("Enter"), "goes on");

    const update = () => {
      for (const field of fields) {
        const name = field.dataset.question;
        answers[name] = field.querySelector(`input[name="${name}"]:checked`)?.value;
        answers[`${name}_confidence`] = Number(field.querySelector(`input[name="${name}_confidence"]:checked`)?.value) || undefined;
      }
      const open = fields.find((field) => !isDone(field));
      const focused = fields.find((field) => field.contains(document.activeElement) && !isDone(field));
      fields.forEach((field) => field.classList.toggle("current", field === (focused || open)));
      next.disabled = Boolean(open);
    };
    const isDone = (field) => answers[field.dataset.question] && answers[`${field.dataset.question}_confidence`];
    const finish = () => {
      document.removeEventListener("keydown", onKey);
      const row = { kind: "pair", study: STUDY.study, participant: PARTICIPANT, position, pair: pair.id, subjects: pair.subjects.length,
        left: sides[0], right: sides[1] };
      for (const [name] of QUESTIONS) {
        row[name] = { left: sides[0], right: sides[1], equal: "equal" }[answers[name]];
        row[`${name}_confidence`] = answers[`${name}_confidence`];
      }
      row.seconds = Math.round((performance.now() - started) / 100) / 10;
      remember(row);
      this.jsPsych.finishTrial(row);
    };
    const onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const field = fields.find((one) => one.classList.contains("current"));
      const name = field?.dataset.question;
      const value = LETTERS[event.key.toLowerCase()];
      const wanted = value ? `input[name="${name}"][value="${value}"]`
        : "12345".includes(event.key) ? `input[name="${name}_confidence"][value="${event.key}"]` : null;
      if (wanted && field) {
        field.querySelector(wanted).checked = true;
        update();
      } else if (event.key === "Enter" && !next.disabled && document.activeElement?.tagName !== "BUTTON") {
        finish();
      }
    };
    document.addEventListener("keydown", onKey);
    next.onclick = finish;

    const figure = (label, stage) => element("figure", { id: label === "A" ? "image-a" : "image-b" }, label, stage);
    display.replaceChildren(
      element("header", {}, `Pair ${position + 1} of ${total}`, element("progress", { max: total, value: position })),
      element("p", { className: "prompt", textContent: pair.prompt }),
      element("div", { className: "given" }, ...identities, element("figure", {}, element("img", { src: pair.layout, alt: "layout" }), "layout")),
      element("div", { className: "pair" }, figure("A", stages[0]), figure("B", stages[1])),
      element("div", { className: "questions" }, ...fields),
      element("div", { className: "go" }, hint, next));
    window.scrollTo(0, 0);
    update();
  }

  /** Buttons of the subjects; pointing at one, or choosing it, shows its region in both images. */
  identities(pair, stages) {
    let pinned = null;
    const buttons = pair.subjects.map((one) => element("button", { className: "identity", type: "button", title: one.name },
      element("img", { src: one.image, alt: "" }), element("span", { textContent: one.name })));
    buttons.forEach((button, index) => button.style.setProperty("--subject", pair.subjects[index].colour));
    const show = (index) => {
      buttons.forEach((button, k) => button.classList.toggle("on", k === index));
      stages.forEach((stage) => stage.querySelectorAll(".region").forEach((region, k) => region.classList.toggle("on", k === index)));
    };
    buttons.forEach((button, index) => {
      button.onmouseenter = button.onfocus = () => show(index);
      button.onmouseleave = button.onblur = () => show(pinned);
      button.onclick = () => show((pinned = pinned === index ? null : index));
    });
    return buttons;
  }

  question(name, text, onChange) {
    const scale = (key, options) => element("div", { className: "scale" }, ...options.map(([value, label]) =>
      element("label", {}, element("input", { type: "radio", name: key, value }), label)));
    const field = element("fieldset", {}, element("legend", { textContent: text }), scale(name, CHOICES),
      scale(`${name}_confidence`, ["1", "2", "3", "4", "5"].map((value) => [value, value])),
      element("div", { className: "ends" }, element("span", { textContent: "not sure" }), element("span", { textContent: "certain" })));
    field.dataset.question = name;
    field.addEventListener("change", onChange);
    field.addEventListener("focusin", onChange);
    return field;
  }
}

const NAME = /[^\w-]/g;
const PARTICIPANT = (new URLSearchParams(location.search).get("participant") || "").replace(NAME, "").slice(0, 40) || remembered("participant")
  || `p${Math.random().toString(36).slice(2, 10)}`;
const KEPT = `sigma-study-${STUDY.study}-${PARTICIPANT}`;

/** What an earlier visit left in this browser; null where it keeps nothing. */
function remembered(key) {
  try { return JSON.parse(localStorage.getItem(key === "participant" ? `sigma-study-${STUDY.study}` : key)); } catch { return null; }
}
function remember(row) {
  const rows = (remembered(KEPT) || []).concat([row]);
  try {
    localStorage.setItem(KEPT, JSON.stringify(rows));
    localStorage.setItem(`sigma-study-${STUDY.study}`, JSON.stringify(PARTICIPANT));
  } catch { /* a private window: answers live until the page is closed */ }
}

function welcome() {
  const many = STUDY.pairs.length;
  return [element("h1", { textContent: "Which image is better?" }),
    element("p", { textContent: `You will see ${many} pairs of images. Both images of a pair were made from the same subjects, which are shown above them, and from the same layout.` }),
    element("p", { textContent: "Point at a subject, or choose it, to see where it should stand in both images." }),
    element("p", { textContent: "Answer three questions for each pair, and say for each how certain you are, from 1 to 5." }),
    element("p", { textContent: "Your answers stay in this browser until you save them at the end; nothing is sent anywhere." })];
}

function download(name, text, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

function showEnd(jsPsych, earlier) {
  const fresh = jsPsych.data.get().filter({ kind: "pair" });
  const columns = ["study", "participant", "position", "pair", "subjects", "left", "right",
    ...QUESTIONS.flatMap(([name]) => [name, `${name}_confidence`]), "seconds"];
  const rows = earlier.concat(fresh.values()).map((row) => Object.fromEntries(columns.map((column) => [column, row[column]])));
  const cell = (value) => `"${String(value).replaceAll('"', '""')}"`;
  const csv = [columns, ...rows.map((row) => columns.map((column) => row[column]))].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
  const name = `answers-${PARTICIPANT}`;
  const save = (label, ending, text, type) => {
    const button = element("button", { className: "next", type: "button", id: `save-${ending}`, textContent: label });
    button.onclick = () => download(`${name}.${ending}`, text, type);
    return button;
  };
  document.getElementById("study").replaceChildren(element("div", { className: "card" },
    element("h1", { textContent: "Thank you" }),
    element("p", { textContent: `${rows.length} pairs answered. Please save your answers and send the file to whoever invited you.` }),
    element("div", { className: "go" }, save("Save as CSV", "csv", csv, "text/csv"), save("Save as JSON", "json", JSON.stringify(rows, null, 1), "application/json"))));
}

(function run() {
  const earlier = (remembered(KEPT) || []).filter((row) => row.study === STUDY.study);
  const done = new Set(earlier.map((row) => row.pair));
  const jsPsych = initJsPsych({ display_element: "study", on_finish: () => showEnd(jsPsych, earlier) });
  jsPsych.randomization.setSeed(`${STUDY.seed}/${PARTICIPANT}`); // the same person gets the same order and sides again
  const order = jsPsych.randomization.shuffle(STUDY.pairs).map((pair) => ({ pair, swapped: jsPsych.randomization.randomInt(0, 1) === 1 }));
  const timeline = [{ type: WordsPlugin, content: welcome, button: done.size ? "Go on" : "Begin" }];
  order.forEach(({ pair, swapped }, position) => {
    if (!done.has(pair.id)) timeline.push({ type: PairPlugin, pair, swapped, position, total: order.length });
  });
  jsPsych.run(timeline);
})();

// A live player: it asks the server for explained frames and blends them here.

const PATIENCE = 15000; // milliseconds until a request counts as lost
const AHEAD = 2; // chunks of a clip that are fetched before they are shown
const WINDOW = 2000; // milliseconds over which frames are counted
const CAMERA = { width: 480, height: 360, quality: 0.85 };

const HTML = `
<div class="player">
  <div class="stage">
    <canvas role="img" aria-label="No frame yet" width="320" height="320"></canvas>
    <div class="empty"></div>
    <div class="said" hidden><b></b><span></span></div>
  </div>
  <div class="controls">
    <button type="button" class="play">Play</button>
    <button type="button" class="full">Full screen</button>
    <label>Opacity <input type="range" min="0" max="100" value="85"></label>
    <span class="rate"></span>
  </div>
  <div class="problem" role="alert"></div>
  <video hidden muted playsinline></video>
</div>`;

class Player {
  constructor(parent) {
    const holder = document.createElement("div");
    holder.innerHTML = HTML;
    parent.append(holder);
    this.holder = holder;
    const find = (selector) => holder.querySelector(selector);
    this.node = find(".player");
    this.canvas = find("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.empty = find(".empty");
    this.said = find(".said");
    this.label = find(".said b");
    this.figure = find(".said span");
    this.rate = find(".rate");
    this.problem = find(".problem");
    this.button = find(".play");
    this.opacity = find("input");
    this.video = find("video");
    this.button.onclick = () => (this.playing ? this.stop() : this.start());
    find(".full").onclick = () =>
      document.fullscreenElement ? document.exitFullscreen() : this.node.requestFullscreen();
    this.opacity.oninput = () => this.latest && this.blend(this.latest);
    // Its first frame is a clip's poster, fetched once somebody can see it.
    this.visible = new IntersectionObserver(([entry]) => entry.isIntersecting && this.fetchPoster());
    this.visible.observe(this.node);
    this.requests = 0;
    this.drawn = 0;
    this.times = [];
  }

  // A new clip, source, model, method or class begins anew.
  take(data, send) {
    this.send = send;
    if (data.stream !== this.stream) {
      this.stop();
      Object.assign(this, { stream: data.stream, data, frames: [], shown: 0, latest: null });
      Object.assign(this, { waiting: null, explained: 0 });
      this.tables = decodeTables(data.tables);
      this.total = data.durations.length;
      this.empty.textContent = data.source === "Camera" ? "Start the camera" : "Press Play";
      this.empty.hidden = false;
      this.said.hidden = true;
      this.button.textContent = data.source === "Camera" ? "Start camera" : "Play";
      this.problem.textContent = "";
      this.visible.unobserve(this.node);
      this.visible.observe(this.node); // which tells at once whether it is visible
    }
    const reply = data.reply;
    if (reply && this.waiting && reply.number === this.waiting.number) this.receive(reply);
  }

  receive(reply) {
    this.waiting = null;
    if (reply.error) {
      this.problem.textContent = reply.error;
      this.stop();
      return;
    }
    this.problem.textContent = "";
    if (this.data.source === "Camera") {
      const [frame] = reply.frames;
      // The server explains the next frame while the browser draws this one.
      if (this.playing) this.ask();
      this.show(frame);
      return;
    }
    this.explained = reply.rate;
    reply.frames.forEach((frame, index) => (this.frames[reply.first + index] = frame));
    if (!this.playing && !this.latest && this.frames[0]) this.show(this.frames[0]);
    this.fetchAhead();
  }

  async start() {
    this.problem.textContent = "";
    if (this.data.source === "Camera" && !(await this.openCamera())) return;
    this.playing = true;
    this.button.textContent = "Pause";
    this.times = [];
    if (this.data.source === "Camera") this.ask();
    else {
      this.due = performance.now();
      this.fetchAhead();
      this.tick();
    }
  }

  stop() {
    this.playing = false;
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
    if (this.data) this.button.textContent = this.data.source === "Camera" ? "Start camera" : "Play";
  }

  async openCamera() {
    if (!navigator.mediaDevices) {
      this.problem.textContent =
        "The browser gives a camera only to pages that come over https or from this computer.";
      return false;
    }
    try {
      const size = { width: CAMERA.width, height: CAMERA.height };
      this.video.srcObject = await navigator.mediaDevices.getUserMedia({ video: size });
      await this.video.play();
      return true;
    } catch (error) {
      this.problem.textContent =
        error.name === "NotAllowedError"
          ? "The browser does not allow the camera; allow it beside the address and try again."
          : "No camera can be opened here.";
      return false;
    }
  }

  // One request at a time: what is slow is asked less often.
  request(content) {
    this.requests += 1;
    this.waiting = { number: this.requests, since: performance.now() };
    this.send({ stream: this.stream, number: this.requests, ...content });
  }

  get lost() {
    return this.waiting && performance.now() - this.waiting.since > PATIENCE;
  }

  ask() {
    if (!this.node.isConnected) return this.stop();
    if (!this.playing || (this.waiting && !this.lost)) return;
    const shot = document.createElement("canvas");
    shot.width = this.video.videoWidth;
    shot.height = this.video.videoHeight;
    shot.getContext("2d").drawImage(this.video, 0, 0);
    this.request({ frame: shot.toDataURL("image/jpeg", CAMERA.quality).split(",")[1] });
    setTimeout(() => this.ask(), PATIENCE + 100);
  }

  fetchPoster() {
    if (this.data?.source !== "Clip" || this.latest || this.waiting || this.frames[0]) return;
    this.request({ first: 0 });
  }

  fetchAhead() {
    if (!this.playing || (this.waiting && !this.lost)) return;
    for (let step = 0; step < AHEAD * this.data.chunk; step++) {
      const index = (this.shown + step) % this.total;
      if (!this.frames[index]) return this.request({ first: index });
    }
  }

  async tick() {
    if (!this.node.isConnected) return this.stop();
    if (!this.playing || this.data.source === "Camera") return;
    const now = performance.now();
    const frame = this.frames[this.shown];
    if (frame && now >= this.due) {
      const index = this.shown;
      this.shown = (index + 1) % this.total;
      // What came late does not make the rest hurry.
      this.due = Math.max(this.due + this.data.durations[index], now - 100);
      await this.show(frame);
    }
    this.fetchAhead();
    requestAnimationFrame(() => this.tick());
  }

  async show(frame) {
    const [image, map] = await Promise.all([
      decode(frame.image, "image/jpeg"),
      decode(frame.map, "image/png"),
    ]);
    this.latest = { frame, image, map };
    this.blend(this.latest);
    const now = performance.now();
    this.drawn += 1;
    this.times = [...this.times.filter((time) => now - time < WINDOW), now];
    this.tell(frame);
  }

  blend({ image, map }) {
    blend(this.context, image, map, this.tables, this.opacity.value / 100);
  }

  tell(frame) {
    const span = this.times.at(-1) - this.times[0];
    const rate = this.playing && span > 0 ? (1000 * (this.times.length - 1)) / span : 0;
    this.empty.hidden = true;
    this.said.hidden = false;
    this.label.textContent = frame.label;
    const chance = `${(100 * frame.probability).toFixed(0)} %`;
    const other = frame.explained === frame.label ? "" : ` · map for ${frame.explained}`;
    const speed = rate ? ` · ${rate.toFixed(rate < 10 ? 1 : 0)} frames/s` : "";
    this.figure.textContent = `${chance}${other}${speed}`;
    const explained = this.explained ? `explained at ${this.explained.toFixed(0)} frames/s` : "";
    this.rate.textContent = explained;
    this.canvas.setAttribute("aria-label", `Frame with its heatmap for ${frame.explained}`);
    Object.assign(this.node.dataset, { drawn: this.drawn, label: frame.label, rate: rate.toFixed(1) });
  }
}

const players = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  if (!players.has(parentElement)) players.set(parentElement, new Player(parentElement));
  const player = players.get(parentElement);
  player.take(data, (request) => setTriggerValue("request", request));
  return () => {
    players.delete(parentElement);
    player.visible.disconnect();
    player.stop();
    player.holder.remove();
  };
}

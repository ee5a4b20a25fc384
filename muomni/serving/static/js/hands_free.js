// Hands-free: the microphone goes to /v1/realtime all the time; the server finds the turns, answers, and stops when one speaks.

import * as api from "/page/js/api.js";
import { Microphone } from "/page/js/microphone.js";
import { fromBase64, join, toBase64, toFloat, toPcm16 } from "/page/js/pcm.js";
import { Player } from "/page/js/player.js";
import { showLevel } from "/page/js/recording.js";
import { instructions, voice } from "/page/js/settings.js";
import { addMessage, status } from "/page/js/view.js";

const RATE = 24000;

export function handsFreeReady({ model, speaks, onBegin }) {
  const button = document.getElementById("hands-free");
  const player = new Player(RATE);
  let socket, microphone, user, answer, blocks = [], item;

  const send = (event) => { if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(event)); };

  async function begin() {
    onBegin();
    socket = api.realtimeSocket(model);
    socket.onmessage = ({ data }) => receive(JSON.parse(data));
    socket.onclose = () => finish("hands-free has ended");
    socket.onopen = async () => {
      send({ type: "session.update", session: {
        type: "realtime", instructions: instructions(), output_modalities: [speaks() ? "audio" : "text"],
        audio: { input: { transcription: { model } }, output: { voice: voice() } },
      } });
      microphone = new Microphone({ rate: RATE, onBlock: (samples) => {
        showLevel(samples);
        send({ type: "input_audio_buffer.append", audio: toBase64(new Uint8Array(toPcm16(samples).buffer)) });
      } });
      try {
        await microphone.start();
        status("listening: speak");
      } catch (error) {
        finish(`no microphone: ${error.message}`, { error: true });
      }
    };
    button.setAttribute("aria-pressed", "true");
  }

  async function finish(text = "", options = {}) {
    if (!socket) return;
    const closing = socket;
    socket = undefined;
    closing.onclose = null;
    closing.close();
    player.stop();
    await microphone?.stop();
    microphone = undefined;
    showLevel();
    button.setAttribute("aria-pressed", "false");
    status(text, options);
  }

  function receive(event) {
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        if (player.playing && item) {
          send({ type: "conversation.item.truncate", item_id: item, content_index: 0, audio_end_ms: Math.round(player.played) });
        }
        player.stop();
        user = addMessage("user", { text: "..." });
        return status("listening");
      case "input_audio_buffer.speech_stopped":
        return status("thinking");
      case "conversation.item.input_audio_transcription.completed":
        if (user) user.text = event.transcript;
        return undefined;
      case "response.created":
        answer = addMessage("assistant");
        blocks = [];
        player.next();
        return undefined;
      case "response.output_text.delta":
      case "response.output_audio_transcript.delta":
        item = event.item_id;
        return answer?.append(event.delta);
      case "response.output_audio.delta": {
        const pcm = fromBase64(event.delta);
        blocks.push(pcm);
        return player.play(toFloat(pcm));
      }
      case "response.done":
        if (blocks.length) answer?.addSound(join(blocks, Int16Array), RATE, "the answer");
        return status("listening: speak");
      case "error":
        return status(event.error.message, { error: true });
    }
    return undefined;
  }

  button.addEventListener("click", () => (socket ? finish("") : begin()));
}

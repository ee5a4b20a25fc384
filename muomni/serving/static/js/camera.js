// A picture by the camera.

import { attach } from "./attachments.js";
import { status } from "./view.js";

const $ = (id) => document.getElementById(id);

export function cameraReady() {
  const dialog = $("camera-dialog"), view = $("camera-view");
  const release = () => {
    view.srcObject?.getTracks().forEach((track) => track.stop());
    view.srcObject = null;
  };
  $("camera").addEventListener("click", async () => {
    try {
      if (!navigator.mediaDevices?.getUserMedia) throw new Error("browsers allow it on https or localhost only");
      view.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      return status(`no camera: ${error.message}`, { error: true });
    }
    $("camera-take").disabled = true;
    return dialog.showModal();
  });
  view.addEventListener("loadeddata", () => { $("camera-take").disabled = false; $("camera-take").focus(); });
  $("camera-take").addEventListener("click", async () => {
    const canvas = document.createElement("canvas");
    canvas.width = view.videoWidth;
    canvas.height = view.videoHeight;
    canvas.getContext("2d").drawImage(view, 0, 0);
    dialog.close();
    await attach(await new Promise((resolve) => canvas.toBlob(resolve, "image/png")));
  });
  $("camera-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", release);
}

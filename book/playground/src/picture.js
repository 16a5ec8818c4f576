// A picture of the reader's own, to the 32 x 32 pixels that the network sees. It stays on this device.
import { SIZE } from "./network.js";

/** @param {File} file @returns {Promise<Uint8Array>} (32, 32, 3), its middle square. @throws {Error} it is no picture. */
export async function readPicture(file) {
  const bitmap = await createImageBitmap(file);
  const side = Math.min(bitmap.width, bitmap.height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIZE;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillRect(0, 0, SIZE, SIZE); // what is transparent becomes black
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, SIZE, SIZE);
  bitmap.close();
  const { data } = context.getImageData(0, 0, SIZE, SIZE);
  return Uint8Array.from({ length: SIZE * SIZE * 3 }, (_, i) => data[Math.floor(i / 3) * 4 + (i % 3)]);
}

"use strict";
// The colours of the style sheet, for what is drawn, and pictures from text.

const palette = () => {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
};

// H W 3 bytes in base 64 as a canvas of W x H pixels
const decoded = (text, width, height) => {
  const bytes = atob(text), picture = new ImageData(width, height);
  for (let k = 0, m = 0; k < bytes.length; k += 3, m += 4) {
    picture.data[m] = bytes.charCodeAt(k);
    picture.data[m + 1] = bytes.charCodeAt(k + 1);
    picture.data[m + 2] = bytes.charCodeAt(k + 2);
    picture.data[m + 3] = 255;
  }
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
};

// The context of a canvas whose pixels are the screen's, and its size in CSS pixels
const fitted = (canvas) => {
  const box = canvas.getBoundingClientRect(), fine = window.devicePixelRatio || 1;
  const width = Math.max(box.width, 1), height = Math.max(box.height, 1);
  if (canvas.width !== Math.round(width * fine) || canvas.height !== Math.round(height * fine)) {
    canvas.width = Math.round(width * fine);
    canvas.height = Math.round(height * fine);
  }
  const context = canvas.getContext("2d");
  context.setTransform(fine, 0, 0, fine, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
};

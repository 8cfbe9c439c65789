"use strict";
// What both samplers make: a picture, or a T that is pushed.

const drawPicture = (canvas, picture) => {
  const [c, width, height] = fitted(canvas);
  c.imageSmoothingEnabled = picture.width > 16;
  c.imageSmoothingQuality = "high";
  c.drawImage(picture, 0, 0, width, height);
};

// pose: the agent's x and y, the block's x and y and angle
const drawPush = (canvas, world, pose) => {
  const [c, width] = fitted(canvas), colour = palette(), scale = width / world.side;
  c.scale(scale, scale);
  const block = (x, y, angle, fill) => {
    c.save();
    c.translate(x, y);
    c.rotate(angle);
    c.fillStyle = fill;
    for (const polygon of world.block) {
      c.beginPath();
      polygon.forEach(([a, b]) => c.lineTo(a, b));
      c.fill();
    }
    c.restore();
  };
  block(...world.goal, colour("goal"));
  block(pose[2], pose[3], pose[4], colour("block"));
  c.fillStyle = colour("accent");
  c.beginPath();
  c.arc(pose[0], pose[1], world.radius, 0, 2 * Math.PI);
  c.fill();
};

//! The engine's serving code against the simulator, and against itself.

mod calibrate;
mod parity;

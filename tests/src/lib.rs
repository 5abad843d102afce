//! Piecewise tests: replicas in one process, joined by links that lose, cut and delay, all from one seed.

pub mod network;
pub mod rng;

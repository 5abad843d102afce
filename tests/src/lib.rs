//! Piecewise tests: replicas in one process with links that lose, cut and delay, all from one seed; and the
//! real binaries with real files and sockets.

pub mod data;
pub mod hot_paths;
pub mod network;
pub mod process;
pub mod rng;

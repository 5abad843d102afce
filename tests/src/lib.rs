//! Piecewise tests: replicas in one process with links that lose, cut and delay, all from one seed; the real
//! binaries with real files and sockets; and what measures them.

pub mod application;
pub mod client;
pub mod data;
pub mod fuzz;
pub mod hot_feed;
pub mod hot_paths;
pub mod hot_rows;
pub mod http;
pub mod measure;
pub mod network;
pub mod nights;
pub mod numbering;
pub mod page;
pub mod pair;
pub mod process;
pub mod proxy;
pub mod rng;
pub mod schemas;

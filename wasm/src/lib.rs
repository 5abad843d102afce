//! Piecewise in the browser: the same core, the same two methods, on SQLite compiled to WASM.
//!
//! `engine` is the one class that JavaScript sees: a database file with its replica, and its talk with the server.
//! `talk` takes what came over the WebSocket and gives what should leave; the socket itself, storage of keys, tabs and
//! workers belong to the npm package in `npm/`. `live` keeps the results of live queries up to date by what `changes` heard of
//! commits; `shape` says which of them can be brought up to date row by row. `values` crosses between SQL and JavaScript, `describe` makes JSON of what
//! people read, `fault` an error with a code.
#![cfg(all(target_family = "wasm", target_os = "unknown"))]

mod changes;
mod describe;
pub mod engine;
mod fault;
mod live;
mod shape;
mod talk;
mod values;

//! Piecewise core: tables that keep themselves in sync.
//!
//! It only computes: rows that changed, messages, the time and chance come in; messages and rows go out.
//! Its one door to disk is [`store`].

pub mod bytes;
pub mod change;
pub mod id;
pub mod key;
pub mod value;

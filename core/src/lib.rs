//! Piecewise core: tables that keep themselves in sync.
//!
//! It only computes: rows that changed, messages, the time and chance come in; messages and rows go out.
//! Its one door to disk is [`store`]. In reading order:
//!
//! * [`replica`]: one SQLite file. [`container`]: one tracked table, and the two methods through which its
//!   data passes. [`session`]: what it remembers of a talk. [`link`]: one database over one connection.
//!   [`survey`]: many of them. `fan_out`: what many are told alike.
//! * [`segment`]: the little piece that travels; [`frame`] its body. [`feed`] and [`root`]: which segments
//!   a container has. [`ranges`]: how two sets of them are reconciled. [`message`]: what is said.
//!   [`compare`]: a look at the tables themselves.
//! * `capture`: rows become segments. `apply` and `placement`: segments become rows, or are held.
//!   [`scrub`]: tables are checked against their documents. [`numbers`]: rows move whose INTEGER keys two devices gave out.
//! * [`document`]: one row as a set of changes; [`change`] and [`change_codec`] one of them; `history` finds them.
//! * [`work`]: what a segment expands to, and how much of it is taken in.
//! * [`table`], [`description`]: what a table is like. [`key`], [`value`], [`id`], [`bytes`]: the small parts.
//! * [`supervisor_log`]: the signed record of what a server did.
//! * [`identity`], [`handshake`], [`channel`], [`invite`], [`grant`], [`container_name`]: who is there and may do what.

mod apply;
pub mod bytes;
mod capture;
pub mod change;
pub mod change_codec;
pub mod channel;
pub mod compare;
pub mod container;
pub mod container_name;
pub mod description;
pub mod document;
mod fan_out;
pub mod feed;
pub mod frame;
pub mod grant;
pub mod handshake;
mod history;
pub mod id;
pub mod identity;
pub mod invite;
pub mod key;
pub mod link;
pub mod message;
pub mod numbers;
mod placement;
pub mod ranges;
pub mod replica;
pub mod root;
mod row;
pub mod scrub;
pub mod segment;
pub mod session;
pub mod store;
pub mod supervisor_log;
pub mod survey;
pub mod table;
pub mod value;
pub mod work;

//! Saying: lines for people and programs. Nobody who listens, as behind `| head`, ends a command quietly; an output
//! that cannot be written, as on a full disk, ends it with an error.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Writes a line to the output.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::say::line(format_args!($($part)*)) };
}

/// Writes a line to the error output, if anybody listens.
#[macro_export]
macro_rules! tell {
    ($($part:tt)*) => { $crate::say::aside(format_args!($($part)*)) };
}

/// Writes a line to the output; use `say!`.
pub fn line(text: Arguments<'_>) {
    check(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Writes a line to the error output; use `tell!`.
pub fn aside(text: Arguments<'_>) {
    // There is nowhere left to complain.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Ends the program if the output could not be written.
pub fn check(written: std::io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            aside(format_args!("error: the output cannot be written: {error}"));
            std::process::exit(1)
        }
    }
}

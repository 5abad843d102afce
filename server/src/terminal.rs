//! Terminal: how both commands write: options, colours, figures, and errors and notes for people or as JSON.
//!
//! `table` lays out columns, `help` groups commands and shows examples, `manual` makes manual pages and completions.
//! Output goes through `say!` and `tell!`.

pub mod help;
pub mod manual;
mod table;

pub use table::{Table, left, right};

use crate::{say, tell};
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::Args;
use clap::builder::Styles;
use piecewise_core::id::{PeerId, Timestamp};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this process writes JSON; set once, before anything is written.
static JSON: AtomicBool = AtomicBool::new(false);

/// Options that every command has.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Write JSON: results on the output; errors, as {"error","code","hint"}, and notes on the error output, one a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours; `auto` is on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: clap::ColorChoice,
}

/// Parses the command line; ends the process after `--help`, `--version` and wrong arguments.
pub fn parse<T: clap::FromArgMatches>(command: clap::Command, output: impl Fn(&T) -> OutputArgs) -> T {
    let arguments: Vec<_> = std::env::args_os().collect();
    // Read ahead of clap, which writes help and errors while it parses.
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    let color = arguments.windows(2).find(|pair| pair[0] == "--color").map(|pair| pair[1].clone());
    match color.as_deref().and_then(|color| color.to_str()) {
        Some("never") => ColorChoice::Never.write_global(),
        Some("always") => ColorChoice::Always.write_global(),
        _ if has("--color=never") => ColorChoice::Never.write_global(),
        _ if has("--color=always") => ColorChoice::Always.write_global(),
        _ => {}
    }
    JSON.store(has("--json"), Ordering::Relaxed);
    let matched = command.try_get_matches_from(&arguments).and_then(|matches| T::from_arg_matches(&matches));
    match matched {
        Ok(parsed) => {
            JSON.store(output(&parsed).json, Ordering::Relaxed);
            parsed
        }
        Err(wrong) if wrong.use_stderr() && is_json() => {
            let text = wrong.render().to_string();
            let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
            let what = lines.collect::<Vec<_>>().join(" ");
            error(what.trim_start_matches("error: "), Some("--help lists the arguments"), "usage");
            std::process::exit(wrong.exit_code())
        }
        Err(wrong) => wrong.exit(),
    }
}

/// Whether JSON is written.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Writes a result: as JSON, or in the words that `people` writes.
pub fn result(value: impl FnOnce() -> Value, people: impl FnOnce()) {
    match is_json() {
        true => say!("{:#}", value()),
        false => people(),
    }
}

/// Writes an error to the error output, with what to do about it and its code.
pub fn error(message: &str, hint: Option<&str>, code: &str) {
    if is_json() {
        return tell!("{}", json!({ "error": message, "code": code, "hint": hint }));
    }
    tell!("{} {message}", label("error:", ERROR));
    if let Some(hint) = hint {
        tell!("{} {hint}", label("hint:", HINT));
    }
}

/// Writes a note to the error output.
pub fn note(text: &str) {
    match is_json() {
        true => tell!("{}", json!({ "note": text })),
        false => tell!("{} {text}", label("note:", NOTE)),
    }
}

/// Writes what happens to the error output while a command goes on.
pub fn news(text: &str) {
    match is_json() {
        true => tell!("{}", json!({ "note": text })),
        false => tell!("{text}"),
    }
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default().bold();

/// Styles of `--help`.
pub const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default())
    .error(ERROR);

fn label(text: &str, style: Style) -> String {
    if has_colors(&std::io::stderr()) { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// Whether colours are shown on a stream.
pub fn has_colors(stream: &impl anstream::stream::RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// What a part of the output is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A title of a column or a label.
    Title,
    /// As it should be.
    Good,
    /// Somebody may want to look.
    Fair,
    /// Somebody has to look.
    Bad,
}

/// A part of the output, in colour where colours are shown.
pub fn paint(tone: Tone, text: &str) -> String {
    let style = match tone {
        Tone::Title => Style::new().bold(),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Fair => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default().bold(),
    };
    if has_colors(&std::io::stdout()) { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// Writes lines of a label and what it stands for, in two columns.
pub fn labelled(lines: &[(&str, String)]) {
    let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, text) in lines {
        let gap = " ".repeat(width - label.len());
        say!("{}{gap}  {text}", paint(Tone::Title, label));
    }
}

/// A number, its thousands separated.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let separated = digits.bytes().enumerate().flat_map(|(at, digit)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([char::from(digit)])
    });
    separated.collect()
}

/// A number with a word that fits it.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// Bytes, in units of 1000.
pub fn bytes(n: u64) -> String {
    let (mut value, mut unit) = (n as f64, "");
    for next in ["k", "M", "G", "T", "P"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let decimals = usize::from(!unit.is_empty() && value < 99.95);
    format!("{value:.decimals$} {unit}B")
}

/// A span of time in its largest unit.
pub fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", number(seconds / 86_400)),
    }
}

/// A time as RFC 3339 in UTC, to the millisecond.
pub fn time(time: Timestamp) -> String {
    humantime::format_rfc3339_millis(crate::system_time(time)).to_string()
}

/// A text from elsewhere as it may be shown: control characters, which move a terminal's cursor, are written out.
pub fn shown(text: &str) -> String {
    let letter = |c: char| match c.is_control() {
        true => c.escape_debug().collect::<String>(),
        false => c.to_string(),
    };
    text.chars().map(letter).collect()
}

/// A device, by its name if it has one.
pub fn device(key: &PeerId, name: Option<&str>) -> String {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => format!("{} ({})", shown(name), key.short()),
        None => key.short(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_one_form() {
        let numbers = [0, 7, 999, 1000, 12_345, 1_000_000].map(number);
        assert_eq!(numbers, ["0", "7", "999", "1,000", "12,345", "1,000,000"]);
        let sizes = [0, 999, 1000, 1234, 99_940, 99_960, 999_600, 1_000_000, 22_900_000, 5_000_000_000];
        let texts = [
            "0 B", "999 B", "1.0 kB", "1.2 kB", "99.9 kB", "100 kB", "1.0 MB", "1.0 MB", "22.9 MB", "5.0 GB",
        ];
        assert_eq!(sizes.map(bytes), texts);
        assert_eq!(
            (count(1, "row", "rows"), count(2000, "row", "rows")),
            ("1 row".into(), "2,000 rows".into())
        );
        assert_eq!([119, 120, 7200, 172_800].map(ago), ["119 s", "2 min", "2 h", "2 days"]);
    }

    #[test]
    fn nothing_that_is_shown_moves_the_cursor() {
        assert_eq!(shown("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(shown("Grüße"), "Grüße");
    }
}

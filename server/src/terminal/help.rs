//! Help: a command's list of subcommands in groups, and examples below the help of each.

use super::STYLES;
use clap::Command;
use std::fmt::Write as _;

/// Subcommands that belong together.
#[derive(Debug)]
pub struct Group {
    /// What they have in common.
    pub title: &'static str,
    /// Their names, each with examples.
    pub commands: &'static [(&'static str, &'static [&'static str])],
}

/// A command whose help lists its subcommands in groups, each with its examples.
pub fn grouped(command: Command, groups: &[Group]) -> Command {
    let header = STYLES.get_header();
    let mut list = String::new();
    for group in groups {
        let _ = writeln!(list, "\n{header}{}:{header:#}", group.title);
        let names = || group.commands.iter().map(|(name, _)| *name);
        for name in names() {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let literal = STYLES.get_literal();
            let _ = writeln!(list, "  {literal}{name:<14}{literal:#} {}", about.trim_end_matches('.'));
        }
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{list}\n{header}Options:{header:#}\n{{options}}{{after-help}}"
    );
    let all = groups.iter().flat_map(|group| group.commands);
    let command = all.fold(command, |command, (name, examples)| {
        let text = format!("{header}Examples:{header:#}\n  {}", examples.join("\n  "));
        command.mut_subcommand(name, |subcommand| match examples.is_empty() {
            true => subcommand,
            false => subcommand.after_long_help(text),
        })
    });
    command.styles(STYLES).help_template(template)
}

/// Fails unless each subcommand is in one group and each example can be parsed; for tests.
pub fn check(command: &Command, groups: &[Group]) {
    let mut grouped: Vec<_> = groups.iter().flat_map(|g| g.commands.iter().map(|(name, _)| *name)).collect();
    let mut all: Vec<_> = command.get_subcommands().map(Command::get_name).filter(|n| *n != "help").collect();
    grouped.sort_unstable();
    all.sort_unstable();
    assert_eq!(grouped, all, "each subcommand is in one group");
    for example in groups.iter().flat_map(|group| group.commands).flat_map(|(_, examples)| *examples) {
        // What stands before and behind is the shell's: a pipe, a redirection.
        let line = example.split(['|', '<', '>', '&']).next().unwrap_or_default();
        let words = words(line);
        assert_eq!(words.first().map(String::as_str), Some(command.get_name()), "{example}");
        if let Err(error) = command.clone().try_get_matches_from(&words) {
            panic!("{example}: {error}");
        }
    }
}

/// The words of a line of shell, with quotes around some.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![], None);
    let mut word: Option<String> = None;
    for letter in line.chars() {
        match (letter, quote) {
            (' ', None) => words.extend(word.take()),
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(open)) if letter == open => quote = None,
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

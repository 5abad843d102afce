//! Help: the commands in groups, each with examples.

use crate::args::Cli;
use clap::CommandFactory;
use piecewise_server::terminal::help::{self, Group};

const GROUPS: &[Group] = &[
    Group {
        title: "Begin",
        commands: &[
            (
                "join",
                &["piecewise join piecewise1-…", "piecewise join --address wss://sync.example.org < invite"],
            ),
            (
                "track",
                &[
                    "piecewise track app.db todos --as shop",
                    "piecewise track app.db --all --as shop",
                    "piecewise track app.db notes --text notes.body --counter notes.votes",
                ],
            ),
            (
                "clone",
                &[
                    "piecewise clone shop phone.db",
                    "piecewise clone 'tenant*' tenants --server wss://sync.example.org",
                ],
            ),
            (
                "untrack",
                &["piecewise untrack app.db todos", "piecewise untrack app.db --all --leave-held held.json"],
            ),
        ],
    },
    Group {
        title: "Sync",
        commands: &[
            ("sync", &["piecewise sync app.db", "piecewise sync tenants", "piecewise sync app.db --json"]),
            (
                "watch",
                &[
                    "piecewise watch app.db",
                    "piecewise watch app.db --every 5s",
                    "piecewise watch tenants --json",
                ],
            ),
            ("wait", &["piecewise wait app.db", "piecewise wait tenants --timeout 60"]),
        ],
    },
    Group {
        title: "Look",
        commands: &[
            ("status", &["piecewise status app.db", "piecewise status tenants --json"]),
            (
                "history",
                &[
                    "piecewise history app.db todos 7",
                    "piecewise history app.db todos 7 --log",
                    "piecewise history app.db pairs a,1",
                ],
            ),
            ("compare", &["piecewise compare app.db", "piecewise compare app.db todos --json"]),
            ("check", &["piecewise check app.db"]),
        ],
    },
    Group {
        title: "Decide",
        commands: &[
            (
                "conflicts",
                &[
                    "piecewise conflicts app.db",
                    "piecewise conflicts choose app.db todos 7 1 --column title",
                    "piecewise conflicts choose app.db todos 7 1 --as-new-row",
                ],
            ),
            (
                "held",
                &[
                    "piecewise held app.db",
                    "piecewise held choose app.db users 7",
                    "piecewise held edit app.db users 7 email=ann@example.org",
                    "piecewise held discard app.db users 7",
                ],
            ),
            (
                "refused",
                &[
                    "piecewise refused app.db",
                    "piecewise refused retry app.db",
                    "piecewise refused revert app.db",
                ],
            ),
        ],
    },
    Group {
        title: "Servers",
        commands: &[
            ("identity", &["piecewise identity", "piecewise identity --json"]),
            ("forget", &["piecewise forget wss://sync.example.org"]),
            ("admin", &["piecewise admin", "piecewise admin app.db"]),
            (
                "log",
                &[
                    "piecewise log status",
                    "piecewise log check app.db",
                    "piecewise log verify export --key \"$KEY\"",
                ],
            ),
        ],
    },
    Group {
        title: "For programs",
        commands: &[
            ("types", &["piecewise types app.db > tables.ts"]),
            ("completions", &["piecewise completions bash > /etc/bash_completion.d/piecewise"]),
            ("man", &["piecewise man | man -l -", "piecewise man --all man1"]),
        ],
    },
];

/// The command line.
pub(crate) fn command() -> clap::Command {
    help::grouped(Cli::command(), GROUPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_examples_are_too() {
        command().debug_assert();
        help::check(&command(), GROUPS);
    }
}
